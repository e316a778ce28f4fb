"""S3 as workspaces and releases need it: `s3fs`, of which every failure is a sentence.

What the service or the network refuses is an `OSError` with the object's address, and of the family that
programs print in one line. Listings are never remembered, since others write there too; buckets are never
made. Requests that fail for a passing reason (5xx, SlowDown, a connection that breaks) are sent again by
botocore and s3fs, some 25 times within a minute.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from aiohttp import ClientError as ConnectionBroken
from botocore.exceptions import BotoCoreError, NoCredentialsError
from fsspec.asyn import sync_wrapper
from fsspec.spec import AbstractBufferedFile
from s3fs import S3FileSystem

from phq_data.errors import ForbiddenError, ObjectStoreError

Answer = TypeVar("Answer")
SETTLE = 1.0
"""Seconds in which another's put may follow, where a service has no conditional ones."""


class S3(S3FileSystem):
    """The file system of `s3://bucket/key`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"use_listings_cache": False, **options})

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        where = "/".join(filter(None, (kwargs.get("Bucket"), kwargs.get("Key") or kwargs.get("Prefix"))))
        return await _told(super()._call_s3(method, *args, **kwargs), where)

    call_s3 = sync_wrapper(_call_s3)

    async def _cat_file(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return await _told(super()._cat_file(path, *args, **kwargs), path)

    async def _get_file(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return await _told(super()._get_file(path, *args, **kwargs), path)

    async def _mkdir(self, path: str, *args: Any, **kwargs: Any) -> None:
        """Nothing: an object store has no folders, and a bucket that is gone is not made anew."""

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing, as `_mkdir`."""

    def put_if(self, path: str, data: bytes, version: str | None) -> str | None:
        """Write an object if it is still of `version`, an ETag (None: if there is none); its new version.

        None when it is of another version. At a service without conditional puts its version is looked at
        before and, `SETTLE` seconds later, after.
        """
        bucket, key, _ = self.split_path(path)
        asked = {"Bucket": bucket, "Key": key, "Body": data}
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        try:
            return str(self.call_s3("put_object", **asked, **condition)["ETag"])
        except OSError as error:
            code = _code(error)
            if code == "NotImplemented":
                return self._put_seen(path, asked, version)
            if code in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
                return None
            raise

    def _put_seen(self, path: str, asked: dict[str, Any], version: str | None) -> str | None:
        if self._version(path) != version:
            return None
        written = str(self.call_s3("put_object", **asked)["ETag"])
        time.sleep(SETTLE)
        return written if self._version(path) == written else None

    def _version(self, path: str) -> str | None:
        try:
            return str(self.info(path).get("ETag", ""))
        except FileNotFoundError:
            return None

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, *args, **kwargs)
        # Its ranges go through `_cat_file`; those of s3fs's own files do not.
        return AbstractBufferedFile(self, self._strip_protocol(path), mode, *args, **kwargs)


async def _told(answer: Awaitable[Answer], where: str) -> Answer:
    """The answer to a request about `where` (bucket/key), or an `ObjectStoreError`."""
    try:
        return await answer
    except ObjectStoreError:
        raise
    except (FileNotFoundError, FileExistsError) as error:
        if _code(error) == "NoSuchBucket":
            bucket = where.partition("/")[0]
            raise ObjectStoreError(f"there is no bucket {bucket}: make it, or name another") from error
        raise
    except PermissionError as error:
        raise ForbiddenError(
            f"no rights at s3://{where} ({error}): check the credentials and their policy"
        ) from error
    except NoCredentialsError as error:
        raise ForbiddenError(
            f"no credentials for s3://{where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except (OSError, BotoCoreError, ConnectionBroken) as error:
        reason = str(error) or type(error).__name__
        raise ObjectStoreError(f"s3://{where} did not answer as it should: {reason}") from error


def _code(error: BaseException | None) -> str:
    """The service's code of what went wrong; "" where it said nothing."""
    while error is not None and not hasattr(error, "response"):
        error = error.__cause__
    return str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))

"""An S3 service on this machine (moto's), of which requests fail, wait or break off as told.

The fixture `s3` gives a bucket of its own to every test, and sets the environment so that `s3://` means this
service, in this process and in those that it starts.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest

_NUMBERS = itertools.count(1)
_CODES = {
    403: ("403 Forbidden", "AccessDenied"),
    404: ("404 Not Found", "NoSuchBucket"),
    500: ("500 Internal Server Error", "InternalError"),
    503: ("503 Slow Down", "SlowDown"),
}


@dataclass(frozen=True)
class Request:
    """What was asked of the service."""

    method: str  # GET, PUT, HEAD, DELETE, POST
    path: str  # /bucket/key
    query: str


@dataclass(frozen=True)
class Fault:
    """What becomes of a request."""

    status: int = 0  # 403, 404 (the bucket is gone), 500 or 503 instead of an answer
    pause: float = 0.0  # seconds before it is worked on
    reset: bool = False  # the connection breaks, the request was not worked on
    lost: bool = False  # the request was worked on, and the connection breaks before the answer
    cut: bool = False  # the connection breaks within the answer


@dataclass
class Service:
    """The service, with its faults: a function of every `Request`, or None."""

    endpoint: str = ""
    fault: Callable[[Request], Fault | None] | None = None
    requests: list[Request] = field(default_factory=list)
    fs: Any = None  # an fsspec file system that sees what is there, past all caches

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which S3 clients find the service; the credentials are made up."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }  # fmt: skip

    def wrapped(self, application: Any) -> Any:
        """A WSGI application that passes on to `application` what no fault befalls."""

        def answer(environ: dict[str, Any], start: Any) -> Any:
            request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
            self.requests.append(request)
            fault = (self.fault and self.fault(request)) or Fault()
            time.sleep(fault.pause)
            if fault.reset:
                return _broken(environ)
            if fault.status:
                line, code = _CODES[fault.status]
                text = f"<Error><Code>{code}</Code><Message>{code} as told</Message></Error>"
                body = text.encode() if request.method != "HEAD" else b""
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start(line, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
            if fault.lost:
                b"".join(application(environ, lambda *unused: None))
                return _broken(environ)
            if fault.cut:
                return _half(application(environ, start), environ)
            return application(environ, start)

        return answer


def _half(answer: Any, environ: dict[str, Any]) -> Iterator[bytes]:
    whole = b"".join(answer)
    yield whole[: len(whole) // 2]
    _broken(environ)


def _broken(environ: dict[str, Any]) -> list[bytes]:
    connection = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("as told")


@contextmanager
def serving() -> Iterator[Service]:
    """The service, while the block lasts. It starts within about two seconds; nothing leaves loopback."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:
            """Say nothing."""

        def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
            self.close_connection = True

    service = Service()
    application = service.wrapped(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    service.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Bucket:
    """A bucket of the service, empty at first."""

    service: Service
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def keys(self, below: str = "") -> list[str]:
        """The keys of all objects, or of those below a folder, ascending."""
        found = self.service.fs.find(f"{self.name}/{below}".rstrip("/"))
        return sorted(str(path).removeprefix(f"{self.name}/") for path in found)


@contextmanager
def bucket_of(service: Service) -> Iterator[Bucket]:
    """A new bucket, and an environment in which `s3://` means its service."""
    from phq_data.object_store import S3

    with patch.dict(os.environ, service.environment):
        S3.clear_instance_cache()  # it knows what the environment said before: service, attempts
        if service.fs is None:
            service.fs = S3()
        bucket = Bucket(service, f"bucket-{os.getpid()}-{next(_NUMBERS)}")
        service.fs.call_s3("create_bucket", Bucket=bucket.name)
        try:
            yield bucket
        finally:
            service.fault = None
            service.requests.clear()


@pytest.fixture(scope="session")
def s3_service() -> Iterator[Service]:
    """One S3 service for all tests of this process."""
    pytest.importorskip("moto", reason="the S3 service of these tests is moto's: make setup")
    pytest.importorskip("s3fs", reason="phq-data[s3] is not installed: make setup")
    with serving() as service:
        yield service


@pytest.fixture
def s3(s3_service: Service) -> Iterator[Bucket]:
    """A bucket of this test's own."""
    with bucket_of(s3_service) as bucket:
        yield bucket


@pytest.fixture(scope="module")
def s3_module(s3_service: Service) -> Iterator[Bucket]:
    """A bucket that the tests of a module share."""
    with bucket_of(s3_service) as bucket:
        yield bucket

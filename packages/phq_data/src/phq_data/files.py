"""Files: SHA-256, what people wrote, safetensors, writing whole or not at all; which file system is meant."""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from phq_data.errors import PhqError

TEMPORARY = ".tmp-"
"""How the names of files in the making begin; what a killed program left of them may be deleted."""


class OutputError(PhqError, OSError):
    """A file that cannot be written; the message names it and says why. `errno` is the system's."""


def file_system(url: str | Path) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a folder or fsspec URL, and the path in it.

    What is no URL is a path of this machine, also `2024::01`, which fsspec would take for a chain of URLs.
    Of a file system far away no listing is remembered: others write there, too. Raises `ValueError` or
    `ImportError` for a URL of no file system that is installed.
    """
    text = str(url)
    if "://" not in text or text.startswith("file://"):
        return LocalFileSystem(), str(LocalFileSystem._strip_protocol(text))
    if text.startswith(("s3://", "s3a://")):
        try:
            from phq_data.object_store import S3
        except ImportError as error:
            raise ImportError(f"{text} needs s3fs: pip install 'phq-data[s3]' ({error})") from error
        return S3(), str(S3._strip_protocol(text)).rstrip("/")
    fs, root = fsspec.core.url_to_fs(text, use_listings_cache=False)
    return fs, str(root)


def file_sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file. Raises `OSError`."""
    with Path(path).open("rb") as stream:
        return stream_sha256(stream)


def stream_sha256(stream: BinaryIO) -> str:
    """Hex SHA-256 of what is left to read of a binary stream."""
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, to write to. On success it is flushed to the disk and
    renamed to `path`; on any error it is removed, and `path` is as before.

    Raises `OutputError` when the folder or the disk does not take the file.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        if path.parent.is_file():  # what mkdir says then, "File exists", would mislead
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, PhqError):
            refused = OutputError(f"cannot write {path}: {error.strerror or error}")
            refused.errno = error.errno
            raise refused from error
        raise


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[None]:
    """Make a folder to write to. What it and its parents did not exist before is gone again when that fails,
    as far as nothing lies in it. Raises `OSError`.
    """
    path = Path(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in made:  # from the innermost
                folder.rmdir()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` whole or not at all, as `writing` does."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_at(place: str | Path, data: bytes) -> None:
    """Write a file at a path or fsspec URL whole or not at all. Raises `OutputError`."""
    try:
        fs, path = file_system(place)
        if not isinstance(fs, LocalFileSystem):
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(path, data)
            return
    except (OSError, ValueError, ImportError) as error:
        raise OutputError(f"cannot write {place}: {error}") from error
    with writing(path) as temporary:
        temporary.write_bytes(data)


def read_tensors(
    path: str | Path, refuse: type[Exception], missing: str, framework: str = "numpy"
) -> tuple[dict[str, str], dict[str, Any]]:
    """(metadata, tensors by name) of a safetensors file; `framework` is "numpy" or "pt".

    Raises `refuse`: with the text `missing` where there is no file, else saying what is wrong with it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework=framework) as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise refuse(missing) from None
    except (SafetensorError, OSError) as error:
        raise refuse(f"{path} is not a readable safetensors file: {error}") from error


def read_written_text(path: str | Path) -> str:
    """The text of a file that a person wrote, without a byte-order mark.

    Raises `OSError`, and `UnicodeDecodeError` (a `ValueError`) for what `written_encoding` is wrong about.
    """
    return Path(path).read_text(encoding=written_encoding(path))


def written_encoding(path: str | Path) -> str:
    """The encoding of a file that a person wrote: UTF-8, with a byte-order mark or not, or UTF-16 with one.

    Editors of Windows begin a file with such a mark, and its PowerShell writes UTF-16. Raises `OSError`.
    """
    with Path(path).open("rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if wide else "utf-8-sig"


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets a folder be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Files on this machine: the SHA-256 of one, writing one whole or not at all, reading safetensors."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from phq_data.errors import PhqError

TEMPORARY = ".tmp-"
"""How the names of files in the making begin; what a killed program left of them may be deleted."""


class OutputError(PhqError, OSError):
    """A file that cannot be written; the message names it and says why. `errno` is the system's."""


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


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` whole or not at all, as `writing` does."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets a folder be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

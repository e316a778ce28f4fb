"""Where photos come from: every source lists files with their provenance, and hands over their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from phq_data.errors import PhqError
from phq_data.records import Provenance as Provenance


def is_web_address(text: str | None) -> bool:
    """Is `text` an http or https address with a host, in one piece?"""
    try:
        parts = urlsplit(text or "")
    except ValueError:
        return False
    plain = text is not None and text.isprintable() and " " not in text
    return plain and parts.scheme.lower() in ("http", "https") and bool(parts.netloc)


class SourceError(PhqError, ValueError):
    """A source that does not exist or cannot be listed; the message says what to do."""


class RefusedFileError(PhqError, OSError):
    """A file that could be read and is not taken; `reason` is a short stable word for the ledger."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, before anybody looked inside."""

    uri: str  # unique and stable: file:///..., sample:astronaut.png, synthetic:20@0#7
    size: int = -1  # bytes; -1 = unknown
    mtime_ns: int = -1  # -1 = the source has none
    provenance: Provenance = field(default_factory=Provenance)


class Source(Protocol):
    """A place that photos come from."""

    provider: str  # folder, samples, synthetic, ...
    spec: str  # what the user wrote

    def files(self) -> Iterator[SourceFile]:
        """Every file, in an order that does not depend on the file system."""
        ...

    def open(self, file: SourceFile) -> BinaryIO:
        """The bytes of a file. Raises `OSError`; `RefusedFileError` for one that is not to be taken."""
        ...

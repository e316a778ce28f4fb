"""Names that come from outside, made fit to be shown."""

from __future__ import annotations

from urllib.parse import unquote


def printable(text: str) -> str:
    """`text` without characters that would drive a terminal or turn the direction of writing."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def file_name(uri: str) -> str:
    """The last part of where a photo came from, for people."""
    return printable(unquote(uri.rstrip("/").rpartition("/")[2]) or uri)

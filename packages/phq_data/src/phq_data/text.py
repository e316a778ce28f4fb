"""Names that come from outside: what a file is called, and what is fit to be shown."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit


def printable(text: str) -> str:
    """`text` without characters that would drive a terminal or turn the direction of writing."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def file_name(uri: str) -> str:
    """The file name at the end of an address, exactly: what tables of files are searched by."""
    return unquote(urlsplit(uri).path).rsplit("/", 1)[-1]


def shown_name(uri: str) -> str:
    """The last part of where a photo came from, for people."""
    return printable(unquote(uri.rstrip("/").rpartition("/")[2]) or uri)


def suggestion(name: str, known: Sequence[str]) -> str:
    """For somebody who wrote `name`: the nearest of the `known` names, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"

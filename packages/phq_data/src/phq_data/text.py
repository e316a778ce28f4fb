"""Text that comes from outside: what a file is called, what is fit to be shown, how it is written where."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote, urlsplit

_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
"""What formulas begin with in spreadsheets, the full-width signs of East Asian keyboards among them."""
_LEADING = re.compile(f"[{_SIGNS}\t\r']")
_BEGIN = r"(^\s+|[;|\t\n\r][^\S\t\n\r]*)"
"""Where a cell begins for a spreadsheet that divides at other characters than we do: behind the last of them,
so that a long row of them is not looked through once for each."""
_WITHIN = re.compile(f"{_BEGIN}('*[{_SIGNS}])")
_WRITTEN = re.compile(f"{_BEGIN}'('*[{_SIGNS}])")
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~!&]")


def markdown(text: str) -> str:
    """`text` as one line of Markdown (also in a table, also with HTML in it) that shows it as it is."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def spreadsheet_cell(text: str) -> str:
    """`text` as a cell of a CSV file: with an apostrophe before everything that would be run as a formula."""
    within = _WITHIN.sub(r"\1'\2", text)
    return f"'{within}" if _LEADING.match(within) else within


def from_spreadsheet_cell(cell: str) -> str:
    """The text that `spreadsheet_cell` made a cell of."""
    within = cell[1:] if cell[:1] == "'" and _LEADING.match(cell[1:]) else cell
    return _WRITTEN.sub(r"\1\2", within)


def some_of(names: Iterable[object], most: int = 5) -> str:
    """The first of `names`, each at most 80 letters long, and how many more there are; "nothing" of none."""
    listed = list(names)
    shown = ", ".join(
        printable(f"{name:.80}" if isinstance(name, str) else f"{name!r:.80}") for name in listed[:most]
    )
    return f"{shown} and {len(listed) - most:,} more" if len(listed) > most else shown or "nothing"


def wildcard(pieces: Sequence[str]) -> re.Pattern[str]:
    """A pattern for whole texts that hold `pieces`, regular expressions of a fixed length, in this order with
    anything between them. Each is taken where it first fits and never again elsewhere: a pattern of many
    pieces would else try them in all combinations.
    """
    first, *inner = pieces
    last = f".*{inner.pop()}" if inner else ""
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in inner) + last, re.DOTALL)


def printable(text: str) -> str:
    """`text` without characters that would drive a terminal or turn the direction of writing."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def file_name(uri: str) -> str:
    """The file name at the end of an address, exactly: what tables of files are searched by."""
    return unquote(urlsplit(uri).path).rsplit("/", 1)[-1]


def shown_name(uri: str) -> str:
    """The last part of where a photo came from, for people."""
    return printable(unquote(uri.rstrip("/").rpartition("/")[2]) or uri)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 photo`, `1,200 photos`: a number with what it counts."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """A time for people: `4.2 s`, `12 min`, `3.5 h`; a dash for none."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def suggestion(name: str, known: Sequence[str]) -> str:
    """For somebody who wrote `name`: the nearest of the `known` names, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"

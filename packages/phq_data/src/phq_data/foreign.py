"""Files that others made: whatever a damaged or crafted one raises as one sentence, and strict JSON."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

from phq_data.errors import PhqError

DEEPEST = 64
"""Levels of lists and objects within each other; our deepest file has nine."""
LARGEST_MEMBER = 1 << 28
"""Bytes of one file in a zip: a picture, or the labels of a million portraits."""
_DIGITS = sys.float_info.max_10_exp  # of a whole number; its sign counts as one


class JsonError(PhqError, ValueError):
    """Text that is no JSON as the standard has it; half a sentence."""


@contextlib.contextmanager
def reading(where: object, kind: type[PhqError], advice: str) -> Iterator[None]:
    """Whatever a reader raises over the bytes of `where` as a `kind`: what is wrong, in which file, `advice`.

    Only for code that reads. A damaged or crafted file makes libraries fail in any way (Arrow's,
    `BadZipFile`, `LZMAError`, `struct.error`, ...), so every class counts. A missing file and what is a
    `PhqError` already pass.
    """
    try:
        yield
    except (PhqError, FileNotFoundError):
        raise
    except MemoryError as error:
        raise kind(f"{where} asks for more memory than there is: {advice}") from error
    except RecursionError as error:
        raise kind(f"{where} is damaged (nested too deeply): {advice}") from error
    except OSError as error:
        raise kind(f"{where} cannot be read ({error.strerror or first_line(error)}): {advice}") from error
    except Exception as error:
        raise kind(f"{where} is damaged ({first_line(error)}): {advice}") from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 letters; the name of its class where it says nothing."""
    lines = str(error).strip().splitlines()
    said = f"{lines[0].rstrip('.')}" if lines else ""
    if isinstance(error, KeyError):
        said = f"it lacks {said}"
    return said[:200] or type(error).__name__


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """The values of a JSON text; numbers are finite, and nothing lies deeper than `DEEPEST`.

    `finite=False` leaves it to the caller to find NaN and Infinity, who can say of which photo they are.

    Python's own reader also takes NaN and Infinity, which JSON does not know, and ends with a traceback where
    values are nested a thousand times. Raises `JsonError`.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        strict: Any = {"parse_constant": _no_number, "parse_float": _finite} if finite else {}
        found = json.loads(text, parse_int=_whole, **strict)
        _check_depth(found)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(f"its values are nested deeper than {DEEPEST} levels") from None
    except ValueError as error:  # of the syntax, the encoding, or a number of thousands of digits
        raise JsonError(first_line(error)) from error
    return found


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML text. Raises `ValueError`: `tomllib.TOMLDecodeError`, and for deep nesting."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("its values are nested too deeply") from None


def read_member(archive: ZipFile, name: str, most: int = LARGEST_MEMBER) -> bytes:
    """One file of a zip, after a look at the size that it states. Raises `BadZipFile` and `KeyError`."""
    stated = archive.getinfo(name).file_size
    if stated > most:
        raise BadZipFile(f"{name} states {stated:,} bytes, more than the {most:,} that are read")
    try:
        return archive.read(name)
    except (OSError, BadZipFile):
        raise
    except Exception as error:  # every codec has errors of its own: zlib's, LZMA's, an unknown method
        raise BadZipFile(f"{name}: {first_line(error)}") from error


def check_stored(file: str | Path | BinaryIO) -> None:
    """Raise `BadZipFile` where a file of `torch.save` would unpack to more bytes than it has.

    It is a zip whose members are stored as they are; torch's reader would unpack packed ones, too. What is no
    zip passes: the older form of these files packs nothing.
    """
    with Path(file).open("rb") if isinstance(file, str | Path) else contextlib.nullcontext(file) as stream:
        stream.seek(0)
        if stream.read(4) == b"PK\3\4":
            with ZipFile(stream) as archive:
                members = archive.infolist()
            size = stream.seek(0, 2)
            if any(one.compress_type for one in members) or sum(one.file_size for one in members) > size:
                raise BadZipFile("its tensors are packed, and PyTorch packs none")
        stream.seek(0)


def _no_number(text: str) -> float:
    raise JsonError(f"it holds {text}, which is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError(f"it holds {text[:20]}, which is beyond all numbers")
    return value


def _whole(text: str) -> int:
    """A whole number that `float` can hold."""
    value = int(text)
    if len(text) > _DIGITS:
        raise JsonError(f"it holds {text[:20]}..., which is beyond all numbers")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise JsonError(f"its values are nested deeper than {DEEPEST} levels")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return []
    return [inner for inner in value if isinstance(inner, dict | list)]

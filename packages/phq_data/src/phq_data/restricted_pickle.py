"""Pickles that others made, read without running what is in them.

A pickle is a program that may call whatever it names. Here the caller says what each name stands for, and
every other name ends the reading; objects become `StandIn`s that keep what was put into them. The bytes are
interpreted by the standard library's `Unpickler` in its Python form, because its C form believes a file's
claims (a gap in its memory of objects, a table's key whose hash takes for ever). Here operations are counted,
keys of tables are texts and small whole numbers (a table of large ones that are chosen to have one hash takes
time by the square of its size), and only stand-ins take a state.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Self

from phq_data.errors import PhqError

MOST_KEY = 2**32
"""Of whole numbers that are keys: a number below 2**61 - 1 is its own hash."""
MOST_STEPS = 1_000_000
"""Operations of a pickle; SMPL's file has a few thousand, a checkpoint of a generator some ten thousand."""

Find = Callable[[str, str], Callable[..., Any]]
"""What a module's name stands for: something that may be called with what the file gives it, and does nothing
but keep it. Raises `RefusedError` for names that have no business there."""


class RefusedError(PhqError, ValueError):
    """A pickle that asks for more than data; half a sentence."""


class DamagedError(PhqError, ValueError):
    """Bytes that are no whole pickle; half a sentence."""


class StandIn:
    """What is kept of an object whose class is not loaded: its class's name, arguments, state and items."""

    origin = ""  # module and name of the class that the file asked for

    arguments: tuple[Any, ...]
    state: dict[str, Any]
    items: dict[Any, Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """`__new__` has done it: pickles make objects without `__init__`, too."""

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Any arguments are kept."""
        made = super().__new__(cls)
        made.arguments = (*arguments, *named.values())
        made.state = {}
        made.items = {}
        return made

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.state.update(part)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """An element of a list-like object."""
        self.items[len(self.items)] = value

    def extend(self, values: list[Any]) -> None:
        """Elements of a list-like object."""
        for value in values:
            self.append(value)


def stand_in(origin: str) -> type[StandIn]:
    """The class of stand-ins for objects of the class `origin`."""
    return type("StandIn", (StandIn,), {"origin": origin})


def _nothing_outside(pid: Any) -> Any:
    raise RefusedError("it refers to data outside the file; was it saved with torch.save?")


def read(
    data: bytes | BinaryIO,
    find: Find,
    most_steps: int = MOST_STEPS,
    outside: Callable[[Any], Any] = _nothing_outside,
) -> Any:
    """What the pickle holds, with `find`'s objects in the place of all others; texts of Python 2 as Latin-1.

    A set becomes a list, a bytearray bytes. Of a stream the next pickle is read. `outside` says what a
    reference to data outside the pickle stands for. Raises `RefusedError` or `DamagedError`.
    """
    if isinstance(data, bytes) and data[:2] == b"PK":
        raise DamagedError("it is a zip archive, as PyTorch's checkpoints are")
    try:
        stream = io.BytesIO(data) if isinstance(data, bytes) else data
        return _Reader(stream, find, most_steps, outside).load()
    except PhqError:
        raise
    except RecursionError:
        raise DamagedError("objects are nested too deeply") from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise DamagedError(f"{type(error).__name__}: {error}") from error


class _Reader(pickle._Unpickler):
    def __init__(self, stream: BinaryIO, find: Find, most_steps: int, outside: Callable[[Any], Any]) -> None:
        super().__init__(stream, encoding="latin1")
        self._find = find
        self._outside = outside
        self.dispatch = _Steps(_OPERATIONS, most_steps)  # type: ignore[misc] # one count a pickle

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for."""
        return self._find(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """What lies outside the pickle."""
        return self._outside(pid)


class _Steps(dict[int, Callable[[Any], None]]):
    """Operations by their code, so many times."""

    def __init__(self, operations: dict[int, Callable[[Any], None]], most: int) -> None:
        super().__init__(operations)
        self._most = self._left = most

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self._left -= 1
        if self._left < 0:
            raise RefusedError(f"it has more than {self._most:,} steps")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise RefusedError(f"it asks for something unusual (operation {bytes([code])!r})")


def _check_keys(keys: list[Any]) -> None:
    if not all(is_key(key) for key in keys):
        raise RefusedError(f"it has a table whose keys are neither texts nor numbers below {MOST_KEY:,}")


def is_key(value: Any) -> bool:
    """May this be the key of a table: a text, nothing, or a whole number that is its own hash?"""
    return isinstance(value, str | bytes | None) or (isinstance(value, int) and -MOST_KEY < value < MOST_KEY)


def _set_item(reader: Any) -> None:
    _check_keys(reader.stack[-2:-1])
    _STANDARD[pickle.SETITEM[0]](reader)


def _set_items(reader: Any) -> None:
    _check_keys(reader.stack[::2])  # everything since the mark
    _STANDARD[pickle.SETITEMS[0]](reader)


def _table(reader: Any) -> None:
    _check_keys(reader.stack[::2])
    _STANDARD[pickle.DICT[0]](reader)


def _put(reader: Any) -> None:
    """An object is remembered under a number in decimal digits: a table's key like others."""
    line = reader.readline()
    if not (line[:-1].isdigit() and len(line) <= 11):
        raise DamagedError("it remembers an object under no number")
    reader.memo[int(line)] = reader.stack[-1]


def _build(reader: Any) -> None:
    if not isinstance(reader.stack[-2], StandIn):
        raise RefusedError("it tries to change what reads it")
    _STANDARD[pickle.BUILD[0]](reader)


def _empty_list(reader: Any) -> None:
    reader.append([])


def _marked_list(reader: Any) -> None:
    reader.append(reader.pop_mark())


def _bytes(reader: Any) -> None:
    """A bytearray's bytes; the standard form makes room for as many as the file claims."""
    (size,) = struct.unpack("<Q", reader.read(8))
    reader.append(bytes(reader.read(size)))


_STANDARD: dict[int, Callable[[Any], None]] = pickle._Unpickler.dispatch
_UNUSUAL = (
    pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip
_OPERATIONS: dict[int, Callable[[Any], None]] = {
    **{code: step for code, step in _STANDARD.items() if bytes([code]) not in _UNUSUAL},
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _set_items,
    pickle.DICT[0]: _table,
    pickle.PUT[0]: _put,
    pickle.BUILD[0]: _build,
    pickle.BYTEARRAY8[0]: _bytes,
    # Sets hash what they hold: lists do.
    pickle.EMPTY_SET[0]: _empty_list,
    pickle.ADDITEMS[0]: _STANDARD[pickle.APPENDS[0]],
    pickle.FROZENSET[0]: _marked_list,
}

"""A pickle's content without running it: numbers, texts, lists, tables and arrays, and holders for the rest.

A pickle is a program for a small stack machine that may call what it names. This is another machine for the
same programs: it looks nothing up and calls nothing. The few names that arrays, chumpy objects and SciPy's
sparse matrices need stand for holders of their parts, and any other name ends the reading. What a file can
make it keep is bounded by the file's size and `MOST_STEPS`: lengths that the file only claims, gaps in its
memory of objects and keys that take for ever to hash get nowhere.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phq_data.errors import PhqError

MOST_STEPS = 1_000_000
"""Operations of a pickle; SMPL's file has a few thousand."""
_NUMERIC = re.compile(r"[<>=|]?[fiu][1248]")
_PROTOCOLS = range(6)


class RefusedError(PhqError, ValueError):
    """The pickle asks for more than data."""


class DamagedError(PhqError, ValueError):
    """These bytes are no whole pickle."""


@dataclass(frozen=True)
class Name:
    """A name that the file mentions, of the few that may be in it."""

    module: str
    name: str
    meaning: str


@dataclass(eq=False)
class Held:
    """Stands for an object of a class that is not loaded: keeps its state and can do nothing."""

    kind: str  # chumpy, columns or rows
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class ArrayType:
    """NumPy's dtype as the file describes it."""

    code: str
    order: str = "<"


@dataclass(eq=False)
class HeldArray:
    """An array's description and bytes, not yet an array."""

    shape: Any = ()
    kind: Any = None
    fortran: bool = False
    data: Any = b""  # bytes, or a text of Latin-1 that stands for them

    def numbers(self) -> NDArray[Any] | None:
        """The array; None when it is none of numbers or its parts do not agree."""
        kind, shape = self.kind, self.shape
        if not isinstance(kind, ArrayType) or _NUMERIC.fullmatch(kind.code) is None:
            return None
        if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
            return None
        try:
            made = np.dtype(kind.order.strip("=|") + kind.code.lstrip("<>=|"))
            data = self.data.encode("latin1") if isinstance(self.data, str) else bytes(self.data)
            flat = np.frombuffer(data, made)
            return flat.reshape(shape, order="F" if self.fortran else "C")
        except (TypeError, ValueError):
            return None


def read(data: bytes) -> Any:
    """What the pickle holds. Raises `RefusedError` or `DamagedError`, both with half a sentence."""
    if data[:2] == b"PK":
        raise DamagedError("it is a zip archive, as PyTorch's checkpoints are")
    machine = _Machine(data)
    try:
        return machine.run()
    except (RefusedError, DamagedError):
        raise
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise DamagedError(f"{type(error).__name__} at byte {machine.place:,}: {error}") from error


# ---- names -----------------------------------------------------------------------------------------------

_MEANINGS = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "buffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("copy_reg", "_reconstructor"): "object",
    ("copyreg", "_reconstructor"): "object",
    ("__builtin__", "object"): "base",
    ("builtins", "object"): "base",
    ("__builtin__", "set"): "set",
    ("_codecs", "encode"): "bytes",
}
_CLASSES = ("chumpy", "columns", "rows")


def _meaning(module: str, name: str) -> str:
    known = _MEANINGS.get((module.replace("numpy._core", "numpy.core"), name))
    if known is not None:
        return known
    if module.split(".")[0] == "chumpy":
        return "chumpy"
    if module.startswith("scipy.sparse"):
        if name in ("csc_matrix", "csc_array"):
            return "columns"
        if name in ("csr_matrix", "csr_array"):
            return "rows"
    raise RefusedError(f"it asks for '{module}.{name}', and only arrays may be in it")


def _called(target: Any, arguments: Any) -> Any:
    """What a call of a name would have made, as a holder."""
    if not isinstance(target, Name) or not isinstance(arguments, tuple):
        raise RefusedError("it asks for a call of something that is no name")
    match target.meaning:
        case "array":
            if not isinstance(arguments[0], Name) or arguments[0].meaning != "ndarray":
                raise RefusedError("it asks for an array of another class")
            return HeldArray()
        case "buffer":
            data, kind, shape, order = arguments
            return HeldArray(shape, kind, order == "F", data)
        case "dtype":
            return _array_type(arguments[0])
        case "object":
            return _held(arguments[0])
        case "bytes":
            text, encoding = arguments
            if not isinstance(text, str) or encoding != "latin1":
                raise RefusedError("it asks for an unusual text encoding")
            return text  # encoded when an array wants it, or a file could ask for a thousand copies
        case "set" | "scalar":
            return None  # nothing that a body needs
        case meaning if meaning in _CLASSES:
            return _held(target)
    raise RefusedError("it asks for an object that is no array")


def _array_type(text: Any) -> ArrayType:
    if not isinstance(text, str) or len(text) > 16:
        raise RefusedError("it asks for an unusual kind of array")
    if "O" in text:
        raise RefusedError("it asks for an array of objects")
    return ArrayType(text)


def _held(kind: Any) -> Held:
    if not isinstance(kind, Name) or kind.meaning not in _CLASSES:
        raise RefusedError("it asks for an object that is no array")
    return Held(kind.meaning)


def _build(target: Any, state: Any) -> None:
    """Give a holder its state, as the file tells it."""
    if isinstance(target, Held):
        own = state[0] if isinstance(state, tuple) and state else state
        target.state = own if isinstance(own, dict) else {}
    elif isinstance(target, HeldArray):
        _, target.shape, target.kind, fortran, target.data = state
        target.fortran = bool(fortran)
    elif isinstance(target, ArrayType):
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise RefusedError("it asks for an unusual kind of array")
        target.order = order
    else:
        raise RefusedError("it tries to change what reads it")


# ---- the machine -----------------------------------------------------------------------------------------


class _Machine:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            code = self._take(1)
            if code == b".":
                return self._stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise RefusedError(f"it asks for something unusual (operation {code!r})")
            step(self)
        raise RefusedError(f"it has more than {MOST_STEPS:,} steps, and SMPL's has a few thousand")

    # -- bytes of the file

    def _take(self, count: int) -> bytes:
        end = self.place + count
        if count < 0 or end > len(self._data):
            raise DamagedError("it ends too early")
        taken = self._data[self.place : end]
        self.place = end
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self.place)
        if end < 0:
            raise DamagedError("it ends too early")
        line = self._take(end - self.place)
        self.place += 1
        return line

    # -- the stack

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def marked(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self.marked()

    def tuple_of(self, count: int) -> None:
        taken = tuple(self._stack.pop() for _ in range(count))
        self.push(taken[::-1])

    def append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise RefusedError("it tries to change what reads it")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise RefusedError("it tries to change what reads it")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes | int | float | None):
                raise RefusedError("it has a table whose keys are neither texts nor numbers")
            target[key] = value

    def table(self) -> None:
        items = self.marked()
        self.push({})
        self.set_items(items)

    def one_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self.set_items([key, value])

    # -- memory, names, objects

    def remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def memoize(self) -> None:
        self.remember(len(self._memo))

    def recall(self, index: int) -> None:
        self.push(self._memo[index])

    def text_number(self) -> None:
        line = self._line()
        self.push({b"00": False, b"01": True}.get(line) if line in (b"00", b"01") else int(line))

    def long(self, count: int) -> None:
        self.push(int.from_bytes(self._take(count), "little", signed=True))

    def quoted(self) -> None:
        import codecs

        line = self._line().strip()
        if len(line) < 2 or line[:1] not in b"'\"" or line[-1:] != line[:1]:
            raise DamagedError("a text has no quotes")
        self.push(codecs.escape_decode(line[1:-1])[0].decode("latin1"))

    def global_name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise DamagedError("a name is no text")
        self.push(Name(module, name, _meaning(module, name)))

    def named_by_lines(self) -> None:
        module, name = self._line().decode(), self._line().decode()
        self.global_name(module, name)

    def named_by_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self.global_name(module, name)

    def reduce(self) -> None:
        arguments, target = self._stack.pop(), self._stack.pop()
        self.push(_called(target, arguments))

    def new_object(self) -> None:
        self._stack.pop()  # its arguments
        self.push(_held(self._stack.pop()))

    def old_object(self) -> None:
        self.push(_held(self.marked()[0]))

    def old_object_by_lines(self) -> None:
        self.marked()
        self.named_by_lines()
        self.push(_held(self._stack.pop()))

    def build(self) -> None:
        state = self._stack.pop()
        _build(self._stack[-1], state)


_Step = Callable[[_Machine], object]


def _text(form: str, encoding: str) -> _Step:
    errors = "surrogatepass" if encoding == "utf-8" else "strict"
    return lambda m: m.push(m._take(m._number(form)).decode(encoding, errors))


def _bytes(form: str) -> _Step:
    return lambda m: m.push(m._take(m._number(form)))


_STEPS: dict[bytes, _Step] = {
    b"\x80": lambda m: _PROTOCOLS.index(m._number("B")),
    b"\x95": lambda m: m._take(8),  # the length of a frame: nothing here needs it
    b"(": _Machine.mark,
    b"0": _Machine.pop,
    b"1": _Machine.marked,
    b"2": lambda m: m.push(m._stack[-1]),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": _Machine.text_number,
    b"L": lambda m: m.push(int(m._line().rstrip(b"L"))),
    b"J": lambda m: m.push(m._number("<i")),
    b"K": lambda m: m.push(m._number("B")),
    b"M": lambda m: m.push(m._number("<H")),
    b"\x8a": lambda m: m.long(m._number("B")),
    b"\x8b": lambda m: m.long(m._number("<i")),
    b"F": lambda m: m.push(float(m._line())),
    b"G": lambda m: m.push(m._number(">d")),
    b"S": _Machine.quoted,
    # Python 2's strings, also those that hold an array's bytes.
    b"T": _text("<i", "latin1"),
    b"U": _text("B", "latin1"),
    b"V": lambda m: m.push(m._line().decode("raw-unicode-escape")),
    b"X": _text("<I", "utf-8"),
    b"\x8c": _text("B", "utf-8"),
    b"\x8d": _text("<Q", "utf-8"),
    b"B": _bytes("<I"),
    b"C": _bytes("B"),
    b"\x8e": _bytes("<Q"),
    b"\x96": _bytes("<Q"),
    b"]": lambda m: m.push([]),
    b"\x8f": lambda m: m.push([]),  # a set: a list does, and hashes nothing
    b"a": lambda m: m.append([m._stack.pop()]),
    b"e": lambda m: m.append(m.marked()),
    b"\x90": lambda m: m.append(m.marked()),
    b"l": lambda m: m.push(m.marked()),
    b"\x91": lambda m: m.push(m.marked()),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.marked())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"}": lambda m: m.push({}),
    b"d": _Machine.table,
    b"s": _Machine.one_item,
    b"u": lambda m: m.set_items(m.marked()),
    b"p": lambda m: m.remember(int(m._line())),
    b"q": lambda m: m.remember(m._number("B")),
    b"r": lambda m: m.remember(m._number("<I")),
    b"\x94": _Machine.memoize,
    b"g": lambda m: m.recall(int(m._line())),
    b"h": lambda m: m.recall(m._number("B")),
    b"j": lambda m: m.recall(m._number("<I")),
    b"c": _Machine.named_by_lines,
    b"\x93": _Machine.named_by_stack,
    b"R": _Machine.reduce,
    b"\x81": _Machine.new_object,
    b"o": _Machine.old_object,
    b"i": _Machine.old_object_by_lines,
    b"b": _Machine.build,
}

"""Pickles of arrays: what NumPy's, chumpy's and SciPy's names stand for where only numbers may come out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phq_data import restricted_pickle
from phq_data.restricted_pickle import RefusedError, StandIn

_NUMERIC = re.compile(r"[<>=|]?[fiu][1248]")


class Chumpy(StandIn):
    """An object of chumpy: its state holds arrays."""


class Columns(StandIn):
    """A sparse matrix by columns: its state holds `data`, `indices`, `indptr` and the shape."""


class Rows(StandIn):
    """A sparse matrix by rows."""


class ArrayType(StandIn):
    """NumPy's dtype as the file describes it."""

    def __new__(cls, text: Any = None, *_: Any) -> ArrayType:
        """Raises `RefusedError` for what no array of numbers has."""
        if not isinstance(text, str) or len(text) > 16:
            raise RefusedError("it asks for an unusual kind of array")
        if "O" in text:
            raise RefusedError("it asks for an array of objects")
        made = super().__new__(cls)
        made.state = {"code": text, "order": "<"}
        return made

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise RefusedError("it asks for an unusual kind of array")
        self.state["order"] = order


class HeldArray(StandIn):
    """An array's description and bytes, not yet an array."""

    shape: Any = ()
    kind: Any = None
    fortran: bool = False
    data: Any = b""  # bytes, or a text of Latin-1 that stands for them

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.kind, fortran, self.data = state
        self.fortran = bool(fortran)

    def numbers(self) -> NDArray[Any] | None:
        """The array [...]; None when it is none of numbers or its parts do not agree."""
        kind, shape = self.kind, self.shape
        if not isinstance(kind, ArrayType) or _NUMERIC.fullmatch(kind.state["code"]) is None:
            return None
        if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
            return None
        try:
            made = np.dtype(kind.state["order"].strip("=|") + kind.state["code"].lstrip("<>=|"))
            data = self.data.encode("latin1") if isinstance(self.data, str) else bytes(self.data)
            flat = np.frombuffer(data, made)
            return flat.reshape(shape, order="F" if self.fortran else "C")
        except (TypeError, ValueError):
            return None


def read(data: bytes) -> Any:
    """What the pickle holds, arrays as `HeldArray`. Raises `RefusedError` or `DamagedError`."""
    return restricted_pickle.read(data, _find)


def _find(module: str, name: str) -> Callable[..., Any]:
    known = _NAMES.get((module.replace("numpy._core", "numpy.core"), name))
    if known is not None:
        return known
    if module.split(".")[0] == "chumpy":
        return Chumpy
    if module.startswith("scipy.sparse"):
        if name in ("csc_matrix", "csc_array"):
            return Columns
        if name in ("csr_matrix", "csr_array"):
            return Rows
    raise RefusedError(f"it asks for '{module}.{name}', and only arrays may be in it")


def _array(kind: Any, *_: Any) -> StandIn:
    if kind is not _array_class:
        raise RefusedError("it asks for an array of another class")
    return HeldArray()


def _array_class(*_: Any) -> Any:
    raise RefusedError("it asks for an object that is no array")


def _buffer(data: Any, kind: Any, shape: Any, order: Any) -> StandIn:
    made = HeldArray()
    made.__setstate__((1, shape, kind, order == "F", data))
    return made


def _object(kind: Any, *_: Any) -> StandIn:
    if kind not in (Chumpy, Columns, Rows):
        raise RefusedError("it asks for an object that is no array")
    made: StandIn = kind()
    return made


def _base(*_: Any) -> Any:
    raise RefusedError("it asks for an object that is no array")


def _encoded(text: Any, encoding: Any) -> str:
    """The text itself: encoded when an array wants it, or a file could ask for a thousand copies."""
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError("it asks for an unusual text encoding")
    return text


def _nothing(*_: Any) -> None:
    """A set or a single number: nothing that a body needs."""


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy.core.multiarray", "scalar"): _nothing,
    ("numpy.core.numeric", "_frombuffer"): _buffer,
    ("numpy", "ndarray"): _array_class,
    ("numpy", "dtype"): ArrayType,
    ("copy_reg", "_reconstructor"): _object,
    ("copyreg", "_reconstructor"): _object,
    ("__builtin__", "object"): _base,
    ("builtins", "object"): _base,
    ("__builtin__", "set"): _nothing,
    ("_codecs", "encode"): _encoded,
}

"""SMPL's official file to plain arrays, without running anything that is in it.

The file is a Python 2 pickle of chumpy objects, SciPy sparse matrices and NumPy arrays. A pickle is a
program, so this reader lets it build only these: arrays, and inert holders in the place of chumpy's and
SciPy's classes, whose numbers are then taken out. Any other name in the file ends the reading.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phq_data.bodies.anny import BodyError
from phq_data.bodies.smpl_arrays import PARENTS, SHAPES, SmplArrays
from phq_data.models.registry import ModelError

VERTICES, FACES = 6890, 13776
LARGEST = 2**30  # bytes of a file that is looked at; the official one has 37 MB


def read_smpl_pickle(path: str | Path) -> SmplArrays:
    """The arrays of an official SMPL model file.

    Raises `ModelError` with one sentence when the file is missing, is no pickle, asks for anything but arrays
    or holds another body.
    """
    path = Path(path)
    values = read_arrays(path)
    wanted = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
    missing = [key for key in wanted if key not in values]
    if missing:
        raise ModelError(f"{path} is no SMPL model: it has no '{missing[0]}'")
    arrays = {key: _numbers(values[key], key, path) for key in wanted}
    if arrays["v_template"].shape != (VERTICES, 3) or arrays["f"].shape != (FACES, 3):
        raise ModelError(
            f"{path} is not SMPL's body: vertices {list(arrays['v_template'].shape)} and faces "
            f"{list(arrays['f'].shape)}, expected [{VERTICES}, 3] and [{FACES}, 3]"
        )
    tree = arrays["kintree_table"]
    if tree.shape != (2, len(PARENTS)) or tuple(tree[0, 1:].astype(np.int64)) != PARENTS[1:]:
        raise ModelError(f"{path} is not SMPL's body: its tree of joints is another (SMPL-H or SMPL-X?)")
    if arrays["shapedirs"].ndim != 3 or arrays["shapedirs"].shape[2] < SHAPES:
        raise ModelError(
            f"{path} has shape directions {list(arrays['shapedirs'].shape)}, fewer than {SHAPES}"
        )
    try:
        return SmplArrays(
            v_template=_floats(arrays["v_template"]),
            shapedirs=_floats(arrays["shapedirs"][:, :, :SHAPES]),
            posedirs=_floats(arrays["posedirs"]),
            j_regressor=_floats(arrays["J_regressor"]),
            weights=_floats(arrays["weights"]),
            faces=np.ascontiguousarray(arrays["f"], np.int32),
        )
    except BodyError as error:
        raise ModelError(f"{path}: {error}") from error


def read_arrays(path: Path) -> Mapping[str, Any]:
    """The dictionary that a pickle holds, with inert holders for what is no array."""
    try:
        if path.stat().st_size > LARGEST:
            raise ModelError(f"{path} is far larger than any SMPL model; it is not read")
        with path.open("rb") as stream:
            values = _Reader(stream).load()
    except ModelError as error:
        raise ModelError(
            f"{path} is refused: {error}" if "refused" not in str(error) else str(error)
        ) from None
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}") from None
    except Exception as error:
        # A damaged or crafted pickle can fail in any way; none of them is our bug.
        raise ModelError(f"{path} is damaged or no pickle ({type(error).__name__}: {error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is no SMPL model: it holds a {type(values).__name__}")
    return values


# ---- what a pickle may build -----------------------------------------------------------------------------


class _Held:
    """Stands for an object of a class that is not loaded: keeps its state and can do nothing."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __new__(cls, *arguments: object) -> _Held:
        held = super().__new__(cls)
        held.state = {}
        return held

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _Chumpy(_Held):
    __slots__ = ()


class _Columns(_Held):
    """A compressed sparse column matrix."""

    __slots__ = ()


class _Rows(_Held):
    """A compressed sparse row matrix."""

    __slots__ = ()


class _Call:
    """A function that a pickle may call, in a wrapping that it cannot change."""

    __slots__ = ("__call",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_Call__call", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise ModelError("it tries to change what reads it")

    def __setstate__(self, state: object) -> None:
        raise ModelError("it tries to change what reads it")

    def __call__(self, *arguments: Any) -> Any:
        return self._Call__call(*arguments)  # type: ignore[attr-defined]


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any) -> None:
        # Python 2's strings, also those that hold an array's bytes.
        super().__init__(stream, fix_imports=False, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Only the names below; everything else ends the reading."""
        found = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if found is not None:
            return found
        root = module.split(".")[0]
        if root == "chumpy":
            return _Chumpy
        if module.startswith("scipy.sparse"):
            if name in ("csc_matrix", "csc_array"):
                return _Columns
            if name in ("csr_matrix", "csr_array"):
                return _Rows
        raise ModelError(f"it asks for '{module}.{name}', and only arrays may be in it")

    def persistent_load(self, pid: Any) -> Any:
        """Nothing outside the file."""
        raise ModelError("it asks for something outside the file")


def _empty_array(kind: Any, shape: Any = None, code: Any = None) -> NDArray[Any]:
    if kind is not _ARRAY:
        raise ModelError("it asks for an array of another class")
    return np.ndarray((0,), np.int8)


def _array_type(text: Any, align: Any = 0, copy: Any = 1) -> np.dtype[Any]:
    if not isinstance(text, str) or len(text) > 16:
        raise ModelError("it asks for an unusual kind of array")
    made = np.dtype(text)
    if made.hasobject:
        raise ModelError("it asks for an array of objects")
    return np.dtype(text, copy=True)


def _held(kind: Any, base: Any = None, state: Any = None) -> _Held:
    if not (isinstance(kind, type) and issubclass(kind, _Held)):
        raise ModelError("it asks for an object that is no array")
    return kind()


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ModelError("it asks for an unusual text encoding")
    return text.encode("latin1")


def _set(items: Any = ()) -> frozenset[Any]:
    return frozenset(item for item in items if isinstance(item, str | int))


_ARRAY = _Call(lambda *_: _refuse())
_OBJECT = _Call(lambda *_: _refuse())
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Call(_empty_array),
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Call(_array_type),
    ("copy_reg", "_reconstructor"): _Call(_held),
    ("copyreg", "_reconstructor"): _Call(_held),
    ("__builtin__", "object"): _OBJECT,
    ("builtins", "object"): _OBJECT,
    ("__builtin__", "set"): _Call(_set),
    ("_codecs", "encode"): _Call(_encoded),
}


def _refuse() -> None:
    raise ModelError("it asks for an object that is no array")


# ---- numbers out of holders ------------------------------------------------------------------------------


def _numbers(value: Any, key: str, path: Path, depth: int = 0) -> NDArray[Any]:
    """The array that a value stands for."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return value
    if depth < 4 and isinstance(value, _Chumpy):
        state = value.state
        if "x" in state:
            return _numbers(state["x"], key, path, depth + 1)
        if "a" in state and "idxs" in state:  # a selection from another array
            whole = _numbers(state["a"], key, path, depth + 1).reshape(-1)
            chosen = whole[_numbers(state["idxs"], key, path, depth + 1).astype(np.int64).reshape(-1)]
            shape = state.get("preferred_shape")
            return chosen.reshape(shape) if isinstance(shape, tuple) else chosen
    if isinstance(value, _Columns | _Rows):
        return _dense(value, key, path)
    raise ModelError(f"{path}: '{key}' is no array of numbers")


def _dense(matrix: _Held, key: str, path: Path) -> NDArray[np.float64]:
    state = matrix.state
    shape: Any = state.get("_shape", state.get("shape"))
    try:
        rows, columns = (int(side) for side in shape)
        data, indices, starts = (np.asarray(state[name]) for name in ("data", "indices", "indptr"))
        major = columns if isinstance(matrix, _Columns) else rows
        if not (0 < rows <= 10**5 and 0 < columns <= 10**5 and len(starts) == major + 1):
            raise ValueError("the sizes do not agree")
        along = np.repeat(np.arange(major), np.diff(starts))
        filled = np.zeros((rows, columns))
        place = (indices, along) if isinstance(matrix, _Columns) else (along, indices)
        np.add.at(filled, place, data)
        return filled
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"{path}: the sparse matrix '{key}' is damaged ({error})") from error


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)

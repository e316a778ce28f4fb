"""SMPL's official file to plain arrays, without running anything that is in it.

The file is a Python 2 pickle of chumpy objects, SciPy sparse matrices and NumPy arrays. A pickle is a
program, so this reader lets it build only these: arrays, and stand-ins in the place of chumpy's and SciPy's
objects, whose numbers are then taken out (`weights.array_pickle`). Any other name in the file ends the
reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phq_data.bodies.anny import BodyError
from phq_data.bodies.smpl_arrays import PARENTS, SHAPES, SmplArrays
from phq_data.errors import ModelError
from phq_data.restricted_pickle import DamagedError, RefusedError
from phq_data.weights import array_pickle
from phq_data.weights.array_pickle import Chumpy, Columns, HeldArray, Rows

VERTICES, FACES = 6890, 13776
LARGEST = 2**29  # bytes of a file that is read; the official one has 37 MB
_MOST_CELLS = 10**7  # that a matrix or selection may unfold to; the largest of SMPL has 4 million


def read_smpl_pickle(path: str | Path) -> SmplArrays:
    """The arrays of an official SMPL model file.

    Raises `ModelError` with one sentence when the file is missing, is no pickle, asks for anything but arrays
    or holds another body.
    """
    path = Path(path)
    values = read_values(path)
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
    if tree.dtype.kind not in "iu" or arrays["f"].dtype.kind not in "iu":
        raise ModelError(f"{path} is not SMPL's body: its faces or its tree of joints are no whole numbers")
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


def read_values(path: Path) -> Mapping[str, Any]:
    """The dictionary that a pickle holds, with stand-ins for what is no plain value."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ModelError(f"{path} is far larger than any SMPL model ({size:,} bytes); it is not read")
        values = array_pickle.read(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from error
    except RefusedError as error:
        raise ModelError(f"{path} is refused: {error}") from None
    except DamagedError as error:
        raise ModelError(f"{path} is damaged or no pickle ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is no SMPL model: it holds a {type(values).__name__}")
    return values


# ---- numbers out of holders ------------------------------------------------------------------------------


def _numbers(value: Any, key: str, path: Path, depth: int = 0) -> NDArray[Any]:
    """The array that a value stands for."""
    if isinstance(value, HeldArray):
        array = value.numbers()
        if array is not None:
            return array
    if depth < 4 and isinstance(value, Chumpy):
        state = value.state
        if "x" in state:
            return _numbers(state["x"], key, path, depth + 1)
        if "a" in state and "idxs" in state:  # a selection from another array
            whole = _numbers(state["a"], key, path, depth + 1).reshape(-1)
            places = _numbers(state["idxs"], key, path, depth + 1).reshape(-1)
            return _selected(whole, places, state.get("preferred_shape"), f"{path}: '{key}'")
    if isinstance(value, Columns | Rows):
        return _dense(value, key, path)
    raise ModelError(f"{path}: '{key}' is no array of numbers")


def _selected(whole: NDArray[Any], places: NDArray[Any], shape: Any, what: str) -> NDArray[Any]:
    if (
        places.dtype.kind not in "iu"
        or places.size > _MOST_CELLS
        or (places.size and not 0 <= places.min() <= places.max() < whole.size)
    ):
        raise ModelError(f"{what} is damaged: it selects numbers that are not there")
    chosen = whole[places.astype(np.int64)]
    if not isinstance(shape, tuple):
        return chosen
    try:
        return chosen.reshape(shape)
    except (TypeError, ValueError):
        raise ModelError(f"{what} is damaged: its shape is not that of its numbers") from None


def _dense(matrix: Columns | Rows, key: str, path: Path) -> NDArray[np.float64]:
    state, by_columns = matrix.state, isinstance(matrix, Columns)
    fault = ModelError(f"{path}: the sparse matrix '{key}' is damaged")
    shape = state.get("_shape", state.get("shape"))
    if not isinstance(shape, tuple) or len(shape) != 2 or not all(type(side) is int for side in shape):
        raise fault
    data, indices, starts = (
        _numbers(state.get(name), f"{key}.{name}", path).reshape(-1) for name in ("data", "indices", "indptr")
    )
    rows, columns = shape
    major, minor = (columns, rows) if by_columns else (rows, columns)
    if min(shape) < 1 or rows * columns > _MOST_CELLS or not (indices.dtype.kind == starts.dtype.kind == "i"):
        raise fault
    whole = len(starts) == major + 1 and starts[0] == 0 and starts[-1] == len(data) == len(indices)
    if not whole or (np.diff(starts) < 0).any() or ((indices < 0) | (indices >= minor)).any():
        raise fault
    along = np.repeat(np.arange(major), np.diff(starts))
    filled = np.zeros((rows, columns))
    np.add.at(filled, (indices, along) if by_columns else (along, indices), data)
    return filled


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found to be
        return np.ascontiguousarray(array, np.float32)

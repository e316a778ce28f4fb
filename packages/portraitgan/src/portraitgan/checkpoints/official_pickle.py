"""Official checkpoints without running them: what the names in pickles of networks stand for.

Classes become stand-ins that remember what was put into them, and only tensors are rebuilt, from bytes, on
the CPU. A name from outside the libraries that such checkpoints are made with is refused, because a
checkpoint has no use for it.
"""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phq_data import restricted_pickle
from phq_data.restricted_pickle import DamagedError, RefusedError, StandIn, stand_in
from phq_data.tensor_pickle import load

STAND_IN_MODULES = ("torch", "torch_utils", "training", "dnnlib", "smplx", "numpy", "legacy", "camera_utils")
"""Libraries whose names may occur; what they name becomes a stand-in."""
STAND_IN_BUILTINS = ("object", "set", "frozenset", "slice", "range", "complex", "bytearray", "int", "float")
MOST_STEPS = 4_000_000
"""Operations of a pickle: a checkpoint of four networks with their sources has some hundred thousand."""
DEEPEST_MODULE, MOST_MODULES, MOST_NUMBERS = 32, 20_000, 2**27
"""Of one network: the official ones have 6 levels, some 400 modules and 60 million weights."""
_REBUILT = "_reconstruct_persistent_obj"
"""The official `persistence` decorator's function. What it made is a call of it with one dictionary:
`state` holds the attributes, `module_src` source code that the official loader would run."""


class PickleRefusedError(RefusedError):
    """A pickle that asks for something a checkpoint has no use for, or that is damaged."""


def read_pickle(path: str | Path) -> Any:
    """The content of a pickle file: plain values, tensors on the CPU, and `StandIn`s.

    Raises `PickleRefusedError` naming the file and what was refused.
    """
    try:
        data = Path(path).read_bytes()
        return restricted_pickle.read(data, _Names(len(data)).find, MOST_STEPS)
    except RefusedError as error:
        raise PickleRefusedError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise PickleRefusedError(f"no file at {path}") from None
    except (DamagedError, OSError) as error:
        raise PickleRefusedError(f"{path} is not a readable pickle: {error}") from error


def attributes_of(value: Any) -> dict[Any, Any]:
    """A dictionary itself, or the items or attributes of what a stand-in stands for."""
    for _ in range(DEEPEST_MODULE):
        if isinstance(value, dict):
            return value
        if not isinstance(value, StandIn):
            return {}
        if value.items:
            return value.items
        if not (value.origin.endswith(_REBUILT) and value.arguments):
            return value.state
        given = value.arguments[0]
        value = (given if isinstance(given, dict) else _of_stand_in(given)).get("state")
    raise PickleRefusedError("an object stands for itself")


def _of_stand_in(value: Any) -> dict[Any, Any]:
    return (value.items or value.state) if isinstance(value, StandIn) else {}


def state_of(module: Any) -> dict[str, Tensor]:
    """The state dict of a stand-in of a module: its parameters and persistent buffers, by dotted name.

    Raises `PickleRefusedError` for modules that no network of this family has.
    """
    found: dict[str, Tensor] = {}
    numbers = visits = 0
    left = [(module, "", 0)]
    while left:
        here, prefix, depth = left.pop()
        visits += 1
        attributes = attributes_of(here)
        skipped = _names(attributes.get("_non_persistent_buffers_set"))
        for table in ("_parameters", "_buffers"):
            for name, value in attributes_of(attributes.get(table)).items():
                if isinstance(value, Tensor) and not (table == "_buffers" and name in skipped):
                    found[f"{prefix}{name}"] = value
                    numbers += value.numel()
        if depth > DEEPEST_MODULE or visits > MOST_MODULES or numbers > MOST_NUMBERS:
            raise PickleRefusedError(
                f"its modules have more than {DEEPEST_MODULE} levels, {MOST_MODULES:,} modules or "
                f"{MOST_NUMBERS:,} weights, or one contains itself"
            )
        children = attributes_of(attributes.get("_modules")).items()
        left += [(child, f"{prefix}{name}.", depth + 1) for name, child in children if child is not None]
    return found


def _names(values: Any) -> frozenset[str]:
    """The texts of a pickled set, which comes as a list."""
    listed = values if isinstance(values, list) else []
    return frozenset(name for name in listed if isinstance(name, str))


class _Names:
    """What names stand for in one pickle, and how many bytes its tensors took so far."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._shown = 2 * most_bytes  # some tensors share their memory; the official files show theirs once
        self._rebuilders: dict[str, Callable[..., Any]] = {
            "torch.storage._load_from_bytes": self._storage,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "copyreg._reconstructor": _object,
            "copy_reg._reconstructor": _object,
            "collections.OrderedDict": _ordered,
            "builtins.set": _set,
            "__builtin__.set": _set,
        }

    def find(self, module: str, name: str) -> Callable[..., Any]:
        """See `restricted_pickle.Find`."""
        rebuilder = self._rebuilders.get(f"{module}.{name}")
        if rebuilder is not None:
            return rebuilder
        if module in ("builtins", "__builtin__"):
            if name in STAND_IN_BUILTINS:
                return stand_in(f"builtins.{name}")
        elif module.split(".", 1)[0] in STAND_IN_MODULES:
            return stand_in(f"{module}.{name}")
        raise RefusedError(
            f"it asks for '{module}.{name}', which no network checkpoint needs; nothing was run. "
            "Do not open this file with other tools"
        )

    def _storage(self, content: Any) -> Any:
        """A tensor's memory, always on the CPU, by torch's loader that knows only tensors."""
        if not isinstance(content, bytes):
            raise RefusedError("a tensor's memory is not bytes")
        self._left -= len(content)
        if self._left < 0:
            raise RefusedError("its tensors take more memory than the file has bytes")
        return load(io.BytesIO(content))

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        """A tensor over a storage; torch checks that it stays inside.

        It may not have more numbers than its memory: strides of 0 make one number any number of them, which
        take their room as soon as the tensor is copied.
        """
        if not isinstance(storage, torch.storage.TypedStorage):
            raise RefusedError("a tensor has no typed memory")
        size, stride = (
            tuple(value.arguments[0] if isinstance(value, StandIn) else value) for value in (size, stride)
        )
        if not all(type(side) is int and side >= 0 for side in size):
            raise RefusedError("a tensor's shape is not of whole numbers")
        bytes_shown = math.prod(size) * storage.dtype.itemsize
        self._shown -= bytes_shown
        if bytes_shown > storage._untyped_storage.nbytes() or self._shown < 0:
            raise RefusedError(f"a tensor of shape {list(size)} has more numbers than its memory")
        tensor: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
        return tensor


def _parameter(data: Any, *_: Any) -> Tensor:
    """A parameter is kept as its tensor."""
    if not isinstance(data, Tensor):
        raise RefusedError("a parameter is not a tensor")
    return data


def _object(kind: Any, *_: Any) -> StandIn:
    """Old-style construction of an empty object."""
    if not (isinstance(kind, type) and issubclass(kind, StandIn)):
        raise RefusedError("an object of an unexpected class")
    return kind()


def _ordered(*pairs: Any) -> OrderedDict[Any, Any]:
    """Empty: what is in it comes as items."""
    if pairs:
        raise RefusedError("an ordered dictionary of an unexpected form")
    return OrderedDict()


def _set(values: Any = ()) -> list[Any]:
    """What is in it: a list, which hashes nothing."""
    return list(values)

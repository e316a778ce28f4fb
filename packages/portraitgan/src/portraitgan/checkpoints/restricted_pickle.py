"""Reading pickles of networks without running anything that is in them.

A pickle is a program that may call anything it names. Here it gets nothing to call: classes become empty
stand-ins that remember what was put into them, and only tensors are rebuilt, from bytes, on the CPU. A name
from outside the libraries that such checkpoints are made with is refused, because a checkpoint has no use
for it.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phq_data.errors import PhqError

STAND_IN_MODULES = ("torch", "torch_utils", "training", "dnnlib", "smplx", "numpy", "legacy", "camera_utils")
"""Libraries whose names may occur; what they name becomes a stand-in."""
STAND_IN_BUILTINS = ("object", "set", "frozenset", "slice", "range", "complex", "bytearray", "int", "float")


class PickleRefusedError(PhqError, ValueError):
    """A pickle that asks for something a checkpoint has no use for, or that is damaged."""


class StandIn:
    """What remains of an object: its class's name, the arguments it was made with, its state and items."""

    origin = ""

    def __new__(cls, *arguments: Any, **named: Any) -> StandIn:
        """Any arguments are remembered."""
        made = super().__new__(cls)
        made.arguments = (*arguments, *named.values())
        made.state = {}
        made.items = {}
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.state: dict[str, Any]
        self.items: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.state.update(part)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """An element of a list-like object."""
        self.items[len(self.items)] = value

    def extend(self, values: Any) -> None:
        """Elements of a list-like object."""
        for value in values:
            self.append(value)

    def add(self, value: Any) -> None:
        """An element of a set-like object."""
        self.append(value)

    def __hash__(self) -> int:
        return id(self)

    @property
    def attributes(self) -> dict[str, Any]:
        """The object's attributes, also if it was made by the official `persistence` decorator.

        Such an object is a call of a rebuilding function with one dictionary, whose `state` holds the
        attributes and whose `module_src` holds source code that the official loader would run.
        """
        if self.origin.endswith("_reconstruct_persistent_obj") and self.arguments:
            state = plain_items(self.arguments[0]).get("state")
            return plain_items(state) if state is not None else {}
        return self.state or self.items

    @property
    def class_name(self) -> str:
        """The class the object had."""
        if self.origin.endswith("_reconstruct_persistent_obj") and self.arguments:
            return str(plain_items(self.arguments[0]).get("class_name", ""))
        return self.origin.rsplit(".", 1)[-1]


def plain_items(value: Any) -> dict[Any, Any]:
    """A dictionary, or the items or attributes of a dictionary-like stand-in."""
    if isinstance(value, dict):
        return value
    if isinstance(value, StandIn):
        return value.items or value.attributes
    return {}


def read_pickle(path: str | Path) -> Any:
    """The content of a pickle file: plain values, tensors on the CPU, and `StandIn`s.

    Raises `PickleRefusedError` naming the file and what was refused.
    """
    try:
        with Path(path).open("rb") as file:
            return _InertUnpickler(file).load()
    except PickleRefusedError as error:
        raise PickleRefusedError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise PickleRefusedError(f"no file at {path}") from None
    except RecursionError:
        raise PickleRefusedError(f"{path}: objects are nested too deeply") from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise PickleRefusedError(f"{path} is not a readable pickle: {error}") from error


def state_of(module: Any) -> dict[str, Tensor]:
    """The state dict of a stand-in of a module: its parameters and persistent buffers, by dotted name."""
    return dict(_walk(module, ""))


def _walk(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    attributes = plain_items(module)
    hidden = attributes.get("_non_persistent_buffers_set", ())
    skipped = set(hidden.arguments[0] if isinstance(hidden, StandIn) and hidden.arguments else hidden or ())
    for table in ("_parameters", "_buffers"):
        for name, value in plain_items(attributes.get(table)).items():
            if isinstance(value, Tensor) and not (table == "_buffers" and name in skipped):
                yield f"{prefix}{name}", value
    for name, child in plain_items(attributes.get("_modules")).items():
        if child is not None:
            yield from _walk(child, f"{prefix}{name}.")


class _InertUnpickler(pickle.Unpickler):
    """Finds stand-ins instead of classes."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for. Raises `PickleRefusedError` for names it has no use for."""
        real = _REBUILDERS.get(f"{module}.{name}")
        if real is not None:
            return _fresh(real)
        if module in ("builtins", "__builtin__"):
            if name in STAND_IN_BUILTINS:
                return _stand_in(f"builtins.{name}")
        elif module.split(".", 1)[0] in STAND_IN_MODULES:
            return _stand_in(f"{module}.{name}")
        raise PickleRefusedError(
            f"it asks for '{module}.{name}', which no network checkpoint needs; nothing was run. "
            "Do not open this file with other tools"
        )

    def persistent_load(self, pid: Any) -> Any:
        """Checkpoints of this format keep nothing outside the pickle."""
        raise PickleRefusedError("it refers to data outside the file; was it saved with torch.save?")


def _stand_in(origin: str) -> type[StandIn]:
    """A new stand-in class, so that nothing one pickle does to it is seen by another."""
    return type("StandIn", (StandIn,), {"origin": origin})


def _fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """A new function object each time, for the same reason."""
    return lambda *arguments: function(*arguments)


def _load_storage(content: bytes) -> Any:
    """A tensor's memory, always on the CPU, by torch's loader that knows only tensors."""
    if not isinstance(content, bytes):
        raise PickleRefusedError("a tensor's memory is not bytes")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor over a storage; torch checks that it stays inside."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise PickleRefusedError("a tensor has no typed memory")
    size, stride = (
        tuple(value.arguments[0] if isinstance(value, StandIn) else value) for value in (size, stride)
    )
    output: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return output


def _rebuild_parameter(data: Any, *_: Any) -> Tensor:
    """A parameter is kept as its tensor."""
    if not isinstance(data, Tensor):
        raise PickleRefusedError("a parameter is not a tensor")
    return data


def _reconstruct(cls: Any, *_: Any) -> Any:
    """Old-style construction of an empty object."""
    if not (isinstance(cls, type) and issubclass(cls, StandIn)):
        raise PickleRefusedError("an object of an unexpected class")
    return cls()


def _ordered(*arguments: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*arguments)


def _set(values: Any = ()) -> frozenset[Any]:
    return frozenset(values)


_REBUILDERS: dict[str, Callable[..., Any]] = {
    "torch.storage._load_from_bytes": _load_storage,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "copyreg._reconstructor": _reconstruct,
    "copy_reg._reconstructor": _reconstruct,
    "collections.OrderedDict": _ordered,
    "builtins.set": _set,
    "__builtin__.set": _set,
}

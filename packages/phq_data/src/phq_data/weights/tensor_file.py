"""Files of PyTorch tensors that users bring: read as tensors only, compared with a network key by key."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import tarfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import torch
from torch import Tensor

from phq_data import restricted_pickle
from phq_data.errors import ModelError
from phq_data.foreign import check_stored
from phq_data.restricted_pickle import DamagedError, RefusedError, StandIn, is_key, stand_in

_NAMES = re.compile(
    r"torch\.(_utils\._rebuild_(tensor(_v[23])?|parameter)|(cuda\.|storage\.)?\w+Storage|Size|device"
    r"|bool|[a-z]+\d\w*)"
)
"""What files of plain tensors name: how tensors are made, their memory, their types of numbers."""
_LEGACY_PICKLES = (
    4  # before that of the tensors' places: a mark, a version, the sizes of numbers, the content
)


def read(path: str | Path) -> Any:
    """What a file of `torch.save` holds; nothing in it is executed.

    Raises `ModelError` with one sentence when it is missing, damaged or asks for more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's version: it is read or refused all the same
            return load(path)
    except RefusedError as error:
        raise ModelError(f"{path} is refused: {error}") from error
    except pickle.UnpicklingError as error:
        # The library's own words end in how to load the file without protection: not what a user needs here.
        asked = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        what = (
            f"it asks for '{asked[1]}', and only tensors may be in it" if asked else "it is no PyTorch file"
        )
        raise ModelError(f"{path} is refused: {what}") from error
    except Exception as error:
        # A damaged or crafted file can fail in any way inside the library; none of them is our bug.
        raise ModelError(f"{path} is damaged or no PyTorch file ({_first_line(error)})") from error


def load(file: str | Path | BinaryIO) -> Any:
    """What a file of `torch.save` holds, on the CPU; nothing in it is executed.

    PyTorch's reader hashes whatever a file gives as a key (numbers chosen to have one hash, tuples whose hash
    takes for ever) and can hang: so its pickles are read as stand-ins first. Raises `RefusedError`,
    `DamagedError`, `BadZipFile` and whatever PyTorch raises.
    """
    check_stored(file)
    with Path(file).open("rb") if isinstance(file, str | Path) else contextlib.nullcontext(file) as stream:
        _check_pickles(stream)
        stream.seek(0)
        return torch.load(stream, map_location="cpu", weights_only=True)


def _check_pickles(stream: BinaryIO) -> None:
    """Read every pickle of a file of `torch.save` without PyTorch."""
    if stream.read(4) == b"PK\3\4":
        with ZipFile(stream) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".pkl"):
                    restricted_pickle.read(io.BytesIO(archive.read(member)), _find, outside=_storage)
        return
    stream.seek(0)
    if tarfile.is_tarfile(stream):
        raise RefusedError("it is of the form that PyTorch had before 2017: save it again with a newer one")
    stream.seek(0)
    for _ in range(_LEGACY_PICKLES):
        restricted_pickle.read(stream, _find, outside=_storage)
    keys = restricted_pickle.read(stream, _find)
    if not isinstance(keys, list) or not all(map(is_key, keys)):
        raise DamagedError("it does not say where its tensors are")


class _Table(StandIn):
    """An ordered dictionary or counter: empty or made of a dictionary, filled by items, with attributes."""

    def __new__(cls, *given: Any) -> _Table:
        """Raises `RefusedError` for one that is made of anything else, as of pairs, whose keys it hashes."""
        if not all(isinstance(one, dict) for one in given):
            raise RefusedError("it has a table of an unexpected form")
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise RefusedError("it has a table of an unexpected form")


def _find(module: str, name: str) -> Callable[..., Any]:
    if module == "collections" and name in ("OrderedDict", "Counter"):
        return _Table
    if _NAMES.fullmatch(f"{module}.{name}"):
        return stand_in(f"{module}.{name}")
    raise RefusedError(f"it asks for '{module}.{name}', and only tensors may be in it")


def _storage(reference: Any) -> Any:
    """A tensor's memory, by PyTorch's description: its parts, one of which (a view) has parts of its own."""
    listed = reference if isinstance(reference, tuple) else (reference,)
    for part in listed:
        inner = part if isinstance(part, tuple) else (part,)
        if not all(is_key(one) or isinstance(one, type) for one in inner):
            raise RefusedError("it refers to data in an unexpected form")
    return stand_in("storage")()


def fitting(value: Any, expected: Tensor, key: str, name: str) -> Tensor:
    """The tensor `value` of the file `name` as the network's tensor `expected` [...] wants it: contiguous
    numbers of its shape and type.

    Raises `ModelError` for another shape or kind of number, for numbers that are not finite, and for
    negative variances, which no batch norm can have.
    """
    other = f"{name} holds the weights of another network"
    if not isinstance(value, Tensor) or value.shape != expected.shape:
        found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ModelError(f"{other}: {key!r} is {found}, not {list(expected.shape)}")
    plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not plain or value.is_complex() or value.is_floating_point() != expected.is_floating_point():
        raise ModelError(f"{other}: {key!r} holds numbers of another kind ({value.dtype}, {value.layout})")
    fitted = value.detach().to(expected.dtype).contiguous()
    if fitted.is_floating_point() and not bool(torch.isfinite(fitted).all()):
        raise ModelError(f"{name} is damaged: {key!r} holds numbers that are not finite")
    if key.endswith("running_var") and bool((fitted < 0).any()):
        raise ModelError(f"{name} is damaged: {key!r} holds negative variances")
    return fitted


def tensors_of(content: Any) -> Mapping[str, Any] | None:
    """A state dict's entries under text keys; None when this is none."""
    if not isinstance(content, Mapping):
        return None
    return {str(key): value for key, value in content.items()}


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0].split(". ")[0][:160] if text else type(error).__name__

"""Files of `torch.save` that others made, read as tensors after a look at their pickles without PyTorch."""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

from phq_data import restricted_pickle
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


def load(file: str | Path | BinaryIO) -> Any:
    """What a file of `torch.save` holds, on the CPU; nothing in it is executed.

    PyTorch's reader hashes whatever a file gives as a key (numbers chosen to have one hash, tuples whose hash
    takes for ever) and can hang: so its pickles are read as stand-ins first. Raises `RefusedError`,
    `DamagedError`, `BadZipFile` and whatever PyTorch raises.
    """
    import torch  # only here: the light core does without

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

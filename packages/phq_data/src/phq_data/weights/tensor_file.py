"""Files of PyTorch tensors that users bring: read as tensors only, compared with a network key by key."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phq_data.errors import ModelError
from phq_data.restricted_pickle import RefusedError
from phq_data.tensor_pickle import load


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

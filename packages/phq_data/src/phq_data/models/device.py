"""Where networks run: one setting, `device`, for those of ONNX Runtime and of PyTorch.

`auto` is what `PHQ_DEVICE` says (`cpu`, `cuda`, `cuda:1`, ...), else a GPU where one can be used, else the
CPU. A GPU that is asked for by name and cannot be used is an error that says what to install.
"""

from __future__ import annotations

import os

from phq_data.errors import ModelError
from phq_data.models import onnx

VARIABLE = "PHQ_DEVICE"


def onnx_device(wanted: str = "auto") -> str:
    """Where ONNX Runtime runs networks: `cpu`, `cuda` or `cuda:N`. Raises `ModelError`."""
    asked = _asked(wanted)
    if asked == "auto":
        return "cpu" if onnx.gpu_fault() else "cuda"
    if not asked.startswith("cuda"):
        return "cpu"  # a device that only PyTorch knows
    if fault := onnx.gpu_fault(asked):
        raise ModelError(
            f"device={asked}: {fault}. On a machine with an NVIDIA GPU: pip uninstall onnxruntime, then "
            "pip install onnxruntime-gpu with CUDA and cuDNN as its page says; else device=cpu or auto"
        )
    return asked


def torch_device(wanted: str = "auto") -> str:
    """Where PyTorch runs networks, as `torch.device` takes it. Raises `ModelError`."""
    import torch

    asked = _asked(wanted)
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f"device={asked}: the installed PyTorch {torch.__version__} sees no GPU. On a machine with an "
            "NVIDIA GPU install its build for CUDA (pytorch.org); else device=cpu or auto"
        )
    return asked


def _asked(wanted: str) -> str:
    return os.environ.get(VARIABLE) or wanted if wanted == "auto" else wanted

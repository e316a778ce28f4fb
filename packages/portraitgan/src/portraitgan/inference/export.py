"""The networks as programs of other runtimes: `torch.export` (.pt2) and ONNX, and `export.json` beside them.

What was written is run again, on other numbers and another batch than it was traced with, and compared with
the network; the largest difference is kept in `export.json`. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from phq_data.errors import PhqError
from phq_data.files import TEMPORARY, OutputError, file_sha256, new_folder, write_text
from portraitgan.checkpoints import weights
from portraitgan.inference.errors import InferenceError, need
from portraitgan.inference.export_parts import MEANINGS, Part, parts_of
from portraitgan.inference.model import Model
from portraitgan.inference.model_card import facts_of
from portraitgan.reference_mode import reference_mode

Format = Literal["torch", "onnx"]
SUFFIXES: Mapping[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
MANIFEST, MANIFEST_FORMAT = "export.json", "portraitgan-export/1"
TOLERANCE = 1e-3
"""Largest difference from the network, by the largest number it gives; float32 sums in another order."""
LARGEST_ONNX = 2**31 - 2**24
"""Bytes of weights that one ONNX file can hold beside its graph."""
_TRACED, _COMPARED = 2, 3  # batches
_LARGEST_SIZE = 2**20  # of a dimension that may have any size
_OPSET = 20


@dataclass(frozen=True)
class Value:
    """An input or an output of a part."""

    name: str
    shape: tuple[int | str, ...]  # names where any size is taken
    meaning: str  # with units and frames
    type: str = "float32"


@dataclass(frozen=True)
class Exported:
    """What was written of a part."""

    part: str
    file: str
    sha256: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    difference: float  # the largest from the network, by the largest number it gives


def export(
    model: Model,  # on the CPU, in full precision
    folder: str | Path,
    form: Format,
    chosen: Sequence[str] = (),  # names of parts; none: all that the model has
    license_name: str | None = None,
    told: Callable[[Exported], None] = lambda exported: None,
) -> tuple[Exported, ...]:
    """Write the parts of a model and `export.json` into a new folder.

    Raises `InferenceError` for unknown parts, missing packages, a folder that holds something, or a program
    that gives other numbers; `OutputError` where the folder cannot be written.
    """
    for package in ("onnx", "onnxscript", "onnxruntime") if form == "onnx" else ():
        need(package, "export")
    parts = _chosen(model, form, chosen)
    folder = Path(folder)
    with _appearing(folder) as unfinished:
        done = []
        for part in parts:
            done.append(_export_part(part, unfinished, form))
            told(done[-1])
        said = json.dumps(_manifest(model, form, license_name, done), indent=1, ensure_ascii=False)
        write_text(unfinished / MANIFEST, said + "\n")
    return tuple(done)


def _chosen(model: Model, form: Format, names: Sequence[str]) -> list[Part]:
    """The parts of those names, or all that the format can say."""
    known = {part.name: part for part in parts_of(model)}
    for name in names:
        if name not in known:
            raise InferenceError(f"there is no part {name!r}; this model has {', '.join(known)}")
        if form == "onnx" and (why := known[name].not_onnx) is not None:
            raise InferenceError(f"{name} cannot be exported as onnx: {why}")
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    return [part for part in known.values() if form == "torch" or part.not_onnx is None]


def _manifest(
    model: Model, form: Format, license_name: str | None, done: Sequence[Exported]
) -> dict[str, Any]:
    files = [weights.CONFIG_FILE] + [
        f"{name}.safetensors" for name in (weights.GENERATOR_EMA, weights.DISCRIMINATOR_EMA)
    ]
    return {
        "format": MANIFEST_FORMAT,
        "runtime": form,
        "made_with": {"torch": torch.__version__, **({"opset": _OPSET} if form == "onnx" else {})},
        "model": {
            "checkpoint": model.folder.name,
            "sha256": {name: file_sha256(path) for name in files if (path := model.folder / name).is_file()},
            "release": facts_of(model.folder, None).release,  # digest of what was trained on
            "license": license_name,  # none: nobody has said
        },
        "precision": "float32",
        "tolerance": TOLERANCE,
        "parts": [asdict(one) for one in done],
        "config": json.loads(model.config.to_json()),
    }


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of `folder` at the end; on any error it is removed."""
    folder = folder.resolve()
    if folder == Path.cwd() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise InferenceError(f"{folder} holds something already: give a new folder")
    unfinished = folder.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{folder.name}")
    try:
        with new_folder(folder.parent):
            try:
                unfinished.mkdir()
                yield unfinished
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        if isinstance(error, PhqError):
            raise
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


@torch.no_grad()
def _export_part(part: Part, folder: Path, form: Format) -> Exported:
    module = part.module.eval()
    inputs, others = part.example(_TRACED), part.example(_COMPARED)
    wanted = _outputs(module(*others))
    if not all(bool(torch.isfinite(one).all()) for one in wanted):
        raise InferenceError(
            f"{part.name} gives numbers that are not finite: its training has diverged; use an earlier "
            "checkpoint"
        )
    path = folder / f"{part.name}{SUFFIXES[form]}"
    try:
        found = _written(part, path, form, inputs, others)
    except RuntimeError as error:  # whatever torch's exporters raise derives from it
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].partition("\x1b")[0]
        raise InferenceError(
            f"torch {torch.__version__} cannot export {part.name} as {form}: {first}"
        ) from error
    differences = [_difference(one, other) for one, other in zip(wanted, found, strict=True)]
    if not all(one <= TOLERANCE for one in differences):  # NaN is none
        raise InferenceError(
            f"{part.name} gives other numbers as {form} than the network: they differ by "
            f"{max(differences):.3g} of the largest, where {TOLERANCE:g} would be rounding; nothing was kept"
        )
    made = _values(part, part.inputs, inputs), _values(part, part.outputs, wanted)
    return Exported(part.name, path.name, file_sha256(path), *made, max(differences))


def _written(
    part: Part, path: Path, form: Format, inputs: tuple[Tensor, ...], others: tuple[Tensor, ...]
) -> list[Tensor]:
    """What the program that was written to `path`, traced with `inputs`, gives for `others`."""
    with warnings.catch_warnings():
        # Inputs share a size, which is "batch" for all; weights lie on the CPU.
        for said in ("# The axis name: ", "No complete tensor found in the group"):
            warnings.filterwarnings("ignore", said, UserWarning)
        program = _traced(part, inputs)
        if form == "onnx":
            path.write_bytes(_as_onnx(part, program, inputs))
            return _run_onnx(path, part, others)
        with path.open("wb") as stream:
            torch.export.save(program, stream)
        return _outputs(torch.export.load(path).module()(*others))


def _traced(part: Part, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    free = _free_sizes(part, part.inputs, inputs)
    names = {name for one in free for name in one.values()}
    made = {name: torch.export.Dim(name, min=1, max=_LARGEST_SIZE) for name in names}
    sizes = tuple({axis: made[name] for axis, name in one.items()} for one in free)
    # The plain forms of the networks do not depend on the batch's size, as some fast ones do.
    with reference_mode() if part.any_batch else nullcontext():
        part.module(*inputs)  # makes the constants that the networks keep, outside of the trace
        return torch.export.export(part.module, inputs, dynamic_shapes=sizes)


def _free_sizes(part: Part, names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[dict[int, str], ...]:
    """Of every input or output: dimensions that may have any size, with their names."""
    return tuple(
        {
            **({0: "batch"} if part.any_batch and one.ndim else {}),
            **({1: part.free[name]} if name in part.free else {}),
        }
        for name, one in zip(names, tensors, strict=True)
    )


def _as_onnx(part: Part, program: torch.export.ExportedProgram, inputs: tuple[Tensor, ...]) -> bytes:
    size = sum(one.numel() * one.element_size() for one in program.state_dict.values())
    if size > LARGEST_ONNX:
        raise InferenceError(
            f"{part.name} has {size / 2**30:.1f} GiB of weights and an ONNX file holds 2: use --format torch"
        )
    made = torch.onnx.export(
        program, input_names=part.inputs, output_names=part.outputs, opset_version=_OPSET, dynamo=True,
        verbose=False, external_data=False, dynamic_shapes=_free_sizes(part, part.inputs, inputs),
    )  # fmt: skip
    assert made is not None
    written: bytes = made.model_proto.SerializeToString()
    return written


def _run_onnx(path: Path, part: Part, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    fed = {name: value.numpy() for name, value in zip(part.inputs, inputs, strict=True)}
    return [torch.from_numpy(np.asarray(one)) for one in session.run(list(part.outputs), fed)]


def _values(part: Part, names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[Value, ...]:
    free = _free_sizes(part, names, tensors)
    return tuple(
        Value(name, tuple(sizes.get(axis, size) for axis, size in enumerate(one.shape)), MEANINGS[name])
        for name, one, sizes in zip(names, tensors, free, strict=True)
    )


def _difference(wanted: Tensor, found: Tensor) -> float:
    if wanted.shape != found.shape:
        return float("inf")
    return float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-6))


def _outputs(made: Any) -> list[Tensor]:
    return [made] if isinstance(made, Tensor) else list(made)

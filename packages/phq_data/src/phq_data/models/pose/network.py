"""A pose network in an ONNX file: what its file and one run tell of it, and running it on crops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import Float32Array, FloatArray
from phq_data.errors import ModelError
from phq_data.files import file_sha256
from phq_data.foreign import reading
from phq_data.models import onnx
from phq_data.models.pose.decode import decode_heatmap, decode_simcc
from phq_data.models.pose.description import LAYOUTS, PoseDescription
from phq_data.models.user_network import UNKNOWN, find, input_size, run

_OTHER_LAYOUT = "name all its keypoints in 'keypoints' of the JSON beside it"


@dataclass(frozen=True)
class PoseNetwork:
    """A network and all that is known of it; cheap to make or to send away."""

    path: Path
    sha256: str
    description: PoseDescription  # complete
    threads: int = 1
    device: str = "cpu"

    def keypoints(self, crops: NDArray[np.uint8]) -> FloatArray:
        """COCO-17 keypoints [N, 17, 3] in pixels of RGB crops [N, H, W, 3] of the input's size; scores 0..1.

        Raises `ModelError` when the network answers with numbers that are not finite.
        """
        told = self.description
        assert told.input_size is not None
        answers = run(self.path, self.sha256, told, told.outputs, crops, self.threads, self.device)
        outputs = [answers[name][:, told.order] for name in told.outputs]
        if told.head == "simcc":
            found = decode_simcc(outputs[0], outputs[1], told.input_size[0])
        else:
            found = decode_heatmap(outputs[0], told.input_size, udp=bool(told.udp))
        found[..., 2] = np.clip(found[..., 2] / told.score_scale, 0.0, 1.0)
        return found


def find_network(file: str) -> tuple[Path, PoseDescription]:
    """The file that is meant and what is said of it: a path, or "" for the network that was added.

    Raises `ModelError` when it is not there or its description cannot be read.
    """
    return find("pose", file, PoseDescription)


def open_network(
    path: Path, description: PoseDescription, threads: int = 1, device: str = "cpu"
) -> PoseNetwork:
    """The network in a file, with its description completed. Raises `ModelError` as `complete` does."""
    with reading(path, ModelError, "name another file"):
        sha256 = file_sha256(path)
    return PoseNetwork(path, sha256, complete(path, sha256, description, threads)[0], threads, device)


def complete(
    path: Path, sha256: str, description: PoseDescription, threads: int = 1
) -> tuple[PoseDescription, list[str]]:
    """The description with all that it leaves open, and what of that was assumed, in sentences.

    Raises `ModelError`, with one sentence that says what to do, for a file that is no network, one of other
    inputs or outputs than a pose network's, and a description that does not agree with it.
    """
    session = onnx.open_file(path, sha256, threads)
    told = replace(description, title=description.title or path.stem)
    told = replace(told, input_size=input_size(path, session.get_inputs(), told))
    width, height = told.input_size or (0, 0)
    told = replace(told, outputs=_outputs(path, [output.name for output in session.get_outputs()], told))
    gray = np.full((1, height, width, 3), 128, np.uint8)
    answers = run(path, sha256, told, told.outputs, gray, threads)
    told = _with_head(path, told, answers, given=bool(description.outputs))
    count = answers[told.outputs[0]].shape[1]
    assumed = []
    if told.count is None:
        layouts = [layout for layout, size in LAYOUTS.items() if size == count]
        if not layouts:
            raise ModelError(f"{path} finds {count} keypoints, which is no known layout: {_OTHER_LAYOUT}")
        told = replace(told, layout=layouts[0])
        assumed.append(f"its {count} keypoints are those of {layouts[0]}, in that order")
    elif told.count != count:
        raise ModelError(
            f"{path} finds {count} keypoints, and its description says {told.count}: {_OTHER_LAYOUT}"
        )
    if told.head == "heatmap" and told.udp is None:
        told = replace(told, udp=True)
        assumed.append('its heatmaps are of unbiased processing, as ViTPose\'s (else "udp": false)')
    if replace(description, license=UNKNOWN) == PoseDescription():
        assumed.append("it was trained as OpenMMLab does: RGB, ImageNet's mean, 1.25 times a person's box")
    return told, assumed


def _outputs(path: Path, there: list[str], told: PoseDescription) -> tuple[str, ...]:
    """The outputs to look at: those that are said, else those called as OpenMMLab calls them, else all."""
    if lacking := [name for name in told.outputs if name not in there]:
        raise ModelError(f"{path} has no output {lacking[0]!r}; it has {', '.join(there)}")
    usual = ("simcc_x", "simcc_y")
    return told.outputs or (usual if set(usual) <= set(there) else tuple(there))


def _with_head(
    path: Path, told: PoseDescription, answers: Mapping[str, Float32Array], *, given: bool
) -> PoseDescription:
    """`told` with its head, by the shapes of what the network answers; `given`: in the right order."""
    shapes = {name: answer.shape for name, answer in answers.items()}
    width, height = told.input_size or (0, 0)
    names = told.outputs
    found = [shapes[name] for name in names]
    shown = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    vectors, maps = all(len(s) == 3 for s in found), all(len(s) == 4 for s in found)
    if vectors and len(names) == 2 and found[0][:2] == found[1][:2]:
        head = "simcc"
        if found[0][2] * height != found[1][2] * width and not given:
            names, found = names[::-1], found[::-1]  # y before x
        fits = found[0][2] * height == found[1][2] * width and found[0][2] >= width
    elif maps and len(names) == 1:
        head = "heatmap"
        fits = found[0][3] * height == found[0][2] * width and 2 <= found[0][3] <= width
    else:
        head, fits = "", False
    if not fits or head != (told.head or head) or found[0][0] != 1:
        raise ModelError(
            f"the outputs of {path} ({shown}) for an input of {width} x {height} pixels are neither a SimCC "
            "head's [1, K, width * r] and [1, K, height * r] nor a heatmap [1, K, height / s, width / s]: "
            "export the network up to its head, or name the right ones in 'outputs' of the JSON beside it"
        )
    return replace(told, head="simcc" if head == "simcc" else "heatmap", outputs=names)

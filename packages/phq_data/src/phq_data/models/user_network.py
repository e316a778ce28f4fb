"""A network of the user's in an ONNX file that sees one image: what its input must be, and running it.

Pose networks and age networks (`models.pose`, `models.age`) say the same things of their input, in the JSON
beside the file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from phq_data import typed_json
from phq_data.arrays import Float32Array
from phq_data.errors import ModelError
from phq_data.files import read_written_text
from phq_data.foreign import reading
from phq_data.models import onnx
from phq_data.typed_json import ConfigError
from phq_data.weights import store

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Description:
    """The JSON beside a network's file, as far as all kinds say the same."""

    NOUN: ClassVar[str]  # what it is, in messages: "a pose network"

    title: str = ""  # what it is called, for people
    license: str = UNKNOWN  # of the weights, as their maker says
    source: str = ""  # where the file came from
    input_size: tuple[int, int] | None = None  # width, height in pixels
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # of `channels`, of 0..255
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        if not all(deviation > 0 for deviation in self.std) or max(*self.mean, *self.std) < 1:
            raise ConfigError("'mean' and 'std' are of pixels from 0 to 255, and no 'std' is 0 or less")
        if min(self.input_size or (1, 1)) <= 0:
            raise ConfigError("'input_size' is more than 0")

    def to_json(self) -> str:
        """The JSON, without what is left open."""
        told = {key: value for key, value in dataclasses.asdict(self).items() if value not in (None, (), "")}
        return json.dumps(told, indent=2) + "\n"

    def licensed(self, license: str) -> Self:
        """This description with that license, if one is given."""
        return dataclasses.replace(self, license=license or self.license)

    def facts(self) -> dict[str, object]:
        """What the network's answers depend on: all but what is for people, as JSON values."""
        about = ("title", "license", "source")
        return {name: value for name, value in typed_json.plain(self).items() if name not in about}

    @classmethod
    def read(cls, text: str, where: object) -> Self:
        """The description in a JSON text. Raises `ModelError` that names `where` and the entry."""
        try:
            return typed_json.read_text(cls, text)
        except ConfigError as error:
            raise ModelError(f"{where} is to describe {cls.NOUN}: {error}") from error

    @classmethod
    def read_beside(cls, network: Path) -> Self:
        """The description beside a network's file, or an empty one where there is none.

        Raises `ModelError`.
        """
        path = beside(network)
        if not path.exists():
            return cls()
        with reading(path, ModelError, "mend it, or delete it to have it written anew"):
            text = read_written_text(path)
        return cls.read(text, path)


D = TypeVar("D", bound=Description)


def beside(network: Path) -> Path:
    """Where the JSON of a network's file lies: `rtmpose-m.json` beside `rtmpose-m.onnx`."""
    return network.with_suffix(".json")


def find(name: str, file: str, kind: type[D]) -> tuple[Path, D]:
    """The file that is meant and what is said of it: a path, or "" for the network added as `name`.

    Raises `ModelError` when it is not there or its description cannot be read.
    """
    if not file:
        path, _ = store.verified_file(name)
        kept = store.record(name)
        return path, kind.read(kept.description if kept else "{}", f"the record of {path}")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ModelError(
            f"there is no {kind.NOUN.partition(' ')[2]} {file}; give an .onnx file, or add one: phq models "
            f"add {name} FILE.onnx"
        )
    return path, kind.read_beside(path)


def input_size(path: Path, inputs: Sequence[Any], told: Description) -> tuple[int, int]:
    """Width and height of the one input, by its shape or else by the description.

    Raises `ModelError` for other inputs than one image in 32 bits, and for a size that does not agree with
    the description or that nobody says.
    """
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise ModelError(f"{path} wants {len(inputs)} inputs ({names}); {told.NOUN} has one, the image")
    number, shape = inputs[0].type, inputs[0].shape
    if number != "tensor(float)":
        raise ModelError(f"{path} wants {number} as input: export it with 32-bit floating-point numbers")
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ModelError(f"the input of {path} is {shape}, not an image [batch, 3, height, width]")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ModelError(f"{path} takes {shape[0]} images at a time: export it for one, or for any number")
    height, width = shape[2:] if shape[1] == 3 else shape[1:3]
    if isinstance(width, int) and isinstance(height, int):
        if told.input_size not in (None, (width, height)):
            raise ModelError(f"the input of {path} is {width} x {height} pixels, not as 'input_size' says")
        return width, height
    if told.input_size is None:
        raise ModelError(
            f"{path} takes images of any size: say which it was trained for in the JSON beside it, for "
            'example {"input_size": [192, 256]} (width, height)'
        )
    return told.input_size


def run(
    path: Path,
    sha256: str,
    told: Description,
    names: Sequence[str],
    crops: NDArray[np.uint8],  # [N, H, W, 3] RGB, of the input's size
    threads: int = 1,
    device: str = "cpu",
) -> dict[str, Float32Array]:
    """The outputs called `names` for crops, each [N, ...]. Raises `ModelError` when one is not finite.

    One crop at a time: what is seen of one person must not depend on the others.
    """
    session = onnx.open_file(path, sha256, threads, device)
    given = session.get_inputs()[0]
    pixels = crops[..., ::-1] if told.channels == "bgr" else crops
    images = (pixels - np.array(told.mean, np.float32)) / np.array(told.std, np.float32)
    if given.shape[1] == 3:
        images = images.transpose(0, 3, 1, 2)
    images = np.ascontiguousarray(images, np.float32)
    try:
        answers = [session.run(list(names), {given.name: image[None]}) for image in images]
    except Exception as error:  # the runtime's errors have no class in common
        raise ModelError(f"{path} does not run ({onnx.message(error)}): export the network again") from error
    joined = {}
    for name, parts in zip(names, zip(*answers, strict=True), strict=True):
        if not all(isinstance(part, np.ndarray) and part.dtype == np.float32 for part in parts):
            raise ModelError(f"the output {name} of {path} is no array of 32-bit floating-point numbers")
        joined[name] = np.concatenate([np.atleast_1d(part) for part in parts])
        if not np.isfinite(joined[name]).all():
            raise ModelError(
                f"{path} answers with numbers that are not finite ({name}): its weights are damaged, or its "
                "16-bit weights overflow; get it in 32 bits"
            )
    return joined

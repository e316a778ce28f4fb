"""A user's age network in an ONNX file: what its JSON says, and what it says of heads.

Its output is years (`index`, `scale`, `offset`) or one number for each class of ages (`bins`); of classes the
mean and the standard deviation are taken, with every year of a class as likely as the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.errors import ModelError
from phq_data.files import file_sha256
from phq_data.foreign import reading
from phq_data.models import onnx
from phq_data.models.fingerprints import fingerprint
from phq_data.models.protocols import AgeEstimate, ModelTerms
from phq_data.models.user_network import UNKNOWN, Description, find, input_size, run
from phq_data.typed_json import ConfigError

CODE_VERSION = 1  # raise it when the same network and description would give other ages
EVERY_YEAR = tuple((year, year) for year in range(101))
"""The classes of networks that tell the years 0 to 100 apart."""


@dataclass(frozen=True)
class AgeDescription(Description):
    """An age network's JSON. What is left out is taken from the network, or assumed (`complete`)."""

    NOUN = "an age network"

    padding: float = 1.2  # side of the square that it sees over that of the head
    output: str = ""  # its name; "" = the first
    bins: tuple[tuple[int, int], ...] = ()  # first and last year of every class, in the network's order
    softmax: bool = True  # the numbers of the classes are logits, not yet probabilities
    index: int | None = None  # without bins: which number of the output is the age
    scale: float = 1.0  # years = scale * number + offset
    offset: float = 0.0
    error: float = 0.0  # years: standard deviation of its errors, as its maker says; 0 = not known

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.padding <= 4 or self.scale == 0 or self.error < 0 or (self.index or 0) < 0:
            raise ConfigError(
                "'padding' is more than 0 (at most 4), 'scale' not 0, 'error', 'index' not less"
            )
        if any(not 0 <= first <= last <= 130 for first, last in self.bins):
            raise ConfigError("'bins' are [first year, last year] of every class, from 0 to 130")
        if self.bins and self.index is not None:
            raise ConfigError("'bins' and 'index' exclude each other: give one of them")
        if self.input_size and self.input_size[0] != self.input_size[1]:
            raise ConfigError("'input_size' is square: heads are cut out as squares")


@dataclass(frozen=True)
class AgeNetwork:
    """An `AgeEstimator`: a network and all that is known of it."""

    path: Path
    sha256: str
    description: AgeDescription  # complete
    threads: int = 1
    device: str = "cpu"

    @property
    def fingerprint(self) -> str:
        """Of the file and what its answers depend on."""
        facts = self.description.facts()
        return fingerprint("age", CODE_VERSION, network=self.sha256, description=facts)

    @property
    def terms(self) -> ModelTerms:
        """What its JSON says of it."""
        return ModelTerms(self.description.title, self.description.license, self.description.source)

    @property
    def side(self) -> int:
        """Of the square that it sees, pixels."""
        assert self.description.input_size is not None
        return self.description.input_size[0]

    @property
    def padding(self) -> float:
        """Side of that square over that of the head."""
        return self.description.padding

    def estimate(self, heads: NDArray[np.uint8]) -> list[AgeEstimate]:
        """The age of every head [N, side, side, 3] RGB. Raises `ModelError`, also for impossible ages."""
        told = self.description
        found = run(self.path, self.sha256, told, [told.output], heads, self.threads, self.device)
        answers = found[told.output].reshape(len(heads), -1).astype(np.float64)
        if told.index is None and not told.softmax and (answers < 0).any():
            raise ModelError(
                f'{self.path}: its classes are no probabilities; say "softmax": true in the JSON beside it'
            )
        years = _of_classes if told.index is None else _of_years
        ages = [years(row, told) for row in answers]
        for age in ages:
            if not -20 <= age.years <= 150:
                raise ModelError(
                    f"{self.path} says that somebody is {age.years:.0f} years old: correct 'scale', "
                    "'offset', 'mean' or 'std' in the JSON beside it and add it again"
                )
        return ages


def find_network(name: str) -> tuple[Path, AgeDescription]:
    """The file that the setting `screen.age_model` means (`age` or `age:FILE`) and what is said of it.

    Raises `ModelError`.
    """
    kind, _, file = name.partition(":")
    if kind != "age":
        raise ModelError(f"screen.age_model is age, age:FILE.onnx or nothing, not {name!r}")
    return find("age", file, AgeDescription)


def open_network(
    path: Path, description: AgeDescription, threads: int = 1, device: str = "cpu"
) -> AgeNetwork:
    """The network in a file, with its description completed. Raises `ModelError` as `complete` does."""
    with reading(path, ModelError, "name another file"):
        sha256 = file_sha256(path)
    return AgeNetwork(path, sha256, complete(path, sha256, description, threads)[0], threads, device)


def complete(
    path: Path, sha256: str, description: AgeDescription, threads: int = 1
) -> tuple[AgeDescription, list[str]]:
    """The description with all that it leaves open, and what of that was assumed, in sentences.

    Raises `ModelError`, with one sentence that says what to do, for a file that is no age network and for a
    description that does not agree with it.
    """
    session = onnx.open_file(path, sha256, threads)
    told = replace(description, title=description.title or path.stem)
    width, height = input_size(path, session.get_inputs(), told)
    if width != height:
        raise ModelError(f"{path} takes images of {width} x {height} pixels: an age network takes squares")
    names = [output.name for output in session.get_outputs()]
    told = replace(told, input_size=(width, height), output=told.output or names[0])
    if told.output not in names:
        raise ModelError(f"{path} has no output {told.output!r}; it has {', '.join(names)}")
    gray = np.full((1, height, width, 3), 128, np.uint8)
    count = run(path, sha256, told, [told.output], gray, threads)[told.output].size
    assumed = []
    if not told.bins and told.index is None:
        if count == len(EVERY_YEAR):
            assumed.append("its 101 numbers are the years 0 to 100")
        elif count == 1:
            told = replace(told, index=0)
            if (told.scale, told.offset) == (1.0, 0.0):
                assumed.append("its number is the age in years (else say 'scale' and 'offset')")
        else:
            raise ModelError(
                f"{path} answers with {count} numbers: say in the JSON beside it what they mean, by 'bins' "
                '(as [[0, 2], [3, 9], ...], the years of each class) or "index" (which one is the age)'
            )
    if len(told.bins) not in (0, count) or (told.index or 0) >= count:
        raise ModelError(f"{path} answers with {count} numbers, which 'bins' or 'index' do not agree with")
    if replace(description, license=UNKNOWN) == AgeDescription():
        assumed.append("it sees heads with a margin of a fifth, RGB, with ImageNet's mean")
    return told, assumed


def _of_classes(numbers: FloatArray, told: AgeDescription) -> AgeEstimate:
    if told.softmax:
        numbers = np.exp(numbers - numbers.max())
    shares = numbers / max(float(numbers.sum()), 1e-12)
    first, last = np.array(told.bins or EVERY_YEAR, np.float64).T
    middle, width = (first + last + 1) / 2, last - first + 1  # somebody of 25 is between 25 and 26
    years = float(shares @ middle)
    return AgeEstimate(years, float(np.sqrt(shares @ (middle**2 + width**2 / 12) - years**2)))


def _of_years(numbers: FloatArray, told: AgeDescription) -> AgeEstimate:
    years = told.scale * float(numbers[told.index or 0]) + told.offset
    return AgeEstimate(years, told.error or None)

"""What a stage is, what it is given, and how it accounts for its items.

A stage is a pure function of (records, images, config, models). It knows nothing of Prefect, of files or of
other stages. It accounts for every item that it was given: kept, rejected (with a reason and the numbers
behind it) or failed (with the class of the error and whether another try may help).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from phq_data.config import PipelineConfig
from phq_data.models.protocols import AgeEstimator, BodyFitter, PersonDetector, Segmenter
from phq_data.models.reference_inputs import ReferenceInputs
from phq_data.records import LedgerEntry, Photo, Record
from phq_data.rig import PortraitRig
from phq_data.stages.relabel import AppliedCorrection

R = TypeVar("R", bound=Record)

OpenPhoto = Callable[[Photo], NDArray[np.uint8]]
"""A photo to its upright sRGB pixels [H, W, 3]. Raises `PhotoError`, and `OSError` when it cannot be read."""

ReadBytes = Callable[[str], bytes]
"""The `key` of a planned file or photo to its bytes. Raises `OSError`."""

Corrections = Mapping[str, AppliedCorrection]
"""person_id -> the label that people gave them."""

Tick = Callable[[], None]
"""Called once for every item done, for progress."""


def no_tick() -> None:
    """The `Tick` of callers that show no progress."""


@dataclass(frozen=True)
class Stage(Generic[R]):
    """One step of a build. `sequence.STAGES` lists them."""

    name: str
    title: str  # for people, beside a progress bar
    version: int  # raised when the result changes for the same input
    makes: type[R]  # the records of the table that it writes
    reads: tuple[type[Record], ...]  # the tables whose part i it reads; records of the first are its items
    item: str  # the key of an item: a field of the first
    made_with: Callable[[PipelineConfig, ModelSet], list[object]]
    """The settings and models that its result depends on: they enter the fingerprint of its parts."""
    run: Callable[[Inputs, StageContext], StageResult[R]]
    corrected: bool = False  # does it take labels that people corrected?

    @property
    def table(self) -> str:
        """The table that it writes."""
        return self.makes.table


class Inputs:
    """Part i of every table that a stage reads."""

    def __init__(self, records: Mapping[type[Record], Sequence[Record]]) -> None:
        self._records = dict(records)

    def of(self, kind: type[R]) -> list[R]:
        """The records of one table, in its order."""
        return cast("list[R]", self._records[kind])


class Labeller(Protocol):
    """The models that label a photo, each loaded when first asked for."""

    @property
    def detector(self) -> PersonDetector:
        """Finds people."""
        ...

    @property
    def fitter(self) -> BodyFitter:
        """Fits bodies."""
        ...

    @property
    def segmenter(self) -> Segmenter:
        """Separates people from the background."""
        ...

    @property
    def age(self) -> AgeEstimator | None:
        """Estimates ages, for the screen for minors; None: there is no such screen."""
        ...

    @property
    def rig(self) -> PortraitRig:
        """The rig of the fitter's body."""
        ...

    @property
    def template(self) -> NDArray[np.float64]:
        """Neutral joints [13, 3] of the fitter's body around the neck, metres."""
        ...


class ModelSet(Labeller, Protocol):
    """All models that a config names."""

    @property
    def reference_inputs(self) -> ReferenceInputs:
        """Head boxes and vertex maps that the user brought for the reference's crop."""
        ...


@dataclass(frozen=True)
class StageContext:
    """What a stage works with beside its inputs."""

    config: PipelineConfig
    models: ModelSet
    read: ReadBytes
    open_photo: OpenPhoto
    tick: Tick = no_tick
    corrections: Corrections = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of one item in one stage."""

    item: str  # id of the record that the stage was given
    outcome: Literal["kept", "rejected", "failed"]
    reason: str = ""  # short and stable: "no_person", "blurry", "FileNotFoundError"; "" when kept
    message: str = ""  # a sentence for people
    retryable: bool = False  # may another try help? only for failed
    evidence: Mapping[str, Any] = field(default_factory=dict)  # numbers behind the verdict, JSON-able
    outputs: tuple[str, ...] = ()  # ids of the records that came of it
    uri: str = ""  # of the photo, when the stage knows it

    def entry(self, stage: str, uri: str = "") -> LedgerEntry:
        """This outcome in the ledger of `stage`; `uri` is the photo's where the outcome does not know it."""
        return LedgerEntry(
            stage=stage,
            item=self.item,
            outcome=self.outcome,
            reason=self.reason,
            message=self.message,
            retryable=self.retryable,
            evidence=json.dumps(plain(self.evidence), sort_keys=True),
            outputs=self.outputs,
            uri=self.uri or uri,
        )

    @classmethod
    def failure(cls, item: str, error: BaseException, *, retryable: bool = False, uri: str = "") -> Outcome:
        """The `failed` outcome of an item whose work raised `error`."""
        reason = getattr(error, "reason", "") or type(error).__name__
        text = str(error) or type(error).__name__
        return cls(item, "failed", reason, text, retryable=retryable, uri=uri)


@dataclass(frozen=True)
class StageResult(Generic[R]):
    """Records for the stage's table and one outcome for every item given."""

    records: list[R]
    outcomes: list[Outcome]


def plain(value: Any) -> Any:
    """`value` with numpy numbers and arrays turned into JSON's; floats rounded to 6 digits, nan to null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.integer | int):
        return int(value)
    if isinstance(value, np.floating | float):
        number = float(value)
        return round(number, 6) if np.isfinite(number) else None
    return value

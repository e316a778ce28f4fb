"""What every stage shares: outcomes, results, and how a stage is handed pictures.

A stage is a pure function of (rows, images, config, models). It knows nothing of Prefect, of files or of
other stages. It accounts for every item that it was given: kept, rejected (with a reason and the numbers
behind it) or failed (with the class of the error and whether another try may help).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
"""A row of one of the tables in `schema`; `schema.to_table` checks it on the way out."""

OpenPhoto = Callable[[Row], NDArray[np.uint8]]
"""A row of `photos` to its upright sRGB picture [H, W, 3]. Raises `images.PhotoError`."""

Tick = Callable[[], None]
"""Called once for every item done, for progress."""


def no_tick() -> None:
    """The `Tick` of callers that show no progress."""


@dataclass(frozen=True)
class Outcome:
    """What became of one item in one stage."""

    item: str  # id of the row the stage was given
    outcome: Literal["kept", "rejected", "failed"]
    reason: str = ""  # short and stable: "no_person", "too_blurry", "PhotoError"; "" when kept
    message: str = ""  # a sentence for people
    retryable: bool = False  # may another try help? only for failed
    evidence: Mapping[str, Any] = field(default_factory=dict)  # numbers behind the verdict, JSON-able
    outputs: tuple[str, ...] = ()  # ids of the rows that came of it
    uri: str = ""  # of the photo, when the stage knows it

    def row(self, stage: str) -> Row:
        """This outcome as a row of `schema.LEDGER`."""
        return {
            "stage": stage,
            "item": self.item,
            "outcome": self.outcome,
            "reason": self.reason,
            "message": self.message,
            "retryable": self.retryable,
            "evidence": json.dumps(plain(self.evidence), sort_keys=True),
            "outputs": list(self.outputs),
            "uri": self.uri,
        }

    @classmethod
    def failure(cls, item: str, error: BaseException, *, retryable: bool = False, uri: str = "") -> Outcome:
        """The `failed` outcome of an item whose work raised `error`."""
        reason = getattr(error, "reason", "") or type(error).__name__
        text = str(error) or type(error).__name__
        return cls(item, "failed", reason, text, retryable=retryable, uri=uri)


@dataclass(frozen=True)
class StageResult:
    """Rows for the stage's table and one outcome for every item given."""

    rows: list[Row]
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

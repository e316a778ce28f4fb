"""The numbers behind a screen verdict, each beside what the settings ask of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from phq_data.config import ScreenConfig

_TITLES: Mapping[str, tuple[str, bool]] = {
    "landmark_error": ("landmark error", True),
    "shoulder_error": ("shoulder error", True),
    "effective_resolution": ("effective resolution", False),
    "blur": ("sharpness", False),
    "padding": ("outside the photo", True),
    "head_outside": ("of the head outside the photo", True),
    "coverage": ("of the rig on the person", True),
    "mask_share": ("covered by the person", True),
    "overlap": ("covered by another person", True),
    "exposure_low": ("of the person near black", True),
    "exposure_high": ("of the person near white", True),
    "contrast": ("contrast", False),
    "error_probability": ("error probability", False),
    "expected_yaw_error": ("expected yaw error in degrees", False),
}
"""What each number is called, and whether it is a share."""
_ONE_LIMIT = {"exposure_low": "exposure", "exposure_high": "exposure"}


@dataclass(frozen=True)
class Judged:
    """A number of a screened portrait, for people."""

    title: str
    value: str
    limit: str  # "at most 10 %", or "" when there is none
    broken: bool
    limit_share: float = 0.0  # how near the limit: 1 = at it, above 1 = beyond, 0 = there is none


def judged(numbers: Mapping[str, Any], screen: ScreenConfig) -> tuple[Judged, ...]:
    """`numbers` (the evidence of a ledger row) with the limits of `screen`.

    A number and its limit belong together by name, as `blur` and `min_blur` do (`error_probability` and
    `max_error_probability`). Numbers without a title are shown under their own name.
    """
    return tuple(
        _judge(name, float(numbers[name]), screen)
        for name in _order(numbers)
        if isinstance(numbers[name], int | float) and not isinstance(numbers[name], bool)
    )


def _order(numbers: Mapping[str, Any]) -> Iterable[str]:
    return [*(name for name in _TITLES if name in numbers), *sorted(set(numbers) - set(_TITLES))]


def _judge(name: str, value: float, screen: ScreenConfig) -> Judged:
    if name == "expected_yaw_error":
        value = math.degrees(value)
    title, percent = _TITLES.get(name, (name.replace("_", " "), False))
    of = _ONE_LIMIT.get(name, name)
    most, least = getattr(screen, f"max_{of}", None), getattr(screen, f"min_{of}", None)
    limits = [f"at most {_shown(most, percent)}"] if most is not None else []
    limits += [f"at least {_shown(least, percent)}"] if least is not None else []
    broken = (most is not None and value > most) or (least is not None and value < least)
    digits = 3
    bounds = {_shown(bound, percent) for bound in (most, least) if bound is not None}
    while broken and digits < 7 and _shown(value, percent, digits) in bounds:
        digits += 1  # 0.2496 is below 0.25, and must not be written like it
    shares = [1.0 if broken else 0.0]
    shares += [value / most] if most else []
    shares += [least / value] if least and value > 0 else []
    share = min(max(shares), 99.0) if np.isfinite(value) else 0.0
    return Judged(title, _shown(value, percent, digits), " and ".join(limits), broken, round(share, 3))


def _shown(value: float, percent: bool, digits: int = 3) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{100 * value:.{digits}g} %" if percent else f"{value:.{digits}g}"

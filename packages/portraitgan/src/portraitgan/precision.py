"""Number formats of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HalfPrecision = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class PrecisionConfig:
    """Number formats. Half precision is for the large resolutions of discriminator and super-resolution, and
    bfloat16, which has float32's range, for those of backbone and background too where it is asked for.

    Tri-grid, deformation, ray marching, pose predictors, scores, losses and R1's sums stay in float32, and so
    do weights, moments and EMA.
    """

    half: HalfPrecision = "float16"  # float16 on GPUs only, bfloat16 also in training on a CPU
    synthesis_half_resolutions: int = 0  # how many of the largest of backbone and background: bfloat16 only
    tf32: bool = False  # matrix products and convolutions of the float32 parts
    channels_last: bool = True


PRECISIONS = {
    "fp32": PrecisionConfig("float32"),
    "tf32": PrecisionConfig("float32", tf32=True),
    "fp16": PrecisionConfig("float16"),
    "bf16": PrecisionConfig("bfloat16", synthesis_half_resolutions=3, tf32=True),
}
"""By the names that `portraitgan train --precision` takes."""

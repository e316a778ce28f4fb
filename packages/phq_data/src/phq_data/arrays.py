"""Names for the arrays that many modules pass around; shapes stand beside each use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ImageArray = NDArray[np.uint8]
"""Pixels [H, W, 3], sRGB."""

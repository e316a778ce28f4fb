"""Names for the arrays that many modules pass around; shapes stand beside each use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
ImageArray = NDArray[np.uint8]
"""0..255; [H, W, 3] sRGB where no other shape is named."""

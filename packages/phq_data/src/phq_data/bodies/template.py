"""Where each body model's joints lie when nothing is posed: what a fit's joints are aligned with."""

from __future__ import annotations

import numpy as np

from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.bodies.anny import BodyError, default_rig

# Measured on SMPL's neutral zero pose with the reference's regressor, metres around the neck joint.
_SMPL: dict[str, tuple[float, float, float]] = {
    "pelvis": (-0.001637, -0.510845, 0.043029),
    "neck": (0.000000, 0.000000, 0.000000),
    "head": (0.005150, 0.064984, 0.051347),
    "left_shoulder": (0.172598, -0.061594, -0.000102),
    "right_shoulder": (-0.174996, -0.062437, -0.004917),
    "left_hip": (0.067880, -0.602250, 0.036214),
    "right_hip": (-0.069311, -0.601337, 0.038710),
    "nose": (0.001338, 0.133353, 0.153784),
    "left_eye": (0.034633, 0.163119, 0.114557),
    "right_eye": (-0.032296, 0.162703, 0.112848),
    "left_ear": (0.075741, 0.135686, 0.019974),
    "right_ear": (-0.076054, 0.136405, 0.019756),
    "head_top": (0.000047, 0.267930, 0.021112),
}


def template_joints(body: str) -> FloatArray:
    """Zero-pose joints [13, 3] of a body model in the order of `bodies.JOINT_NAMES`.

    World frame of the labels: metres, y up, facing +z, neck joint at the origin. "smpl" gives the numbers of
    the reference pipeline, "anny" the landmarks of the shipped rig. Raises `BodyError` for another name.
    """
    if body == "smpl":
        return np.array([_SMPL[name] for name in JOINT_NAMES])
    if body == "anny":
        rig = default_rig()
        return np.array([rig.landmarks[rig.landmark(name)] for name in JOINT_NAMES], np.float64)
    raise BodyError(f"no template for body '{body}'; there are 'smpl' and 'anny'")

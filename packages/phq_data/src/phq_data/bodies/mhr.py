"""MHR, Meta's Momentum Human Rig (Apache-2.0): the `PortraitRig` of its neutral body.

Read are the portable arrays of its releases: one `lodN.npz` (0 is the finest mesh, 6 the coarsest), and
`rig.npz` beside it; schema version 1. Its TorchScript file is a program and is not run, its FBX file needs
Momentum. Facts from github.com/facebookresearch/MHR: centimetres, +x the body's left, +y up, +z forward;
rotations are quaternions x, y, z, w; `inverse_bind_pose` [J, 8] is a translation, a rotation and a scale that
take the mesh `base_shape` [V, 3] to each joint's frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from phq_data.arrays import FloatArray
from phq_data.bodies.anny import BodyError
from phq_data.bodies.skinned import CENTIMETRES, JointNames, SkinnedBody, portrait_rig, read_npz
from phq_data.foreign import reading
from phq_data.rig import PortraitRig

SCHEMA = 1
RIG_FILE = "rig.npz"
ADVICE = f"give a lodN.npz of MHR's portable assets, with their {RIG_FILE} beside it"
NAMES = JointNames(
    "c_neck",
    "c_head",
    {
        "left_shoulder": "l_uparm", "right_shoulder": "r_uparm",
        "left_hip": "l_upleg", "right_hip": "r_upleg", "left_eye": "l_eye", "right_eye": "r_eye",
    },
)  # fmt: skip
_RIG = ("schema_version", "joint_names", "joint_parents", "inverse_bind_pose")
_MESH = ("schema_version", "base_shape", "faces", "skin_indices", "skin_weights")


def load_rig(path: str | Path) -> PortraitRig:
    """The rig of MHR's neutral body with the mesh of `path`, a lodN.npz. Raises `BodyError`."""
    path = Path(path)
    if path.suffix != ".npz" or path.name == RIG_FILE:
        raise BodyError(f"{path} does not hold a mesh of MHR's: {ADVICE}")
    arrays: dict[str, NDArray[Any]] = {}
    for file, names in ((path, _MESH), (path.with_name(RIG_FILE), _RIG)):
        found = read_npz(file, names, ADVICE)
        if missing := [name for name in names if name not in found]:
            raise BodyError(f"{file} lacks {', '.join(missing)}: {ADVICE}")
        if found["schema_version"].tolist() != SCHEMA:
            version = found["schema_version"].tolist()
            raise BodyError(f"{file} is of schema version {version}, and {SCHEMA} is known: {ADVICE}")
        arrays |= found
    with reading(path, BodyError, ADVICE):
        body = SkinnedBody(
            name="mhr",
            vertices=arrays["base_shape"].astype(np.float64) * CENTIMETRES,
            faces=arrays["faces"].astype(np.int64),
            joint_names=[str(name) for name in arrays["joint_names"].tolist()],
            parents=arrays["joint_parents"].astype(np.int64),
            joints=_origins(arrays["inverse_bind_pose"].astype(np.float64)) * CENTIMETRES,
            skin_joints=arrays["skin_indices"].astype(np.int64),
            skin_weights=arrays["skin_weights"].astype(np.float64),
        )
    about = {"origin": f"MHR, {path.name} of its portable assets", "license": "Apache-2.0"}
    return portrait_rig(body, NAMES, about)


def _origins(inverse: FloatArray) -> FloatArray:
    """Where joints [J, 3] lie whose inverses [J, 8] take the mesh to their frames: x with s R x + t = 0."""
    if inverse.ndim != 2 or inverse.shape[1] != 8:
        raise BodyError(f"MHR's inverse_bind_pose has shape {inverse.shape}, expected (joints, 8)")
    turn = Rotation.from_quat(inverse[:, 3:7])
    return np.asarray(-turn.inv().apply(inverse[:, :3]) / inverse[:, 7:])

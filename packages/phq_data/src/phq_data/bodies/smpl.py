"""SMPL, from the user's own file: a fit's mesh through smplx, and the `PortraitRig` of the reference labels.

Frame of the unposed body: metres, y up, facing +z, the body's left is +x, as in SMPL's file. The rig is the
neutral body (zero shape and pose) moved so that the neck joint is the origin (data specification, section 4).

smplx and SMPL are licensed for non-commercial use. A release with these labels carries a recipe for the rig,
never its numbers.
"""

from __future__ import annotations

import contextlib
import io
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES, SMPL_JOINT_INDEX
from phq_data.bodies.anny import BodyError
from phq_data.bodies.smpl_arrays import SmplArrays
from phq_data.rig import PortraitRig

NECK, HEAD = SMPL_JOINT_INDEX["neck"], SMPL_JOINT_INDEX["head"]
LICENSE = "SMPL Model License: non-commercial, not to be passed on"


class SmplBody:
    """An SMPL body, posed by smplx."""

    def __init__(self, arrays: SmplArrays) -> None:
        self.arrays = arrays

    def posed(
        self,
        pose: ArrayLike,  # [B, 72] axis-angles of SMPL's 24 joints, radians, the root's first
        shape: ArrayLike,  # [B, 10]
        translation: ArrayLike = (0.0, 0.0, 0.0),  # [B, 3] or [3] metres
    ) -> FloatArray:
        """Vertices [B, V, 3] in metres in the frame of the root rotation: for a fit, the photo's camera.

        `translation` moves the whole body, as 3DCrowdNet's does; it is not where the neck goes. Raises
        `BodyError` when smplx is not installed.
        """
        import torch

        angles = torch.as_tensor(np.asarray(pose, np.float32)).reshape(-1, 72)
        betas = torch.as_tensor(np.asarray(shape, np.float32)).reshape(-1, 10).expand(len(angles), 10)
        move = torch.as_tensor(np.asarray(translation, np.float32)).reshape(-1, 3).expand(len(angles), 3)
        with torch.inference_mode():
            out = self._model(betas=betas, global_orient=angles[:, :3], body_pose=angles[:, 3:], transl=move)
        vertices: FloatArray = out.vertices.double().numpy()
        return vertices

    def joints(self, vertices: ArrayLike) -> FloatArray:
        """Joints [..., 13, 3] in the order of `bodies.JOINT_NAMES`, regressed from posed vertices."""
        rows = [SMPL_JOINT_INDEX[name] for name in JOINT_NAMES]
        return self.arrays.regressor30[rows].astype(np.float64) @ np.asarray(vertices, np.float64)

    def make_rig(self) -> PortraitRig:
        """The rig of these arrays (`portrait_rig`)."""
        return portrait_rig(self.arrays)

    @cached_property
    def _model(self) -> Any:
        try:
            import smplx
            from smplx.utils import Struct
        except ImportError as error:
            raise BodyError(
                "SMPL's mesh needs the extra 'smpl', which is not for commercial use: "
                "pip install 'phq-data[smpl]'"
            ) from error
        own = self.arrays
        tree = np.array([own.parents, range(len(own.parents))], np.int64)
        data = Struct(
            v_template=own.v_template, shapedirs=own.shapedirs, posedirs=own.posedirs,
            J_regressor=own.j_regressor, weights=own.weights, f=own.faces, kintree_table=tree,
        )  # fmt: skip
        # It prints that the official file has ten shape directions.
        with contextlib.redirect_stdout(io.StringIO()):
            return smplx.SMPL(
                model_path="", data_struct=data, create_betas=False, create_global_orient=False,
                create_body_pose=False, create_transl=False,
            )  # fmt: skip


def portrait_rig(arrays: SmplArrays) -> PortraitRig:
    """The neutral body around its neck joint, moved by neck and head alone, with SMPL's pose correctives.

    In SMPL nothing but the head hangs from the neck, so two joints say all. The correctives are the 18 rows
    of the pose blend shapes that belong to the two rotations.
    """
    joints = arrays.j_regressor.astype(np.float64) @ arrays.v_template
    neck = joints[NECK]
    rows = [SMPL_JOINT_INDEX[name] for name in JOINT_NAMES]
    regressor = arrays.regressor30[rows].astype(np.float64)
    regressor /= regressor.sum(axis=1, keepdims=True)
    columns = [*range(9 * (NECK - 1), 9 * NECK), *range(9 * (HEAD - 1), 9 * HEAD)]
    weights = arrays.weights[:, [NECK, HEAD]]
    landmark_weights = np.clip(regressor @ weights, 0.0, 1.0)
    # The two joints themselves: the neck turns about itself, the head joint is carried by the neck.
    landmark_weights[JOINT_NAMES.index("neck")] = (1.0, 0.0)
    landmark_weights[JOINT_NAMES.index("head")] = (1.0, 0.0)
    return PortraitRig(
        vertices=(arrays.v_template - neck).astype(np.float32),
        faces=arrays.faces.astype(np.int32),
        weights=np.ascontiguousarray(weights, np.float32),
        head_joint=(joints[HEAD] - neck).astype(np.float32),
        landmarks=(regressor @ arrays.v_template - neck).astype(np.float32),
        landmark_weights=landmark_weights.astype(np.float32),
        landmark_names=JOINT_NAMES,
        correctives=np.ascontiguousarray(arrays.posedirs[:, :, columns].transpose(2, 0, 1), np.float32),
        body="smpl",
        metadata={"origin": "built from the user's own SMPL file", "license": LICENSE},
    )


def load_body(path: str | Path | None = None) -> SmplBody:
    """The body of an added SMPL file, or of the file at `path`: ours, or the official one as distributed.

    Raises `BodyError` or `ModelError` that say what to do.
    """
    if path is None:
        from phq_data.weights import store

        path = store.verified_file("smpl")[0]
    return _load(str(path))


@lru_cache(maxsize=2)
def _load(path: str) -> SmplBody:
    if path.endswith(".safetensors"):
        return SmplBody(SmplArrays.load(path))
    from phq_data.bodies.smpl_pickle import read_smpl_pickle

    return SmplBody(read_smpl_pickle(path))


@lru_cache(maxsize=2)
def default_rig() -> PortraitRig:
    """The rig of the added SMPL file, made once a process."""
    return load_body().make_rig()

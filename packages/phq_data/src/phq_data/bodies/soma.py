"""SOMA, NVIDIA's body (Apache-2.0): the `PortraitRig` of its template.

Read is `SOMA_template_rig.usda` (also .usd and .usdc, by usd-core), or a `SOMA_neutral.npz` of before, which
held the rig too. Facts from github.com/NVlabs/SOMA-X: centimetres, +y up, +z forward, right-handed; USD's
matrices are for rows (point times matrix), the npz's for columns; one skeleton, and a skinned mesh for each
level of detail.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix

from phq_data.bodies.anny import BodyError
from phq_data.bodies.skinned import CENTIMETRES, JointNames, SkinnedBody, portrait_rig, read_npz
from phq_data.foreign import reading
from phq_data.rig import PortraitRig

ADVICE = "give SOMA_template_rig.usda of SOMA's assets"
NAMES = JointNames(
    "Neck1",
    "Head",
    {
        "left_shoulder": "LeftArm", "right_shoulder": "RightArm",
        "left_hip": "LeftLeg", "right_hip": "RightLeg", "left_eye": "LeftEye", "right_eye": "RightEye",
    },
)  # fmt: skip
MESHES = ("c_skin_lo", "c_skin_mid", "c_skin_xlo")
"""Of the levels of detail, the one with 4,505 vertices first: the others have 18,056 and 612."""
_NPZ = (
    "joint_names", "joint_parent_ids", "bind_pose_world", "bind_shape", "triangles",
    "skinning_weights_data", "skinning_weights_indices", "skinning_weights_indptr", "skinning_weights_shape",
)  # fmt: skip


def load_rig(path: str | Path) -> PortraitRig:
    """The rig of SOMA's template body. Raises `BodyError`."""
    path = Path(path)
    if not path.is_file():
        raise BodyError(f"there is no file {path}: {ADVICE}")
    if path.suffix == ".npz":
        body = _from_npz(path)
    elif path.suffix in (".usda", ".usdc", ".usd"):
        body = _from_usd(path)
    else:
        raise BodyError(f"{path} is neither USD nor .npz: {ADVICE}")
    return portrait_rig(body, NAMES, {"origin": f"SOMA, {path.name}", "license": "Apache-2.0"})


def _from_npz(path: Path) -> SkinnedBody:
    found = read_npz(path, _NPZ, ADVICE)
    if missing := [name for name in _NPZ if name not in found]:
        raise BodyError(f"{path} lacks {', '.join(missing)}, which SOMA keeps in its USD file now: {ADVICE}")
    with reading(path, BodyError, ADVICE):
        data, indices, ends, shape = (found[name] for name in _NPZ[5:])
        sparse = csc_matrix((data, indices, ends), shape=tuple(int(size) for size in shape))
        return _body(
            [str(name) for name in found["joint_names"].tolist()], found["joint_parent_ids"],
            found["bind_pose_world"][:, :3, 3], found["bind_shape"], found["triangles"],
            np.broadcast_to(np.arange(sparse.shape[1]), sparse.shape), sparse.toarray(),
        )  # fmt: skip


def _from_usd(path: Path) -> SkinnedBody:
    if importlib.util.find_spec("pxr") is None:
        raise BodyError(f"{path} needs usd-core: pip install 'phq-data[usd]'")
    from pxr import Tf, Usd, UsdGeom, UsdSkel

    with reading(path, BodyError, ADVICE):
        try:
            stage = Usd.Stage.Open(str(path))
        except Tf.ErrorException as error:  # of several lines, with places in USD's own source
            raise BodyError(f"{path} is no USD file: {ADVICE}") from error
        prims = list(stage.Traverse())
        skeletons = [one for one in prims if one.IsA(UsdSkel.Skeleton)]
        meshes = {one.GetName(): one for one in prims if one.IsA(UsdGeom.Mesh)}
        named = [name for name in MESHES if name in meshes]
        if not skeletons or not named:
            raise BodyError(
                f"{path} has {len(skeletons)} skeletons, meshes {', '.join(sorted(meshes)) or 'none'}, "
                f"not a skeleton and one of {', '.join(MESHES)}: {ADVICE}"
            )
        skeleton, mesh = UsdSkel.Skeleton(skeletons[0]), UsdGeom.Mesh(meshes[named[0]])
        joints = [str(one) for one in skeleton.GetJointsAttr().Get()]  # "Root/Hips/Spine1"
        above = [one.rpartition("/")[0] for one in joints]
        binding = UsdSkel.BindingAPI(mesh)
        own = [
            str(one) for one in binding.GetJointsAttr().Get() or joints
        ]  # a mesh may number its joints anew
        carriers = np.array([joints.index(one) for one in own])
        indices, weights = binding.GetJointIndicesPrimvar(), binding.GetJointWeightsPrimvar()
        points = np.array(mesh.GetPointsAttr().Get(), np.float64)
        per_vertex = (len(points), indices.GetElementSize())
        return _body(
            [one.rpartition("/")[2] for one in joints],
            [joints.index(one) if one in joints else -1 for one in above],
            np.array(skeleton.GetBindTransformsAttr().Get(), np.float64)[:, 3, :3],
            points, _triangles(mesh),
            carriers[np.array(indices.Get()).reshape(per_vertex)],
            np.array(weights.Get()).reshape(per_vertex),
        )  # fmt: skip


def _body(
    names: list[str], parents: Any, joints: Any, vertices: Any, faces: Any, carriers: Any, weights: Any
) -> SkinnedBody:
    """A body of numbers in centimetres."""
    return SkinnedBody(
        "soma", np.asarray(vertices, np.float64) * CENTIMETRES, np.asarray(faces, np.int64), names,
        np.asarray(parents, np.int64), np.asarray(joints, np.float64) * CENTIMETRES,
        np.asarray(carriers, np.int64), np.asarray(weights, np.float64),
    )  # fmt: skip


def _triangles(mesh: Any) -> Any:
    """Polygons as fans of triangles [F, 3]."""
    corners, counts = (
        np.array(one.Get(), np.int64)
        for one in (mesh.GetFaceVertexIndicesAttr(), mesh.GetFaceVertexCountsAttr())
    )
    starts = np.cumsum(counts) - counts
    made = [
        np.stack([corners[starts[counts > k + 2] + step] for step in (0, k + 1, k + 2)], axis=1)
        for k in range(int(counts.max()) - 2)
    ]
    return np.concatenate(made)

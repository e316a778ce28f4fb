"""The shipped body in the file formats of MHR and SOMA: other names, centimetres, more joints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix
from scipy.spatial.transform import Rotation

from phq_data.bodies.anny import load_body, local_apply

AWAY = np.array([0.02, 1.4, -0.05])
"""Where the neck stands in the files, metres."""
SIDES = (("left", "l", "Left"), ("right", "r", "Right"))
LIMBS = {
    "clavicle": ("clavicle", "Shoulder"), "shoulder": ("uparm", "Arm"), "elbow": ("lowarm", "ForeArm"),
    "wrist": ("wrist", "Hand"), "hip": ("upleg", "Leg"), "knee": ("lowleg", "Shin"),
}  # fmt: skip
NAMES = {  # of our joints in either format; more follow
    "chest": ("c_spine3", "Chest"), "waist": ("c_spine0", "Hips"), "neck": ("c_neck", "Neck1"),
    "head": ("c_head", "Head"), "twist": ("c_neck_twist1_proc", "Neck2"), "jaw": ("c_jaw", "Jaw"),
} | {
    f"{side}_{ours}": (f"{small}_{mhr}", f"{big}{soma}")
    for side, small, big in SIDES for ours, (mhr, soma) in {**LIMBS, "eye": ("eye", "Eye")}.items()
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Parts:
    """What the files hold, metres, with our names of joints."""

    vertices: np.ndarray  # [V, 3]
    faces: np.ndarray  # [F, 3]
    names: tuple[str, ...]
    parents: np.ndarray  # [J]
    joints: np.ndarray  # [J, 3]
    weights: np.ndarray  # [V, J]


def parts(
    stance: dict[str, tuple[float, float, float]] | None = None,
    turned: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Parts:
    """The shipped body, light mesh; `stance` and `turned` (degrees): how it stands when nothing is posed."""
    body = load_body()
    given = {name: np.radians(value) for name, value in (stance or {}).items()}
    pose = np.zeros((len(body.joint_names), 3))
    for name, value in given.items():
        pose[body.joint(name)] = value
    turn, move = body.transforms(np.zeros(1), pose, np.radians(turned), AWAY)
    used, faces = np.unique(body.rig_faces, return_inverse=True)
    vertices = body.posed(np.zeros(1), pose, np.radians(turned), AWAY)[used]
    eyes = body.posed_landmarks(np.zeros(1), pose, np.radians(turned), AWAY)
    eyes = eyes[[body.landmark("left_eye"), body.landmark("right_eye")]]
    joints = local_apply(turn, body.joints) + move
    neck, head = body.joint("neck"), body.joint("head")
    weights = np.concatenate([body.weights[used].astype(np.float64), np.zeros((len(used), 4))], axis=1)
    extra = {"twist": 0.5 * weights[:, neck], "jaw": 0.3 * weights[:, head]}  # taken from their parents
    for row, (name, share) in enumerate(extra.items()):
        weights[:, neck if name == "twist" else head] -= share
        weights[:, len(body.joint_names) + row] = share
    return Parts(
        vertices, faces.reshape(-1, 3), (*body.joint_names, *extra, "left_eye", "right_eye"),
        np.array([*body.joint_parents, neck, head, head, head]),
        np.concatenate([joints, joints[[neck, head]], eyes]), weights,
    )  # fmt: skip


def write_mhr(folder: Path, made: Parts, **changes: np.ndarray) -> Path:
    """`lod3.npz` and `rig.npz`; joints are turned at rest, as bones are. Returns the mesh's file."""
    turns = Rotation.random(len(made.names), random_state=0)
    inverse = np.concatenate(
        [-turns.inv().apply(made.joints * 100), turns.inv().as_quat(), np.ones((len(made.names), 1))], axis=1
    )
    carriers = np.argsort(-made.weights, axis=1)[:, :8]
    rig: dict[str, Any] = {
        "schema_version": np.array(1), "joint_names": np.array([NAMES[one][0] for one in made.names]),
        "joint_parents": made.parents.astype(np.int32), "inverse_bind_pose": inverse.astype(np.float32),
    }  # fmt: skip
    np.savez(folder / "rig.npz", **rig | changes)
    np.savez(
        folder / "lod3.npz", schema_version=np.array(1), lod=np.array(3),
        base_shape=(made.vertices * 100).astype(np.float32), faces=made.faces.astype(np.int32),
        skin_indices=carriers.astype(np.int32),
        skin_weights=np.take_along_axis(made.weights, carriers, 1).astype(np.float32),
    )  # fmt: skip
    return folder / "lod3.npz"


def write_soma_npz(folder: Path, made: Parts) -> Path:
    """`SOMA_neutral.npz` as it was while it held the rig."""
    sparse = csc_matrix(made.weights.astype(np.float32))
    np.savez(
        folder / "SOMA_neutral.npz", joint_names=np.array([NAMES[one][1] for one in made.names]),
        joint_parent_ids=np.maximum(made.parents, 0).astype(np.int32),
        bind_pose_world=_bind(made), bind_shape=(made.vertices * 100).astype(np.float32),
        triangles=made.faces.astype(np.int32), skinning_weights_data=sparse.data,
        skinning_weights_indices=sparse.indices, skinning_weights_indptr=sparse.indptr,
        skinning_weights_shape=np.array(sparse.shape),
    )  # fmt: skip
    return folder / "SOMA_neutral.npz"


def write_soma_usd(folder: Path, made: Parts, mesh_name: str = "c_skin_lo") -> Path:
    """`SOMA_template_rig.usda`: some triangles as quads, joints in the mesh's own order."""
    from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt

    stage = Usd.Stage.CreateNew(str(folder / "SOMA_template_rig.usda"))
    UsdSkel.Root.Define(stage, "/OUTPUT")
    skeleton = UsdSkel.Skeleton.Define(stage, "/OUTPUT/c_skeleton_grp/Root")
    paths: list[str] = []
    for name, parent in zip(made.names, made.parents, strict=True):
        own = NAMES[name][1]
        paths.append(own if parent < 0 else f"{paths[parent]}/{own}")
    skeleton.CreateJointsAttr(paths)
    rows = [Gf.Matrix4d(*one.T.ravel().tolist()) for one in _bind(made).astype(np.float64)]
    skeleton.CreateBindTransformsAttr(Vt.Matrix4dArray(rows))
    for name in ("c_other", mesh_name):
        mesh = UsdGeom.Mesh.Define(stage, f"/OUTPUT/c_geometry_grp/{name}")
        mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy((made.vertices * 100).astype(np.float32)))
        corners, counts = _polygons(made.faces)
        mesh.CreateFaceVertexIndicesAttr(corners)
        mesh.CreateFaceVertexCountsAttr(counts)
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    order = np.arange(len(paths))[::-1]
    binding.CreateJointsAttr([paths[one] for one in order])
    carriers = np.argsort(-made.weights[:, order], axis=1)[:, :8]
    shares = np.take_along_axis(made.weights[:, order], carriers, 1)
    binding.CreateJointIndicesPrimvar(False, 8).Set(carriers.ravel().tolist())
    binding.CreateJointWeightsPrimvar(False, 8).Set(shares.ravel().tolist())
    stage.GetRootLayer().Save()
    return folder / "SOMA_template_rig.usda"


def _bind(made: Parts) -> np.ndarray:
    """Joint-to-world matrices [J, 4, 4] for columns, centimetres."""
    matrices = np.tile(np.eye(4), (len(made.names), 1, 1))
    matrices[:, :3, :3] = Rotation.random(len(made.names), random_state=1).as_matrix()
    matrices[:, :3, 3] = made.joints * 100
    return matrices.astype(np.float32)


def _polygons(faces: np.ndarray) -> tuple[list[int], list[int]]:
    """Faces as polygons: two triangles one after another that share their first and an edge are one quad."""
    corners: list[int] = []
    counts: list[int] = []
    index = 0
    while index < len(faces):
        a = faces[index].tolist()
        b = faces[index + 1].tolist() if index + 1 < len(faces) else []
        quad = b[:2] == [a[0], a[2]]
        corners += [*a, b[2]] if quad else a
        counts.append(4 if quad else 3)
        index += 2 if quad else 1
    return corners, counts

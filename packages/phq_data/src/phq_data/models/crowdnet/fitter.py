"""`CrowdNetFitter`: photos and keypoints of many people to SMPL bodies in front of their photos' cameras."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from phq_data.arrays import FloatArray
from phq_data.bodies import JOINT_NAMES
from phq_data.bodies.smpl_arrays import SmplArrays
from phq_data.models.crowdnet import boxes, inputs, placement, rotations
from phq_data.models.crowdnet.fast import FastCrowdNet
from phq_data.models.crowdnet.layout import FOCAL, INPUT_TO_SMPL, SMPL_JOINTS
from phq_data.models.crowdnet.network import CrowdNet
from phq_data.models.crowdnet.smpl_layer import SmplLayer
from phq_data.models.fingerprints import fingerprint
from phq_data.models.protocols import BodyFit, FitRequest

CODE_VERSION = 1  # raise it when the same config would give other fits
NECK, HEAD = slice(36, 39), slice(45, 48)  # of SMPL's 72 pose numbers
UNSEEN = 1.0
"""Residual of a person of whom no keypoint is usable."""


@dataclass(frozen=True)
class CrowdNetConfig:
    """Settings of the fitter."""

    thresholds: boxes.Thresholds = field(default_factory=boxes.Thresholds)
    batch: int = 16  # people a pass: bounds memory, hardly changes the result
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A person cut out of the photo: all that a later batch needs. `person` is None for a hopeless one."""

    keypoints: FloatArray  # [17, 3]
    photo_size: tuple[int, int]
    person: inputs.PersonInput | None


class CrowdNetFitter:
    """A `BodyFitter` on SMPL. People of many photos go through the network in one batch.

    The fit's camera is the network's virtual one: 5,000 pixels, looking along the centre of the person's box.
    """

    needs_image = True
    body = "smpl"

    def __init__(
        self,
        network: CrowdNet,
        smpl: SmplArrays,
        weights_sha256: str,  # of the weights' file: part of the fingerprint
        config: CrowdNetConfig | None = None,
    ) -> None:
        self.config = config or CrowdNetConfig()
        self._device = torch.device(self.config.device)
        self._network = FastCrowdNet(network).to(self._device)
        self._smpl = SmplLayer(smpl).to(self._device)
        self.fingerprint = fingerprint(
            "3dcrowdnet", CODE_VERSION, thresholds=dataclasses.asdict(self.config.thresholds),
            weights=weights_sha256, smpl=smpl.digest,
        )  # fmt: skip
        joints = smpl.regressor30 @ smpl.v_template
        left, right = SMPL_JOINTS.index("left_shoulder"), SMPL_JOINTS.index("right_shoulder")
        self._breadth = float(np.linalg.norm(joints[left] - joints[right]))

    def fit(self, people: Sequence[FitRequest]) -> list[BodyFit]:
        """One fit a request, in order. Never raises for a hopeless person: the residual tells."""
        by_photo: dict[int, list[int]] = {}
        for index, person in enumerate(people):
            by_photo.setdefault(id(person.image), []).append(index)
        prepared: dict[int, Prepared] = {}
        for indices in by_photo.values():
            prepared.update(zip(indices, self.prepare([people[i] for i in indices]), strict=True))
        return self.fit_prepared([prepared[index] for index in range(len(people))])

    def prepare(self, people: Sequence[FitRequest]) -> list[Prepared]:
        """Cut the people of one photo out of it; the photo may be let go afterwards.

        Hopeless (data specification, section 3): people too vague, too small, or the same as an earlier one.
        """
        limits = self.config.thresholds
        points = [np.asarray(person.keypoints, np.float64) for person in people]
        usable = [np.where(np.isfinite(p).all(axis=1, keepdims=True), p, 0.0) for p in points]
        joints = [boxes.with_pelvis_and_neck(p) for p in usable]
        own = [
            boxes.box_of_person(j, person.photo_size, limits)
            for j, person in zip(joints, people, strict=True)
        ]
        tried = [index for index, box in enumerate(own) if box is not None]
        again = dict(zip(tried, boxes.twins([joints[i] for i in tried], limits), strict=True))
        prepared = []
        for index, person in enumerate(people):
            box, cut = own[index], None
            if person.image is None:
                raise ValueError("3DCrowdNet is image-based: the request needs `image`")
            if box is not None and not again[index]:
                cut = inputs.prepare(person.image, joints[index], box, limits.joint_score)
            prepared.append(Prepared(points[index], person.photo_size, cut))
        return prepared

    def fit_prepared(self, people: Sequence[Prepared]) -> list[BodyFit]:
        """One fit for each prepared person, in order."""
        fits: dict[int, BodyFit] = {}
        worthy = [i for i, one in enumerate(people) if one.person is not None]
        for start in range(0, len(worthy), self.config.batch):
            chunk = worthy[start : start + self.config.batch]
            fits.update(zip(chunk, self._fit_batch([people[i] for i in chunk]), strict=True))
        return [fits[i] if i in fits else _hopeless(people[i]) for i in range(len(people))]

    @torch.inference_mode()
    def _fit_batch(self, people: Sequence[Prepared]) -> list[BodyFit]:
        arrays = inputs.stack([one.person for one in people if one.person is not None])
        image, joints, mask, box = (torch.from_numpy(array).to(self._device) for array in arrays)
        with _exact_products():
            said = self._network(image, joints, mask)
            pose = rotations.body_pose(said.root_6d, self._network.decode(said.latent))
            translation = placement.photo_translation(said.camera, box)
            body = self._smpl(pose, said.shape, translation)
        tensors = (pose, said.shape, body.joints, placement.box_centre(box))
        poses, shapes, joints30, centres = (t.double().cpu().numpy() for t in tensors)
        return [
            self._record(person, poses[i], shapes[i], joints30[i], centres[i])
            for i, person in enumerate(people)
        ]

    def _record(
        self,
        person: Prepared,
        pose: FloatArray,  # [72]
        shape: FloatArray,  # [10]
        joints: FloatArray,  # [30, 3] metres, photo's virtual camera
        centre: FloatArray,  # [2] pixels
    ) -> BodyFit:
        named = joints[[SMPL_JOINTS.index(name) for name in JOINT_NAMES]]
        residuals, residual = self._residuals(person, joints, centre)
        root = pose[:3]
        yaw = _yaw(root, named[JOINT_NAMES.index("neck")])
        return BodyFit(
            focal=FOCAL,
            principal=centre,
            root_orient=root,
            translation=named[JOINT_NAMES.index("neck")],
            neck_head_pose=np.concatenate([pose[NECK], pose[HEAD]]),
            shape=shape,
            joints=named,
            residuals=residuals,
            residual=residual,
            hypotheses=np.array([[yaw, residual]]),
            converged=bool(np.isfinite(joints).all()),
        )

    def _residuals(
        self, person: Prepared, joints: FloatArray, centre: FloatArray
    ) -> tuple[FloatArray, float]:
        """Distances [17] to the keypoints and their score-weighted mean, in shoulder breadths."""
        seen = joints[INPUT_TO_SMPL[:17]]
        depth = float(joints[SMPL_JOINTS.index("neck"), 2])
        pixels = FOCAL * seen[:, :2] / seen[:, 2:] + centre
        unit = FOCAL / max(depth, 1e-6) * self._breadth
        error = np.linalg.norm(pixels - person.keypoints[:, :2], axis=1) / unit
        score = person.keypoints[:, 2]
        used = np.isfinite(error) & (score > self.config.thresholds.joint_score)
        residuals = np.where(used, error, np.nan)
        if not used.any():
            return residuals, UNSEEN
        return residuals, float(np.average(np.minimum(error[used], 1.0), weights=score[used]))


class _exact_products:  # noqa: N801 (used like a function)
    """Products in full float32 on GPUs, where TF32 would put half a millimetre of noise into meshes."""

    def __enter__(self) -> None:
        self._kept = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *error: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._kept


def _yaw(root: FloatArray, neck: FloatArray) -> float:
    """Radians from the body's front to the camera, seen from above: 0 when the person faces the camera."""
    from phq_data.rig import rotation_matrix

    towards = -rotation_matrix(root).T @ neck
    return float(np.arctan2(towards[0], towards[2]))


def _hopeless(person: Prepared) -> BodyFit:
    """The fit of a person too vague or too small for the network: no number in it is one."""
    nothing = float("nan")
    return BodyFit(
        focal=FOCAL,
        principal=np.array(person.photo_size, np.float64) / 2,
        root_orient=np.full(3, nothing),
        translation=np.full(3, nothing),
        neck_head_pose=np.full(6, nothing),
        shape=np.zeros(10),
        joints=np.full((len(JOINT_NAMES), 3), nothing),
        residuals=np.full(17, nothing),
        residual=UNSEEN,
        hypotheses=np.zeros((0, 2)),
        converged=False,
    )

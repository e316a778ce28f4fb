"""A body for measurements and tests: made by a formula, so it belongs to nobody."""

from __future__ import annotations

import numpy as np

from phq_data.rig import PortraitRig


def bust(rings: int = 72, around: int = 42, correctives: bool = False) -> PortraitRig:
    """A head on a neck on shoulders: a closed surface of revolution, squashed, with smooth weights.

    2 * around * rings faces, all inside the cube; the top moves with the head, a band with both joints, the
    rest not at all. `correctives` adds 18 pose-corrective rows around the neck.
    """
    heights = np.linspace(-0.42, 0.30, rings)
    profile = np.interp(
        heights,
        [-0.42, -0.2, -0.08, 0.0, 0.05, 0.12, 0.22, 0.30],
        [0.26, 0.24, 0.14, 0.06, 0.06, 0.1, 0.1, 0.01],
    )
    angle = np.arange(around) * 2 * np.pi / around
    ring = np.stack([np.sin(angle), np.zeros(around), np.cos(angle)], axis=1)
    wobble = 1 + 0.06 * np.sin(3 * angle)[None] * np.cos(9 * heights)[:, None]
    body = ring[None] * (profile[:, None] * wobble)[..., None] * np.array([1.3, 1, 0.9])
    body[..., 1] = heights[:, None]
    vertices = np.concatenate([body.reshape(-1, 3), [[0, -0.43, 0], [0, 0.31, 0]]])
    faces = []
    for r in range(rings - 1):
        for k in range(around):
            a, b = r * around + k, r * around + (k + 1) % around
            faces += [(a, b, b + around), (a, b + around, a + around)]
    top = (rings - 1) * around
    for k in range(around):
        faces.append(((k + 1) % around, k, len(vertices) - 2))
        faces.append((top + k, top + (k + 1) % around, len(vertices) - 1))
    y = vertices[:, 1]
    moving, head = np.clip((y + 0.08) / 0.1, 0, 1), np.clip(y / 0.08, 0, 1)
    rows = None
    if correctives:
        bump = np.exp(-((y - 0.02) ** 2) / 0.002)[None, :, None]
        rows = (np.random.RandomState(3).standard_normal((18, 1, 3)) * 0.01 * bump).astype(np.float32)
    return PortraitRig(
        vertices=vertices.astype(np.float32),
        faces=np.array(faces, np.int32),
        weights=np.stack([moving - head * moving, head * moving], axis=1).astype(np.float32),
        head_joint=np.array([0, 0.0649, 0], np.float32),
        landmarks=np.zeros((0, 3), np.float32),
        landmark_weights=np.zeros((0, 2), np.float32),
        landmark_names=(),
        correctives=rows,
        body="formula",
    )

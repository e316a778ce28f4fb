"""What 360-degree generators do wrong: faces on the back of heads, mirrored sides, cut-off hair.

Three numbers for people that were generated, each beside what real portraits give where that can be known.
docs/metrics.md defines them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.nn import functional

from phq_data import camera as cameras
from portraitgan.data.dataset import PortraitData
from portraitgan.inference.model import Model
from portraitgan.metrics.faces import FaceNetwork, aligned, face_points
from portraitgan.metrics.generate import (
    Advance,
    Setting,
    drawn,
    gathered,
    real_portraits,
    settings_of,
    shares,
    to_pixels,
)
from portraitgan.networks import filters
from portraitgan.training.distributed import World

FRONT, REAR = 45.0, 150.0
"""Degrees of yaw up to which a portrait shows the face, and from which on the back of the head."""
SIDES = (45.0, 90.0)
"""Degrees of yaw whose left and right views are compared."""
PIXELS = 64
"""Width and height of views that sides are compared in, at most: all of them are kept."""
BANDS = {"head": (0.10, 0.27), "hair at the neck": (-0.03, 0.06), "shoulders": (-0.14, -0.05)}
"""Heights over the neck joint, metres, between which a mask's width is taken."""
VIEWS = {"front": (0.0, 60.0), "side": (60.0, 120.0), "back": (120.0, 181.0)}
"""Degrees of absolute yaw."""


def measure(
    model: Model,
    data: PortraitData,
    network: FaceNetwork,
    world: World,
    *,
    count: int = 1024,
    batch: int = 8,
    seed: int = 0,
    done: Advance = lambda number: None,
) -> dict[str, Any]:
    """All three of `count` generated people; every process must call this."""
    rear, sides, covers = people(model, world, count, batch, seed, network, done)
    # The independent condition: people must not be made for the view.
    setting = Setting(settings_of(model)[0].poses, "independent")
    masks, labels = [], []
    for part in drawn(model, data, setting, count, batch, seed, world):
        assert part.portraits.mask is not None
        masks.append(part.portraits.mask[:, 0].clamp(0, 1).cpu().numpy())
        labels.append(part.cameras.cpu().numpy())
    made = extents(gathered(masks, world), gathered(labels, world))
    real = real_faces(model, data, network, count, batch, seed)
    return {
        "faces_behind": None if real is None else faces_behind(rear, *real),
        "mirror_score": mirror_score(sides, covers),
        "extents": compared(real_extents(model, data, count, batch, seed), made),
        "samples": count,
        "network": network.name,
        "seed": seed,
    }


def people(
    model: Model, world: World, count: int, batch: int, seed: int, network: FaceNetwork, done: Advance
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What is seen of neutral people conditioned on the front camera.

    (embeddings [N, D] of the places where faces would be on the back of heads; views [N, 2 S, 3, H, W] of
    both sides at every yaw of `SIDES`, -1..1, and their masks [N, 2 S, 1, H, W], 0..1; H at most `PIXELS`).
    """
    points = behind(face_points(model.rig))
    found, sides, covers = [], [], []
    for number in shares(count, batch, world):
        size = min(batch, count - number * batch)
        random = np.random.default_rng([seed, 4, number])
        z = torch.from_numpy(random.standard_normal((size, model.config.generator.z_dim)).astype(np.float32))
        ws = model.styles(z.to(model.device))
        planes = model.planes(ws)
        yaw = np.radians(180 + random.uniform(-1, 1, size) * (180 - REAR))
        seen = cameras.to_label(cameras.from_angles(yaw, np.zeros(size)))
        shown = model.render(ws, torch.from_numpy(seen).to(model.device), planes=planes)
        found.append(network.embed(aligned(to_pixels(shown.image), seen, points)))
        views, masks = [], []
        for degrees in SIDES:
            for sign in (1, -1):
                angle = np.full(size, np.radians(sign * degrees))
                label = cameras.to_label(cameras.from_angles(angle, np.zeros(size)))
                one = model.render(ws, torch.from_numpy(label).to(model.device), planes=planes)
                image = _small(one.image)
                mask = filters.resize(one.mask.float().clamp(0, 1), image.shape[-1])
                views.append(image.cpu().numpy())
                masks.append(mask.cpu().numpy())
        sides.append(np.stack(views, axis=1))
        covers.append(np.stack(masks, axis=1))
        done(size)
    return gathered(found, world), gathered(sides, world), gathered(covers, world)


def _small(images: Tensor) -> Tensor:
    """[B, C, H, H] averaged to `PIXELS`; as it is where it has no more of them."""
    return functional.adaptive_avg_pool2d(images.float(), min(PIXELS, images.shape[-1]))


def behind(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Face points [3, 3] as they would be on the back of the head: turned about the neck's axis."""
    turned: NDArray[np.float64] = points * np.array([-1.0, 1.0, -1.0])
    return turned


def real_faces(
    model: Model, data: PortraitData, network: FaceNetwork, count: int, batch: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Embeddings of real faces [N, D], and of the places where they would be on real backs of heads [M, D].

    At most `count` each; None where the data has fewer than two of either.
    """
    points = face_points(model.rig)
    labels = data.labels(range(data.portraits))[0].numpy()
    yaw = _yaw(labels)
    found = []
    for chosen, where in ((yaw <= FRONT, points), (yaw >= REAR, behind(points))):
        rows = np.random.default_rng([seed, 5]).permutation(np.flatnonzero(chosen))[:count]
        if len(rows) < 2:
            return None
        parts = [
            network.embed(aligned(data.batch(some).images, labels[some], where))
            for some in np.array_split(rows, -(-len(rows) // batch))
        ]
        found.append(np.concatenate(parts))
    return found[0], found[1]


def faces_behind(
    made: NDArray[np.float32], fronts: NDArray[np.float32], backs: NDArray[np.float32]
) -> dict[str, float]:
    """Shares of rear views whose embedding [N, D] is nearer to real faces than to real backs of heads.

    Half of the real portraits say what faces and backs look like, the other half how often that is wrong.
    """
    face, back = fronts[::2].mean(axis=0), backs[::2].mean(axis=0)
    middle, direction = (face + back) / 2, face - back

    def share(embeddings: NDArray[np.float32]) -> float:
        return round(float(((embeddings - middle) @ direction > 0).mean()), 4)

    return {"rate": share(made), "real_rear": share(backs[1::2]), "real_front": share(fronts[1::2])}


def mirror_score(views: NDArray[np.float32], masks: NDArray[np.float32]) -> float | None:
    """How different the sides of a person are, as a share of how different two people are.

    views [N, 2 S, 3, H, W], masks [N, 2 S, 1, H, W] in 0..1: left and right of each yaw. A pixel counts as
    far as both views that are compared show the person there, so the background says nothing. 0: every right
    side is the left one mirrored, as of a generator that folds people in half; None for fewer than two
    people, or people who are all the same or not to be seen.
    """
    if len(views) < 2:
        return None
    left, right = views[:, 0::2], views[:, 1::2, :, :, ::-1]
    shown, mirrored = masks[:, 0::2], masks[:, 1::2, :, :, ::-1]
    own = _apart(left, right, shown * mirrored)
    others = _apart(left, np.roll(left, 1, axis=0), shown * np.roll(shown, 1, axis=0))
    return None if own is None or not others else round(own / others, 4)


def _apart(one: NDArray[np.float32], other: NDArray[np.float32], weight: NDArray[np.float32]) -> float | None:
    """Weighted mean of absolute differences; None where nothing has any weight."""
    whole = float(weight.sum(dtype=np.float64))
    total = float((np.abs(one - other).mean(axis=2, keepdims=True) * weight).sum(dtype=np.float64))
    return total / whole if whole else None


def real_extents(
    model: Model, data: PortraitData, count: int, batch: int, seed: int
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """`extents` of at most `count` real portraits, masks at the model's rays."""
    rows = np.random.default_rng([seed, 6]).permutation(len(data))[:count]

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        for some in np.array_split(rows, -(-len(rows) // batch)):
            found = data.batch(some)
            mask = real_portraits(model, found).mask
            assert mask is not None
            yield mask[:, 0], found.cameras

    masks, labels = zip(*parts(), strict=True)
    return extents(torch.cat(masks).numpy(), torch.cat(labels).numpy())


def extents(
    masks: NDArray[np.float32], labels: NDArray[np.float32]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Widths in metres of masks [N, R, R] (0..1) in each band, by (band, view); labels [N, 25].

    Heights are those of the plane through the neck that faces the camera.
    """
    centres = labels[:, [3, 7, 11]].astype(np.float64)
    side = np.linalg.norm(centres, axis=1) / labels[:, 16]  # of the image at the neck's distance, metres
    rows = (np.arange(masks.shape[1]) + 0.5) / masks.shape[1]
    # The image's middle looks at the head joint (spec section 1.1).
    height = cameras.LOOK_AT[1] - (rows[None] - 0.5) * side[:, None]
    width = masks.astype(np.float64).mean(axis=2) * side[:, None]
    yaw = _yaw(labels)
    found = {}
    for band, (low, high) in BANDS.items():
        inside = (height >= low) & (height < high)
        mean = (width * inside).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
        for view, (least, most) in VIEWS.items():
            found[band, view] = mean[(yaw >= least) & (yaw < most)]
    return found


def compared(
    real: dict[tuple[str, str], NDArray[np.float64]], made: dict[tuple[str, str], NDArray[np.float64]]
) -> dict[str, dict[str, dict[str, float] | None]]:
    """Mean widths and how far their distributions are apart (Wasserstein), millimetres, by band and view."""
    found: dict[str, dict[str, dict[str, float] | None]] = {band: {} for band in BANDS}
    for (band, view), theirs in real.items():
        ours = made[band, view]
        if min(len(theirs), len(ours)) == 0:
            found[band][view] = None
            continue
        found[band][view] = {
            "real_mm": round(1000 * float(theirs.mean()), 1),
            "made_mm": round(1000 * float(ours.mean()), 1),
            "apart_mm": round(1000 * float(wasserstein_distance(theirs, ours)), 1),
        }
    return found


def _yaw(labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Absolute yaw of camera labels [N, 25], degrees [N]."""
    yaw: NDArray[np.float64] = np.abs(np.degrees(cameras.angles(cameras.from_label(labels)[0])[0]))
    return yaw

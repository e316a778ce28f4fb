"""A release of rendered people whose cameras and poses are known, with coarse poses as a real one has.

Whoever is drawn, how and in front of what comes from `phq_data.synthesis`; here each is placed exactly in
front of a portrait camera, so that no detector is needed. The labels' poses are the true ones plus noise.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phq_data import camera as cameras
from phq_data.process_pool import end_with_parent
from phq_data.release.splits import SplitShares

if TYPE_CHECKING:
    from phq_data.interchange.portrait import ReferencePortrait

FloatArray = NDArray[np.float64]
PITCH, ROLL = (3.0, 8.0), (0.0, 3.0)
"""Mean and spread of the cameras in degrees; the yaw is uniform all around."""


@dataclass(frozen=True)
class Coarse:
    """How the poses of the labels differ from the truth; angles in degrees."""

    noise: float = 10.0  # standard deviation by component, independent
    bias: float = 5.0  # of each component, the same for all portraits
    yaw_bias: float = 0.0  # times the sine of the camera's yaw: neck and head seem turned to one side
    toward_camera: float = 0.0  # share of the way that heads seem turned to a camera in front of them
    exchanged: float = 0.0  # share of portraits with the label of the portrait before them

    def label(
        self, pose: FloatArray, yaw: float, before: FloatArray | None, random: np.random.Generator
    ) -> FloatArray:
        """The label of a true pose [6] seen from `yaw`, radians; `before` is the label before it."""
        off = np.radians(random.normal(self.bias, self.noise, 6))
        off[[1, 4]] += np.radians(self.yaw_bias) * np.sin(yaw)
        if abs(yaw) < np.pi / 2:
            off[4] += self.toward_camera * (yaw - pose[1] - pose[4])
        exchanged = self.exchanged and random.random() < self.exchanged
        return before if exchanged and before is not None else pose + off


ERRORS = {
    "gaussian": Coarse(),
    "structured": Coarse(noise=5.0, bias=0.0, yaw_bias=10.0, toward_camera=0.3, exchanged=0.3),
}
"""Errors that averaging over portraits takes away but for a constant, and errors that it keeps."""


@dataclass(frozen=True)
class Drawn:
    """A rendered portrait and what is true of it."""

    image: NDArray[np.uint8]  # [S, S, 3]
    mask: NDArray[np.uint8]  # [S, S]
    camera: NDArray[np.float32]  # [25]
    pose: FloatArray  # [6] radians


def draw(seed: int, index: int, size: int) -> Drawn:
    """Portrait `index` of series `seed`: a random person, posed, seen from anywhere around."""
    from phq_data.synthesis import backdrop
    from phq_data.synthesis.draw import Lens, Light, Place, draw_person
    from phq_data.synthesis.figure import pose_person
    from phq_data.synthesis.people import parts_of, random_person

    rng, who, behind = (np.random.default_rng(s) for s in np.random.SeedSequence([seed, index]).spawn(3))
    yaw = rng.uniform(-np.pi, np.pi)
    pitch, roll = np.radians([rng.normal(*PITCH), rng.normal(*ROLL)])
    cam2world = cameras.from_angles(yaw, pitch, roll)
    rotation = cam2world[:3, :3].T
    place = Place(rotation, -rotation @ cam2world[:3, 3])
    side = 2 * size
    lens = Lens(side, side, cameras.FOCAL * side)
    person = random_person(who, yaw)
    parts = parts_of(person)
    posed = pose_person(parts, person.build, person.stance)
    strength = rng.uniform(0.3, 0.8)
    light = Light(
        _unit(rng.normal(0, 0.6), -0.8, -1.0), np.full(3, strength), np.full(3, 0.9 - 0.6 * strength),
        np.full(3, 0.5 - 0.3 * strength), shadows=False,
    )  # fmt: skip
    image = backdrop.background(behind, side, side)
    cover = np.zeros((side, side), np.float32)
    layer = draw_person(person, parts, posed, place, lens, light)
    if layer is not None:
        x, y = layer.corner
        h, w = layer.cover.shape
        part = image[y : y + h, x : x + w]
        part += layer.cover[..., None] * (layer.color - part)
        cover[y : y + h, x : x + w] = layer.cover
    return Drawn(
        _halved(image), _halved(cover[..., None])[..., 0],
        cameras.to_label(cam2world), np.array(person.stance.pose),
    )  # fmt: skip


def make_release(
    folder: Path,
    count: int,
    size: int,
    *,
    seed: int = 0,
    coarse: Coarse | None = None,
    workers: int = 2,
    shares: SplitShares | None = None,
) -> Path:
    """Draw `count` portraits and release them, with `truth_*` columns; returns the release's folder."""
    from phq_data.bodies.anny import default_rig
    from phq_data.interchange.tables import into_workspace
    from phq_data.release.build import ReleaseOptions, build
    from phq_data.workspace import Workspace

    coarse = coarse or Coarse()
    workspace = Workspace.open(folder / "workspace", create=True)
    truth: dict[str, dict[str, Any]] = {}
    into_workspace(
        _portraits(count, size, seed, coarse, workers, truth), workspace, f"synthetic:{count}@{seed}"
    )
    workspace.write_bytes("rig.safetensors", default_rig().to_bytes())
    _say_what_they_are(workspace)
    titles = {
        row["photo_id"]: row["title"] for row in workspace.table("photos", ["photo_id", "title"]).to_pylist()
    }
    named = {
        row["portrait_id"]: truth[titles[row["photo_id"]]]
        for row in workspace.table("portraits", ["portrait_id", "photo_id"]).to_pylist()
    }
    options = ReleaseOptions(
        name="synthetic",
        unreviewed=True,
        created="2026-01-01",
        keep_duplicates=True,
        workers=workers,
        shares=shares or SplitShares(),
    )
    build(workspace, folder / "releases", "1.0.0", options, truth=named)
    return folder / "releases" / "1.0.0"


def _portraits(
    count: int, size: int, seed: int, coarse: Coarse, workers: int, truth: dict[str, dict[str, Any]]
) -> Iterator[ReferencePortrait]:
    from phq_data.interchange.portrait import ReferencePortrait

    noise = np.random.default_rng([seed, 1])
    label: FloatArray | None = None
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        for index, drawn in enumerate(pool.map(partial(draw, seed, size=size), range(count), chunksize=16)):
            name = f"{index:08d}.png"
            truth[name] = {"truth_camera": drawn.camera.tolist(), "truth_pose": drawn.pose.tolist()}
            yaw = float(cameras.angles(cameras.from_label(drawn.camera)[0])[0])
            label = coarse.label(drawn.pose, yaw, label, noise)
            pose = label.astype(np.float32)
            yield ReferencePortrait(name, _png(drawn.image), _png(drawn.mask), drawn.camera, pose)


def _say_what_they_are(workspace: Any) -> None:
    """Imported rows say that somebody else's photos show SMPL bodies; these are drawn, and Anny's."""
    from phq_data import schema
    from phq_data.sources.synthetic import RIGHTS

    known = {name: value for name, value in asdict(RIGHTS).items() if name != "title"}
    rights = {**known, "provider": "synthetic"}
    for table, changes in (("fits", {"body": "anny"}), ("photos", rights)):
        for part in workspace.parts(f"tables/{table}"):
            rows = workspace.read_part(f"tables/{table}", part).to_pylist()
            changed = schema.to_table(table, [{**row, **changes} for row in rows])
            workspace.write_part(f"tables/{table}", part, changed, "synthetic")


def _halved(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[2S, 2S, C] in 0..1 to bytes [S, S, C], by averaging."""
    side, channels = image.shape[0] // 2, image.shape[2]
    small = image.reshape(side, 2, side, 2, channels).mean(axis=(1, 3))
    return np.round(np.clip(small, 0, 1) * 255).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _unit(*vector: float) -> FloatArray:
    return np.array(vector) / np.linalg.norm(vector)

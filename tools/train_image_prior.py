"""Train the image orientation prior (`phq_data.models.orientation.image_prior`) on rendered people.

    phq synthesize FOLDER --count 1000 --seed 41                (and so on to series 58)
    python tools/train_image_prior.py collect CACHE.npz FOLDER        (about 0.5 s a photo and core)
    python tools/train_image_prior.py train CACHE.npz [CACHE.npz ...] (minutes; holds out one in eight)
    python tools/train_image_prior.py test WEIGHTS.safetensors CACHE.npz

The second prior, for photos, goes on from the first with people of wider variety:

    python tools/train_image_prior.py render CACHE --seed 301 --variety wide          (and so on)
    python tools/train_image_prior.py train --start image_orientation_prior.safetensors CACHE/*.npz

Thunder's features of every detected person are collected from the crop as the fit takes it and from an
augmented one: light, contrast, color, blur, noise, JPEG, and a square that is a little off. Needs torch.
Seeds that accuracy is reported on, or the error probability calibrated on, must not be collected.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from train_keypoint_prior import disturbed, report

from phq_data import camera as cameras
from phq_data.evaluation.matching import match_people
from phq_data.models import onnx
from phq_data.models.movenet.crops import crop_square
from phq_data.models.movenet.detector import MoveNetDetector
from phq_data.models.orientation import image_prior, keypoint_prior
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.records import Keypoints, Label, Pose, Record, columns, from_table
from phq_data.rig import rotation_matrix
from phq_data.synthesis import figure, photograph
from phq_data.synthesis.people import Variety
from phq_data.synthesis.truth import read_truth

FloatArray = NDArray[np.float64]
MIRRORED = np.array([-1.0, 1.0, 1.0])
COMPONENTS, WIDTH, HIDDEN, MEMBERS = 192, 64, 256, 1
CHI = 1.538
"""Median length of three normal numbers: what an error over a true standard deviation is."""
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 60, 96, 3e-3, 0.1, 0.1
MORE_EPOCHS, MORE_RATE, SHARE = 14, 6e-4, 0.7
"""Of a network that goes on from another, and its share in the mean of both networks' weights: what the first
learned of many more people is not lost (Wortsman et al. 2022, robust fine-tuning)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Rendered(Record):
    """What is read of a rendered person: not the mask."""

    table = "truth"
    index: int
    uri: str
    camera: Label
    pose: Pose
    keypoints: Keypoints
    head_pixels: float
    visible: float


@dataclass(frozen=True)
class People:
    """Detected people whose orientation is known."""

    keypoints: FloatArray  # [N, 17, 3]
    directions: FloatArray  # [N, 2, 3] unit vectors to the camera in the frames of chest and head
    photos: NDArray[np.int64]  # [N] index of the photo
    maps: NDArray[np.float16]  # [N, 4, C, 8, 8] features: straight, mirrored; disturbed straight, mirrored

    @classmethod
    def load(cls, paths: list[Path]) -> People:
        """Everybody in some caches."""
        files = [np.load(path) for path in paths]
        names = ("keypoints", "directions", "photos", "maps")
        return cls(*(np.concatenate([file[name] for file in files]) for name in names))

    def take(self, rows: NDArray[np.bool_]) -> People:
        """The chosen people."""
        return People(self.keypoints[rows], self.directions[rows], self.photos[rows], self.maps[rows])


def collect(path: Path, folder: Path) -> None:
    """Detect the people in the photos of `phq synthesize` and keep what Thunder sees of them."""
    found = list(_people(folder))
    columns = [np.array(column) for column in zip(*found, strict=True)]
    np.savez(path, keypoints=columns[0], directions=columns[1], photos=columns[2], maps=columns[3])
    print(f"{path}: {len(found)} people")


def _people(folder: Path) -> Iterator[tuple[FloatArray, FloatArray, int, NDArray[np.float16]]]:
    detector = MoveNetDetector()
    groups: dict[int, list[Rendered]] = {}
    for one in from_table(Rendered, read_truth(folder / "truth.parquet", list(columns(Rendered)))):
        groups.setdefault(one.index, []).append(one)
    for index, group in sorted(groups.items()):
        rng = np.random.default_rng([7, index])
        image = np.asarray(Image.open(folder / "photos" / group[0].uri).convert("RGB"))
        detected = [person.keypoints for person in detector.detect(image)]
        true, heads = [one.keypoints for one in group], [one.head_pixels for one in group]
        for one, match in zip(group, match_people(true, heads, detected), strict=True):
            if match is not None and one.visible >= 0.5:
                points = detected[match]
                yield points, _directions(one), index, _maps(image, points, rng)


def render(path: Path, seed: int, photos: int, variety: Variety) -> None:
    """Render photos without keeping them; Thunder looks where the people are, a little off.

    Five times as fast as `collect`: nobody searches the photo. A stopped run goes on behind its last hundred.
    """
    parts = path.with_suffix("")
    parts.mkdir(parents=True, exist_ok=True)
    for start in range(0, photos, 100):
        part = parts / f"{start:06d}.npz"
        if part.exists():
            continue
        found = [one for i in range(start, min(start + 100, photos)) for one in _seen(seed, i, variety)]
        arrays = [np.array(column) for column in zip(*found, strict=True)]
        whole = part.with_suffix(".tmp.npz")
        np.savez(whole, keypoints=arrays[0], directions=arrays[1], photos=arrays[2], maps=arrays[3])
        whole.replace(part)
        print(f"{part}: {len(found)} people", flush=True)


def _seen(
    seed: int, index: int, variety: Variety
) -> Iterator[tuple[FloatArray, FloatArray, int, NDArray[np.float16]]]:
    detector = MoveNetDetector()
    photo = photograph.take(seed, index, variety=variety)
    image = np.asarray(Image.open(io.BytesIO(photo.jpeg)).convert("RGB"))
    rng = np.random.default_rng([7, seed, index])
    coco = [figure.body().landmark(name) for name in COCO_KEYPOINTS]
    for subject in photo.subjects:
        shown = (subject.mask > 127).sum() / max(1, subject.alone.sum())
        placed = subject.posed.landmarks @ subject.place.rotation.T + subject.place.translation
        true = np.concatenate([photo.lens.project(placed[coco]), np.ones((17, 1))], axis=1)
        points = detector.detect_near(image, true, rng) if shown >= 0.5 else None
        head = photo.lens.focal / subject.place.translation[2] * photograph.HEAD
        if points is not None and match_people([true], [head], [points])[0] is not None:
            yield points, _towards(subject), index, _maps(image, points, rng)


def _towards(subject: photograph.Subject) -> FloatArray:
    place, pose = subject.place, np.asarray(subject.person.stance.pose)
    chest = -place.rotation.T @ (place.translation / np.linalg.norm(place.translation))
    return np.stack([chest, (rotation_matrix(pose[:3]) @ rotation_matrix(pose[3:])).T @ chest])


def _directions(person: Rendered) -> FloatArray:
    camera, _ = cameras.from_label(person.camera)
    chest = np.asarray(camera, np.float64)[:3, 3]
    chest = chest / np.linalg.norm(chest)
    pose = person.pose
    return np.stack([chest, (rotation_matrix(pose[:3]) @ rotation_matrix(pose[3:])).T @ chest])


def _maps(image: NDArray[np.uint8], points: FloatArray, rng: np.random.Generator) -> NDArray[np.float16]:
    x, y, side = image_prior.square_around(points)
    factor, shift = np.exp(rng.normal(0, 0.1)), rng.normal(0, 0.04, 2) * side
    corner = np.array([x, y]) + shift - (factor - 1) * side / 2
    other = crop_square(image, corner[0], corner[1], side * factor)
    crops = [crop_square(image, x, y, side), _augmented(other, rng)]
    pairs = np.stack([crop for one in crops for crop in (one, one[:, ::-1])])
    return onnx.run(image_prior.NETWORK, {"image": pairs})["features"].astype(np.float16)


def _augmented(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A crop as another camera, another light and another website would have it."""
    altered = Image.fromarray(crop)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        if rng.random() < 0.8:
            altered = kind(altered).enhance(float(np.exp(rng.normal(0, 0.25))))
    if rng.random() < 0.8:
        altered = ImageEnhance.Color(altered).enhance(float(rng.uniform(0, 1.6)))
    if rng.random() < 0.5:
        altered = altered.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.6))))
    values = np.asarray(altered).astype(np.float32) * np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    values += rng.normal(0, rng.uniform(0, 10), values.shape)
    altered = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        stored = io.BytesIO()
        altered.save(stored, "JPEG", quality=int(rng.integers(25, 90)))
        altered = Image.open(stored).convert("RGB")
    return np.asarray(altered)


def train(people: People, output: Path, start: Path | None) -> None:
    """Fit the ensemble, write it, and print how good it is for people who were held out."""
    out = people.photos % 8 == 0
    held, people = people.take(out), people.take(~out)
    arrays = _anew(people) if start is None else _continued(people, start)
    _write(output, arrays)
    # Deviations as large as the errors of people who were held out: two factors.
    prediction, deviation = image_prior.ImageOrientationPrior.load(output).predict(
        held.keypoints, _as_seen(held)
    )
    ratio = np.median(np.linalg.norm(prediction - held.directions, axis=2) / deviation, axis=0) / CHI
    arrays["last_bias"][:, 6:] += np.log(ratio)
    _write(output, arrays)
    print(f"{output}: {len(people.photos)} people; deviations times {ratio.round(2)}")
    test(output, held)


def _anew(people: People) -> dict[str, Any]:
    basis, centre, maps = _components(people.maps)
    known = image_prior.known(people.keypoints)
    mean, deviation = known.mean(0), known.std(0) + 1e-2
    members = [_member(people, maps, mean, deviation, seed) for seed in range(MEMBERS)]
    arrays = {"mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32)}
    arrays |= {name: np.stack([m[name] for m in members]) for name in members[0]}
    # Components and the first layer are both linear: one matrix.
    arrays["squeeze"] = (basis[None] @ arrays["squeeze"]).astype(np.float16).astype(np.float32)
    arrays["squeeze_bias"] = arrays["squeeze_bias"] - centre @ arrays["squeeze"]
    return arrays


def _continued(people: People, start: Path) -> dict[str, Any]:
    prior = image_prior.ImageOrientationPrior.load(start)
    maps = people.maps.reshape(*people.maps.shape[:3], -1)
    first = {name: array[0] for name, array in vars(prior).items() if name not in ("mean", "deviation")}
    trained = _member(people, maps, prior.mean, prior.deviation, 0, first)
    arrays: dict[str, Any] = {"mean": prior.mean, "deviation": prior.deviation}
    mixed = {name: SHARE * array + (1 - SHARE) * first[name] for name, array in trained.items()}
    return arrays | {name: array[None] for name, array in mixed.items()}


def _write(output: Path, arrays: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    half = {k: v.astype(np.float32 if k in ("mean", "deviation") else np.float16) for k, v in arrays.items()}
    save_file({k: np.ascontiguousarray(v) for k, v in half.items()}, output)


def _as_seen(people: People) -> NDArray[np.float32]:
    return people.maps[:, :2].astype(np.float32)


def _components(maps: NDArray[np.float16]) -> tuple[FloatArray, FloatArray, NDArray[np.float32]]:
    """(basis [C, K], centre [C], maps [N, 4, K, 64]): principal components of all cells, of unit variance."""
    count, channels = len(maps), maps.shape[2]
    cells = maps.reshape(count, 4, channels, 64)
    some = cells[::4, :2].transpose(0, 1, 3, 2).reshape(-1, channels).astype(np.float32)
    centre = some.mean(0)
    values, vectors = np.linalg.eigh(np.cov(some.T))
    basis = (vectors[:, ::-1] / np.sqrt(values[::-1]))[:, :COMPONENTS].astype(np.float32)
    result = np.empty((count, 4, COMPONENTS, 64), np.float32)
    for i in range(count):
        result[i] = basis.T @ (cells[i].astype(np.float32) - centre[:, None])
    return basis, centre, result


def _member(
    people: People,
    maps: NDArray[Any],  # [N, 4, K, 64]
    mean: FloatArray,
    deviation: FloatArray,
    seed: int,
    start: dict[str, NDArray[np.float32]] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """One network's arrays, by the names of `image_prior.ImageOrientationPrior`; from `start`, or anew."""
    import torch
    from torch.nn.functional import dropout, silu

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    shapes = {"squeeze": (COMPONENTS, WIDTH), "cells": (WIDTH * 64, HIDDEN), "points": (len(mean), HIDDEN),
              "second": (HIDDEN, HIDDEN), "last": (HIDDEN, keypoint_prior.OUTPUTS)}  # fmt: skip
    weights = {k: torch.nn.Parameter(torch.randn(s) / s[0] ** 0.5) for k, s in shapes.items()}
    names = {
        "squeeze_bias": WIDTH,
        "first_bias": HIDDEN,
        "second_bias": HIDDEN,
        "last_bias": keypoint_prior.OUTPUTS,
    }
    biases = {k: torch.nn.Parameter(torch.zeros(n)) for k, n in names.items()}
    with torch.no_grad():
        weights["last"].mul_(0.1)
        biases["last_bias"][6:] = -1.0
    if start is not None:
        weights = {name: torch.nn.Parameter(torch.tensor(start[name])) for name in weights}
        biases = {name: torch.nn.Parameter(torch.tensor(start[name])) for name in biases}
    epochs, rate, decay = (EPOCHS, RATE, DECAY) if start is None else (MORE_EPOCHS, MORE_RATE, 0.0)
    groups = [{"params": list(weights.values()), "weight_decay": decay},
              {"params": list(biases.values()), "weight_decay": 0.0}]  # fmt: skip
    optimiser = torch.optim.AdamW(groups, lr=rate)
    steps = epochs * len(maps) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    mirrored = np.concatenate(
        [keypoint_prior.mirror(people.keypoints), people.keypoints[:, keypoint_prior.USED :]], axis=1
    )
    # What keypoints alone tell is asked once: anew for every disturbed copy would take most of the time.
    plain = keypoint_prior.features(people.keypoints).shape[1]
    predicted = np.stack([image_prior.known(points)[:, plain:] for points in (people.keypoints, mirrored)])
    for step in range(steps):
        rows, which = rng.integers(0, len(maps), BATCH), rng.integers(0, 4, BATCH)
        turned = which % 2 == 1
        points = disturbed(np.where(turned[:, None, None], mirrored[rows], people.keypoints[rows]), rng)
        prediction = predicted[which % 2, rows] + rng.normal(0, 0.03, (BATCH, predicted.shape[-1]))
        target = torch.tensor(
            np.where(
                turned[:, None, None], people.directions[rows] * MIRRORED, people.directions[rows]
            ).astype("f4")
        )
        said = np.concatenate([keypoint_prior.features(points), prediction], axis=1)
        known = torch.tensor(((said - mean) / deviation).astype("f4"))
        seen = torch.from_numpy(maps[rows, which].astype(np.float32))
        cells = dropout(seen, DROPOUT) if start is None else seen
        squeezed = silu(weights["squeeze"].T @ cells + biases["squeeze_bias"][:, None])
        hidden = dropout(squeezed.flatten(1), DROPOUT) @ weights["cells"] + known @ weights["points"]
        hidden = dropout(silu(hidden + biases["first_bias"]), DROPOUT)
        hidden = dropout(silu(hidden @ weights["second"] + biases["second_bias"]), DROPOUT)
        result = hidden @ weights["last"] + biases["last_bias"]
        log_deviation = result[:, 6:].clamp(-5, 1)
        square = ((result[:, :6].reshape(-1, 2, 3) - target) ** 2).sum(-1)
        # Student's t with four degrees of freedom: a few flips must not decide everybody's deviation.
        loss = (3 * log_deviation + 3.5 * torch.log1p(square / (4 * torch.exp(2 * log_deviation)))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 300 == 0:
            print(f"network {seed}, step {step}/{steps}: {loss.item():.3f}", flush=True)
    return {name: value.detach().numpy() for name, value in (weights | biases).items()}


def test(weights: Path, people: People) -> None:
    """Print the prior's errors, beside those of the prior from keypoints alone."""
    prediction, deviation = keypoint_prior.load_keypoint_prior().predict(people.keypoints)
    report("keypoints", prediction, deviation, people.directions)
    prediction, deviation = image_prior.ImageOrientationPrior.load(weights).predict(
        people.keypoints, _as_seen(people)
    )
    report("image", prediction, deviation, people.directions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("collect")
    verb.add_argument("cache", type=Path)
    verb.add_argument("folder", type=Path)
    verb = verbs.add_parser("render")
    verb.add_argument("cache", type=Path)
    verb.add_argument("--seed", type=int, required=True)
    verb.add_argument("--photos", type=int, default=1000)
    verb.add_argument("--variety", choices=["usual", "wide"], default="wide")
    verb = verbs.add_parser("train")
    verb.add_argument("caches", type=Path, nargs="+")
    verb.add_argument("--output", type=Path, default=image_prior.DATA_FILE)
    verb.add_argument("--start", type=Path, help="weights to go on from")
    verb = verbs.add_parser("test")
    verb.add_argument("weights", type=Path)
    verb.add_argument("caches", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.verb == "collect":
        collect(arguments.cache, arguments.folder)
    elif arguments.verb == "render":
        render(arguments.cache, arguments.seed, arguments.photos, arguments.variety)
    elif arguments.verb == "train":
        train(People.load(arguments.caches), arguments.output, arguments.start)
    else:
        test(arguments.weights, People.load(arguments.caches))


if __name__ == "__main__":
    main()

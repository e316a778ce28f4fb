"""Train the keypoint orientation prior (`phq_data.models.orientation.keypoint_prior`) on rendered people.

    python tools/train_keypoint_prior.py collect CACHE.npz --seed 21 --photos 2000   (0.4 s a photo and core)
    python tools/train_keypoint_prior.py train CACHE.npz [CACHE.npz ...]             (about a minute)
    python tools/train_keypoint_prior.py test WEIGHTS.safetensors CACHE.npz

`collect` runs the embedded detector on rendered photos; it may be stopped and started again. Needs torch.
Seeds that accuracy is reported on must not be collected.
"""

from __future__ import annotations

import argparse
import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phq_data.models.movenet.detector import MoveNetDetector
from phq_data.models.orientation import keypoint_prior
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.rig import rotation_matrix

FloatArray = NDArray[np.float64]
WIDTH, MEMBERS, EPOCHS, BATCH, SEED = 128, 6, 120, 128, 0


@dataclass(frozen=True)
class People:
    """Detected people whose orientation is known."""

    keypoints: FloatArray  # [N, 17, 3]
    directions: FloatArray  # [N, 2, 3] unit vectors to the camera in the frames of chest and head
    photos: NDArray[np.int64]  # [N] index of the photo

    def save(self, path: Path, upto: int, seed: int) -> None:
        np.savez_compressed(
            path,
            keypoints=self.keypoints,
            directions=self.directions,
            photos=self.photos,
            upto=upto,
            seed=seed,
        )


def load(path: Path) -> tuple[People, int]:
    with np.load(path) as file:
        return People(file["keypoints"], file["directions"], file["photos"]), int(file["upto"])


def collect(path: Path, seed: int, photos: int) -> None:
    """Detect the people of `photos` rendered photos and keep those that are somebody."""
    from phq_data.synthesis import photograph

    detector = MoveNetDetector()
    people, start = load(path) if path.exists() else (People(*_empty()), 0)
    found = [(people.keypoints[i], people.directions[i], people.photos[i]) for i in range(len(people.photos))]
    for index in range(start, photos):
        photo = photograph.take(seed, index)
        image = np.asarray(Image.open(io.BytesIO(photo.jpeg)).convert("RGB"))
        detected = [person.keypoints for person in detector.detect(image)]
        for subject in photo.subjects:
            shown = (subject.mask > 127).sum() / max(1, subject.alone.sum())
            place = subject.place
            points = subject.posed.landmarks @ place.rotation.T + place.translation
            unit = photo.lens.focal / place.translation[2]
            keypoints = _match(photo.lens.project(points), unit, detected)
            if keypoints is not None and shown > 0.5:
                pose = np.asarray(subject.person.stance.pose)
                chest = -place.rotation.T @ (place.translation / np.linalg.norm(place.translation))
                head = (rotation_matrix(pose[:3]) @ rotation_matrix(pose[3:])).T @ chest
                found.append((keypoints, np.stack([chest, head]), np.int64(index)))
        if (index + 1) % 50 == 0 or index + 1 == photos:
            columns = [np.array(column) for column in zip(*found, strict=True)]
            People(*columns).save(path, index + 1, seed)
            print(f"{index + 1} photos, {len(found)} people", flush=True)


def _empty() -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    return np.zeros((0, 17, 3)), np.zeros((0, 2, 3)), np.zeros(0, np.int64)


def _match(points: FloatArray, unit: float, detected: list[FloatArray]) -> FloatArray | None:
    """The detected person [17, 3] whose head and shoulders lie within 0.15 m of these landmarks, if any.

    Shoulders that the detector swapped still match: the prior must learn of them.
    """
    from phq_data.bodies.anny import load_body

    body = load_body()
    truth = points[[body.landmark(name) for name in COCO_KEYPOINTS[: keypoint_prior.CORE]]]
    best: tuple[float, FloatArray | None] = (0.15, None)
    for keypoints in detected:
        for order in (np.arange(keypoint_prior.CORE), keypoint_prior.MIRROR[: keypoint_prior.CORE]):
            distance = np.median(np.linalg.norm(keypoints[order, :2] - truth, axis=1)) / unit
            if distance < best[0]:
                best = (float(distance), keypoints)
    return best[1]


def train(paths: list[Path], output: Path) -> None:
    """Fit the ensemble and write it."""
    import torch
    from safetensors.numpy import save_file

    parts = [load(path)[0] for path in paths]
    keypoints = np.concatenate([p.keypoints for p in parts])[:, : keypoint_prior.USED]
    directions = np.concatenate([p.directions for p in parts]).reshape(-1, 6)
    keypoints = np.concatenate([keypoints, keypoint_prior.mirror(keypoints)])
    target = torch.tensor(
        np.concatenate([directions, directions * (-1, 1, 1, -1, 1, 1)]), dtype=torch.float32
    )
    values = keypoint_prior.features(keypoints)
    mean, deviation = values.mean(0), values.std(0) + 1e-2
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    sizes = [values.shape[1], WIDTH, WIDTH, keypoint_prior.OUTPUTS]
    weights = [torch.nn.Parameter(torch.randn(MEMBERS, a, b) / a**0.5) for a, b in itertools.pairwise(sizes)]
    biases = [torch.nn.Parameter(torch.zeros(MEMBERS, b)) for b in sizes[1:]]
    with torch.no_grad():
        weights[-1].mul_(0.1)
        biases[-1][:, 6:] = -1.0
    groups = [{"params": weights, "weight_decay": 0.15}, {"params": biases, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=2e-3)
    steps = EPOCHS * len(values) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in range(steps):
        chosen = rng.integers(0, len(values), (MEMBERS, BATCH))
        noisy = (keypoint_prior.features(disturbed(keypoints[chosen.ravel()], rng)) - mean) / deviation
        layer = torch.tensor(noisy.reshape(MEMBERS, BATCH, -1), dtype=torch.float32)
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            layer = layer @ weight + bias[:, None]
            if i + 1 < len(weights):
                layer = torch.nn.functional.dropout(torch.nn.functional.silu(layer), 0.1)
        log_deviation = layer[..., 6:].clamp(-5, 1)
        square = ((layer[..., :6] - target[chosen]) ** 2).reshape(MEMBERS, BATCH, 2, 3).sum(-1)
        # Student's t with four degrees of freedom: a few flips must not decide everybody's deviation.
        loss = (3 * log_deviation + 3.5 * torch.log1p(square / (4 * torch.exp(2 * log_deviation)))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}/{steps}: {loss.item():.3f}", flush=True)
    arrays = {"mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32)}
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        arrays[f"weight{i}"] = weight.detach().numpy().astype(np.float16)
        arrays[f"bias{i}"] = bias.detach().numpy().astype(np.float16)
    save_file(arrays, output, metadata={"people": str(len(values) // 2)})
    print(f"{output}: {len(values) // 2} people")


def disturbed(keypoints: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A little of what real photos add: other noise, other scores, lost points."""
    result = keypoints.copy()
    core = result[:, : keypoint_prior.CORE, :2]
    size = np.sqrt(np.mean(np.sum((core - core.mean(1, keepdims=True)) ** 2, -1), 1))[:, None, None]
    result[..., :2] += rng.normal(size=result[..., :2].shape) * size * 0.03
    score = result[..., 2] * rng.uniform(0.85, 1.1, (len(result), 1)) + rng.normal(0, 0.04, result.shape[:2])
    result[..., 2] = np.clip(score, 0.02, 1) * (rng.random(result.shape[:2]) > 0.04)
    return result


def test(weights: Path, paths: list[Path]) -> None:
    """Print the prior's errors on people that it was not trained on."""
    parts = [load(path)[0] for path in paths]
    truth = np.concatenate([p.directions for p in parts])
    prediction, deviation = keypoint_prior.KeypointOrientationPrior.load(weights).predict(
        np.concatenate([p.keypoints for p in parts])
    )
    report(weights.name, prediction, deviation, truth)


def report(title: str, prediction: FloatArray, deviation: FloatArray, truth: FloatArray) -> None:
    """Print errors of predicted directions [N, 2, 3] of chest and head, and how true their `deviation` is."""
    for which, name in enumerate(("chest", "head")):
        yaw, true = (np.arctan2(v[:, which, 0], v[:, which, 2]) for v in (prediction, truth))
        off = np.degrees(np.abs((yaw - true + np.pi) % (2 * np.pi) - np.pi))
        low, high = (np.arcsin(np.clip(_unit(v[:, which])[:, 1], -1, 1)) for v in (prediction, truth))
        lift = np.degrees(np.abs(low - high))
        ratio = np.linalg.norm(prediction[:, which] - truth[:, which], axis=1) / deviation[:, which] / 3**0.5
        print(
            f"{title}, {name}: {len(off)} people, yaw off by {np.median(off):.1f} (median) and "
            f"{np.percentile(off, 95):.1f} degrees (95 %), {100 * np.mean(off > 90):.1f} % front-back, "
            f"pitch by {np.median(lift):.1f} and {np.percentile(lift, 95):.1f}, "
            f"error over deviation {np.median(ratio):.2f} (median) {np.percentile(ratio, 95):.2f} (95 %)"
        )


def _unit(vectors: FloatArray) -> FloatArray:
    unit: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("collect")
    verb.add_argument("cache", type=Path)
    verb.add_argument("--seed", type=int, required=True)
    verb.add_argument("--photos", type=int, required=True)
    verb = verbs.add_parser("train")
    verb.add_argument("caches", type=Path, nargs="+")
    verb.add_argument("--output", type=Path, default=keypoint_prior.DATA_FILE)
    verb = verbs.add_parser("test")
    verb.add_argument("weights", type=Path)
    verb.add_argument("caches", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.verb == "collect":
        collect(arguments.cache, arguments.seed, arguments.photos)
    elif arguments.verb == "train":
        train(arguments.caches, arguments.output)
    else:
        test(arguments.weights, arguments.caches)


if __name__ == "__main__":
    main()

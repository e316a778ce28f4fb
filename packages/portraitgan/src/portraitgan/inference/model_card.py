"""The model card: what a model is, what it was trained on, and the numbers of its run.

Every number is read from the run's files; what was not measured is not in the card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phq_data.foreign import parse_json
from phq_data.text import markdown
from portraitgan.checkpoints import checkpoint as runs
from portraitgan.config import ModelConfig
from portraitgan.training.config import TrainConfig
from portraitgan.training.run import read_run_config
from portraitgan.training.statistics import FILE as STATISTICS_FILE

_TAGS = ("image-to-3d", "unconditional-image-generation", "portrait", "3d", "head-pose", "phq")


@dataclass(frozen=True)
class RunFacts:
    """What a run and a checkpoint say of themselves; none where they do not."""

    preset: str | None = None
    images: int | None = None  # seen in training
    release: str | None = None  # digest of the release that was trained on
    seed: int | None = None
    fid_in_training: float | None = None  # if the checkpoint is the run's best
    hours: float | None = None  # of training, on that machine
    metrics: Mapping[str, Any] | None = None  # of `portraitgan metrics`


def facts_of(folder: Path, run: Path | None) -> RunFacts:
    """The facts of a checkpoint folder and of the run it belongs to. Damaged files count as missing."""
    state = _object(folder / runs.STATE_FILE)
    config: TrainConfig | None = None if run is None else read_run_config(run)
    images, release = state.get("images"), state.get("data")
    best = None if run is None else runs.best(run)
    measured = folder / "metrics.json" if run is None else run / "metrics" / f"{folder.name}.json"
    return RunFacts(
        preset=None if config is None else config.name,
        images=images if isinstance(images, int) else None,
        release=release if isinstance(release, str) else None,
        seed=None if config is None else config.seed,
        fid_in_training=best.fid if best is not None and best.folder.name == folder.name else None,
        hours=None if run is None else _hours(run / STATISTICS_FILE, images),
        metrics=_object(measured) or None,
    )


def plain_card(config: ModelConfig, has_rig: bool) -> str:
    """The model card of a model of which nothing but its config is known."""
    return make_card(config, has_rig, RunFacts())


def make_card(
    config: ModelConfig,
    has_rig: bool,
    facts: RunFacts,
    repository: str = "USER/NAME",
    license_name: str | None = None,  # of the Hub's list
    has_pose_network: bool = False,
) -> str:
    """The model card as Markdown with the Hub's front matter. Text from files is escaped."""
    numbers = _numbers(facts)
    front: dict[str, Any] = {
        **({} if license_name is None else {"license": license_name}),
        "library_name": "portraitgan",
        "pipeline_tag": "image-to-3d",
        "tags": list(_TAGS),
    }
    if numbers:
        front["model-index"] = [_index(repository, facts, numbers)]
    lines = "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in front.items())
    training = _table(_training(facts)) or "Nothing is known of the run.\n"
    measured = (
        _table([(name, f"{value:.4g}") for name, value in numbers.items()]) or "Nothing was measured.\n"
    )
    pose_network = "discriminator_ema.safetensors predicts them" if has_pose_network else "no network here"
    return f"""---
{lines}---

# {markdown(repository)}

A 3D portrait generator of PHQ (`pip install portraitgan`): a latent, a camera and a body pose become a
portrait of {config.generator.image_resolution} x {config.generator.image_resolution} pixels, from any side.

| the model | |
| --- | --- |
| configuration | {markdown(config.name)} |
| image | {config.generator.image_resolution} pixels a side |
| neural rendering resolution | {config.generator.render.resolution} |
| latent | {config.generator.z_dim} numbers |
| body pose | {_body(config, has_rig)} |
| poses of photos | {pose_network} |

## Training
{training}
## Numbers
{measured}{_note(facts)}
## Use
```python
from portraitgan.inference.hub import Generator

generator = Generator.from_pretrained("{repository}")
```

`portraitgan sample FOLDER sheet.png --seeds 0-15` and all other commands take the folder. Cameras are 25
numbers (camera-to-world matrix and intrinsics), poses are axis-angles of neck and head in radians.

## People
The model shows people who do not exist, learned from photos of people who do. What the photos may be used for
is said by the release that it was trained on; portraits close to a photo of the training cannot be ruled out.
Do not use it to show somebody doing or being what they are not.
"""


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"| {name} | {value} |\n" for name, value in rows)
    return f"| | |\n| --- | --- |\n{lines}" if rows else ""


def _body(config: ModelConfig, has_rig: bool) -> str:
    if config.generator.deformation.mode == "none":
        return "none: trained without body poses"
    if has_rig:
        return "six numbers of neck and head; the rig is rig.safetensors"
    return "six numbers of neck and head; the rig is not part of this folder (`--rig FILE`)"


def _training(facts: RunFacts) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if facts.preset is not None:
        rows.append(("preset", markdown(facts.preset)))
    if facts.images is not None:
        rows.append(("images seen", f"{facts.images:,}"))
    if facts.hours is not None:
        rows.append(("hours of training", f"{facts.hours:.2f}"))
    if facts.seed is not None:
        rows.append(("seed", str(facts.seed)))
    if facts.release is not None:
        rows.append(("release, by its digest", markdown(facts.release)))
    return rows


def _numbers(facts: RunFacts) -> dict[str, float]:
    """Every measured number by its name in the card."""
    found: dict[str, Any] = {"FID during training": facts.fid_in_training}
    metrics = facts.metrics or {}
    for source, part in _mapping(_mapping(metrics.get("fid")).get("headline")).items():
        for kind in ("view", "random"):
            found[f"FID-{kind}, {markdown(source)} poses"] = _mapping(part).get(kind)
    found["identity between two views"] = _mapping(metrics.get("identity")).get("similarity")
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _note(facts: RunFacts) -> str:
    """By which network FIDs were measured, and what is to be known of it."""
    fid = _mapping((facts.metrics or {}).get("fid"))
    said = [str(fid[name]) for name in ("network", "note") if fid.get(name)]
    count = fid.get("count")
    if isinstance(count, int):
        said.insert(0, f"{count:,} portraits")
    return f"\nFID: {markdown('; '.join(said))}.\n" if said else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _index(repository: str, facts: RunFacts, numbers: Mapping[str, float]) -> dict[str, Any]:
    release = facts.release or "unknown"
    return {
        "name": repository.rpartition("/")[2],
        "results": [
            {
                "task": {"type": "unconditional-image-generation"},
                "dataset": {"type": "phq-release", "name": f"PHQ release {release[:12]}"},
                "metrics": [
                    {"type": "fid" if "fid" in name.lower() else "other", "name": name, "value": value}
                    for name, value in numbers.items()
                ],
            }
        ],
    }


def _hours(path: Path, images: Any) -> float | None:
    """Hours of training up to `images`, from the rows of the run's statistics."""
    seconds, before = 0.0, 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = parse_json(line)
            if isinstance(images, int) and row["images"] > images:
                break
            seconds += row["seconds_per_kimg"] * (row["images"] - before) / 1000
            before = row["images"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seconds / 3600 if before else None


def _object(path: Path) -> Mapping[str, Any]:
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

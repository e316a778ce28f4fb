"""All metrics of a checkpoint in one result: a JSON file and a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phq_data.files import writing
from phq_data.foreign import parse_json
from portraitgan.data.balance import OCTANTS
from portraitgan.data.dataset import PortraitData
from portraitgan.inference.model import Model
from portraitgan.metrics import artifacts, identity, poses, quality
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.faces import open_face_network
from portraitgan.metrics.features import open_features
from portraitgan.metrics.generate import Advance, settings_of
from portraitgan.training.distributed import World

PARTS = ("fid", "identity", "canonicality", "pose", "artifacts")
Watch = Callable[[str, int], Advance]
"""Told what begins and how many portraits it is of; returns what is told of every batch."""


@dataclass(frozen=True)
class MetricOptions:
    """What is measured, and how."""

    parts: tuple[str, ...] = PARTS
    count: int = 50_000  # generated portraits for each FID
    num_samples: int = identity.LATENTS  # for identity, canonicality and generated poses
    batch: int = 8
    seed: int = 0
    poses: tuple[str, ...] = ()  # only these pose sources of FID; none named: all that the model has
    yaw_limit: float = identity.YAW_LIMIT
    features: str | None = None  # file of Inception weights
    face: str | None = None  # ONNX file of a face recognition network

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown:
            raise MetricError(f"there is no metric {unknown[0]!r}; choose from {', '.join(PARTS)}")
        if self.count < 2 or self.num_samples < 2 or self.batch < 1:
            raise MetricError("metrics need at least 2 portraits, in batches of at least 1")


def run(
    model: Model,
    data: PortraitData,
    options: MetricOptions,
    world: World,
    *,
    pose_model: Model | None = None,
    cache: Path | None = None,
    watch: Watch = lambda what, total: lambda number: None,
    save: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Measure; every process of `world` must call this, all get the result.

    `pose_model` predicts poses where the model's own discriminator does not. `cache` keeps features of real
    portraits. `save` gets what there is after every part.
    """
    result: dict[str, Any] = {
        "checkpoint": str(model.folder),
        "release": {
            "url": data.release.url,
            "version": data.release.version,
            "digest": data.checksum,
            "portraits": data.portraits,
            "mirrored": data.mirror,
        },
        "resolution": data.resolution,
        "split": data.split,
    }
    measured = {"seed": options.seed, "processes": world.size, "device": _device(world.device)}
    has_predictor = model.config.discriminator.pose_predictor is not None
    posing = pose_model or (model if has_predictor else None)
    size = {"batch": options.batch, "seed": options.seed}
    if "fid" in options.parts:
        network = open_features(options.features, world.device)
        settings = [s for s in settings_of(model) if not options.poses or s.poses in options.poses]
        if not settings:
            raise MetricError(
                f"this model has no pose source of {', '.join(options.poses)}; it has "
                f"{', '.join(dict.fromkeys(s.poses for s in settings_of(model)))}"
            )
        measured_fid = quality.measure(
            model, data, network, settings, options.count, world, cache=cache, watch=watch, **size
        )
        result["fid"] = {
            "headline": quality.headline(measured_fid),
            "settings": measured_fid,
            "poses": list(options.poses),
            "count": options.count,
            "batch": options.batch,
            "network": network.name,
            "network_sha256": network.sha256,
            "standard": network.standard,
            "note": network.note,
            **measured,
        }
        save(result)
    if "identity" in options.parts:
        face = open_face_network(options.face)
        result["identity"] = identity.measure(
            model, data, face, world, count=options.num_samples, yaw_limit=options.yaw_limit,
            done=watch("identity", options.num_samples), **size,
        )  # fmt: skip
        save(result)
    if "canonicality" in options.parts:
        result["canonicality"] = None
        if posing is not None:
            result["canonicality"] = poses.canonicality(
                model,
                posing,
                world,
                count=options.num_samples,
                done=watch("canonicality", options.num_samples),
                **size,
            )
        save(result)
    if "pose" in options.parts:
        rendered = settings_of(model)[0]
        result["generated_poses"] = None
        if has_predictor and rendered.poses != "none":
            result["generated_poses"] = poses.generated_error(
                model, data, world, setting=rendered, count=options.num_samples,
                done=watch("poses of generated portraits", options.num_samples), **size,
            )  # fmt: skip
        advance = watch("poses of real portraits", data.portraits)
        result["real_poses"] = poses.real_errors(model, data, world, batch=options.batch, done=advance)
        save(result)
    if "artifacts" in options.parts:
        face = open_face_network(options.face)
        result["artifacts"] = artifacts.measure(
            model, data, face, world, count=options.num_samples,
            done=watch("artifacts", options.num_samples), **size,
        )  # fmt: skip
        save(result)
    return result


def write(path: Path, result: dict[str, Any]) -> None:
    """The result as JSON, whole or not at all.

    What the file already says of the same checkpoint and data and was not measured now stays.
    """
    try:
        known = parse_json(path.read_text())
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    same = all(known.get(name) == result[name] for name in ("checkpoint", "release", "resolution", "split"))
    with writing(path) as temporary:
        temporary.write_text(json.dumps({**(known if same else {}), **result}, indent=1) + "\n")


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [
        f"{result['checkpoint']} against {result['release']['url']} ({result['release']['digest'][:12]})"
    ]
    if "fid" in result:
        lines += _quality_lines(result)
    if same := result.get("identity"):
        lines += [
            "",
            f"identity     {same['similarity']:.3f} between two views of a person, "
            f"{_number(same['different_people'], 0, 3)} between people",
            f"             ({same['latents']:,} latents, up to {same['yaw_limit_deg']:g} degrees from the "
            f"front, {same['network']})",
        ]
    if "canonicality" in result:
        lines += ["", "poses seen in frontal neutral samples, degrees:"]
        if (found := result["canonicality"]) is None:
            lines.append(
                "  the discriminator predicts no poses: name a checkpoint that does (--pose-discriminator)"
            )
        else:
            lines += [
                " " * 8 + "".join(f"{name:>9}" for name in poses.COMPONENTS),
                *(
                    f"  {title:<6}" + "".join(f"{found[key][name]:9.2f}" for name in poses.COMPONENTS)
                    for title, key in (
                        ("|mean|", "absolute_mean_deg"),
                        ("|std|", "absolute_std_deg"),
                        ("mean", "mean_deg"),
                        ("std", "std_deg"),
                    )
                ),
            ]
    lines += _pose_lines(result)
    if found := result.get("artifacts"):
        lines += _artifact_lines(found)
    return "\n".join(lines)


def _artifact_lines(found: dict[str, Any]) -> list[str]:
    said = "the data has too few faces or backs of heads to tell"
    if faces := found["faces_behind"]:
        said = (
            f"{faces['rate']:.1%} of generated rear views (of real ones {faces['real_rear']:.1%}, of real "
            f"faces {faces['real_front']:.1%} count as faces)"
        )
    lines = [
        "",
        f"faces on the back of heads: {said}",
        f"mirror score: {_number(found['mirror_score'], 0, 3)} (0: right sides are mirrored left ones)",
        f"{'width of masks, mm: real, made, apart':<38}" + "".join(f"{v:>22}" for v in artifacts.VIEWS),
    ]
    for band, views in found["extents"].items():
        cells = [
            f"{'-':>22}" if one is None else
            f"{one['real_mm']:8.0f}{one['made_mm']:7.0f}{one['apart_mm']:7.0f}" for one in views.values()
        ]  # fmt: skip
        lines.append(f"  {band:<36}" + "".join(cells))
    return lines


def _quality_lines(result: dict[str, Any]) -> list[str]:
    middles = [str(middle) for middle in OCTANTS]
    lines = [""]
    for source, found in result["fid"]["headline"].items():
        lines.append(
            f"FID-view {_number(found['view'], 0)}, FID-random {_number(found['random'], 0)}, gap "
            f"{_number(found['gap'], 0)} with poses of: {source}"
        )
    lines += ["", f"{'poses, conditioning':<28}{'FID':>9}{'KID x1000':>11}   FID by yaw, degrees"]
    lines.append(" " * 51 + "".join(f"{middle:>8}" for middle in middles))
    for name, found in result["fid"]["settings"].items():
        octants = "".join(_number(found["octants"][middle]["fid"], 8) for middle in middles)
        lines.append(f"{name:<28}{_number(found['fid'], 9)}{_number(found['kid_x1000'], 11)}   {octants}")
    lines.append(f"{result['fid']['count']:,} generated portraits each; network {result['fid']['network']}")
    if result["fid"]["note"]:
        lines.append(result["fid"]["note"])
    return lines


def _pose_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    if found := result.get("generated_poses"):
        lines.append(
            f"poses of generated portraits: seen {found['mean_deg']:.2f} degrees off (neck "
            f"{found['neck_deg']:.2f}, head {found['head_deg']:.2f})"
        )
    if found := result.get("real_poses"):
        lines.append(f"poses of real portraits, {found['labels']['count']:,} of known truth:")
        lines.append(f"  labels   {found['pose_error_labels_deg']:.2f} degrees off")
        if found["pose_error_learned_deg"] is not None:
            lines.append(f"  learned  {found['pose_error_learned_deg']:.2f} degrees off")
    elif "real_poses" in result:
        lines.append("poses of real portraits: the release knows no truth to compare with")
    return ["", *lines] if lines else []


def _number(value: float | None, width: int, digits: int = 2) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"

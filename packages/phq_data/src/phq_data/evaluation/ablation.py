"""What settings are worth: the same photos labelled under several, each measured against the truth.

All variants are built in one workspace, one after the other, so that only the stages that a setting concerns
run again. Differences of a variant from the first one are told on the people who get a label from both, too,
since a mean over others would mix who is found with how good the labels are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from phq_data import config as configs
from phq_data.evaluation import accuracy
from phq_data.evaluation.accuracy import PersonError
from phq_data.evaluation.matching import wrapped
from phq_data.files import file_sha256
from phq_data.pipeline.local import Progress, SilentProgress, run_inline
from phq_data.pipeline.model_set import rig_of
from phq_data.sources.resolve import resolve
from phq_data.stages.uncertainty import WRONG
from phq_data.synthesis.truth import read_truth
from phq_data.workspace import Workspace, WorkspaceError

_MARK = "accuracy-compare.json"

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "reference joints": ("align.joints=reference",),
    "reference crop": ("crop.mode=reference",),
    "one start": ("fit.initializations=1",),
    "mean shape": ("fit.shape_directions=0",),
    "view from keypoints": ("fit.orientation_prior=keypoints",),
    "no view": ("fit.orientation_prior=none",),
    "no mirror": ("detect.flip_tta=false",),
}
"""What the report compares unless told otherwise. The settings nearest to the photos come last: they make
everything be done again."""


@dataclass(frozen=True)
class Compared:
    """One variant's numbers: medians and 95th percentiles in degrees or shares of the image's side."""

    name: str
    settings: tuple[str, ...]
    people: int
    labelled: float  # share of people with a portrait
    kept: float  # share that the screening keeps
    seconds: float  # of the stages that ran for it
    labels: dict[str, float]  # of everybody with a label
    kept_labels: dict[str, float]  # of kept portraits
    moved: float  # median change of yaw against the first variant, degrees
    better: float  # share of people who have a label in both and are nearer to the truth by over a degree
    worse: float  # ... farther


def compare(
    photos: Path,
    truth: Path,
    workspace: Path,
    variants: Mapping[str, Sequence[str]] = VARIANTS,
    on_variant: Callable[[Compared], object] = lambda _: None,
    *,
    workers: int = 1,
    watch: Callable[[str], AbstractContextManager[Progress]] = lambda _: nullcontext(SilentProgress()),
) -> list[Compared]:
    """Build and measure every variant; `on_variant` is called after each.

    `workers` threads label; `watch` gives a variant's progress by its name. The workspace is made here and
    goes on where it was stopped; one that holds anything else is refused. Raises `WorkspaceError`.
    """
    known = read_truth(truth)
    for settings in variants.values():
        names = [text.split("=")[0].strip() for text in settings]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise configs.ConfigError(f"{doubled[0]} is set twice in one variant")
    wanted = {
        name: reduce(configs.PipelineConfig.replace_setting, settings, configs.default())
        for name, settings in variants.items()
    }
    opened = _claim(photos, truth, known, workspace)
    first: dict[tuple[str, int], PersonError] = {}
    results = []
    for name, config in wanted.items():
        with opened.lock(), watch(name) as shown:
            report = run_inline(opened, config, [resolve(str(photos))], workers=workers, progress=shown)
        if report.errors:
            raise WorkspaceError(f"variant '{name}': {report.errors[0]}")
        rig = rig_of(opened)
        try:
            errors = accuracy.measure(opened, known, rig)
        except WorkspaceError as error:
            raise WorkspaceError(f"variant '{name}' leaves nothing to measure: {error}") from error
        seconds = sum(part.seconds for part in report.reports)
        found = {(e.photo_id, e.order): e for e in errors if e.portrait_id}
        first = first or found
        results.append(_numbers(name, tuple(variants[name]), errors, found, first, seconds))
        on_variant(results[-1])
    return results


def _claim(photos: Path, truth: Path, known: pa.Table, workspace: Path) -> Workspace:
    """The workspace of a comparison on these photos. Raises `WorkspaceError` where it is another's, or where
    a photo of the truth is missing; nothing is written then."""
    wanted = dict(zip(known["uri"].to_pylist(), known["photo_id"].to_pylist(), strict=True))
    missing = [name for name in wanted if not (photos / name).is_file()]
    changed = [name for name in wanted.keys() - set(missing) if file_sha256(photos / name) != wanted[name]]
    if missing or changed:
        word, first = ("missing", min(missing)) if missing else ("another one", min(changed))
        raise WorkspaceError(
            f"{photos} holds {len(wanted) - len(missing) - len(changed)} of the {len(wanted)} photos of "
            f"{truth} ({first} is {word}): name the folder `photos` beside the truth file"
        )
    mark = json.dumps({"photos": sorted(wanted.values())}).encode()
    if workspace.exists() and not workspace.is_dir():
        raise WorkspaceError(f"the workspace {workspace} is a file: name a folder")
    held = {path.name for path in workspace.iterdir()} if workspace.exists() else set()
    if held <= {"workspace.json"}:  # new, or stopped before it was marked
        opened = Workspace.open(str(workspace), create=True)
        opened.write_bytes(_MARK, mark)
        return opened
    if _MARK not in held or (workspace / _MARK).read_bytes() != mark:
        raise WorkspaceError(
            f"{workspace} holds something else than a comparison of these photos: name a new folder"
        )
    return Workspace.open(str(workspace))


def _numbers(
    name: str,
    settings: tuple[str, ...],
    errors: Sequence[PersonError],
    found: Mapping[tuple[str, int], PersonError],
    first: Mapping[tuple[str, int], PersonError],
    seconds: float,
) -> Compared:
    both = [(first[key], found[key]) for key in first if key in found]
    gain = np.array([a.yaw_deg - b.yaw_deg for a, b in both])
    moved = np.array([abs(wrapped(a.yaw - b.yaw, 360.0)) for a, b in both])
    return Compared(
        name=name,
        settings=settings,
        people=len(errors),
        labelled=len(found) / max(len(errors), 1),
        kept=sum(e.kept for e in errors) / max(len(errors), 1),
        seconds=seconds,
        labels=_middles(list(found.values())),
        kept_labels=_middles([e for e in errors if e.kept]),
        moved=float(np.median(moved)) if both else float("nan"),
        better=float(np.mean(gain > 1)) if both else float("nan"),
        worse=float(np.mean(gain < -1)) if both else float("nan"),
    )


def _middles(group: Sequence[PersonError]) -> dict[str, float]:
    if not group:
        return {}
    result = {}
    for name in ("yaw_deg", "pitch_deg", "roll_deg", "shoulder_share", "head_share"):
        values = [getattr(e, name) for e in group]
        result[name] = float(np.median(values))
        result[f"{name}_p95"] = float(np.percentile(values, 95))
    result["wrong"] = float(np.mean([e.yaw_deg > WRONG for e in group]))
    result["confused"] = float(np.mean([e.confused for e in group]))
    return result


def as_json(results: Sequence[Compared]) -> list[dict[str, Any]]:
    """The results as plain values."""
    return [dataclasses.asdict(one) for one in results]


HEADER = (
    f"{'variant':<20} {'label':>6} {'kept':>6} | {'yaw':>5} {'p95':>6} {'pitch':>5} {'roll':>5} "
    f"{'should':>6} {'head':>6} {'f/b':>5} | {'yaw':>5} {'p95':>6} | {'moved':>5} {'better':>6} {'worse':>6} "
    f"{'s':>5}"
)
FOOTER = (
    "Before the screening | of kept portraits | against the first: median change of yaw, shares nearer to "
    "and farther from the truth by over a degree. s: seconds of the stages that ran."
)


def line(one: Compared) -> str:
    """A variant as a line below `HEADER`."""
    every, kept = one.labels, one.kept_labels
    nan = float("nan")
    middle = " ".join(
        f"{every.get(name, nan):{width}}"
        for name, width in (
            ("yaw_deg", "5.1f"), ("yaw_deg_p95", "6.1f"), ("pitch_deg", "5.1f"), ("roll_deg", "5.1f"),
            ("shoulder_share", "6.3f"), ("head_share", "6.3f"), ("confused", "5.1%"),
        )
    )  # fmt: skip
    text = (
        f"{one.labelled:>6.1%} {one.kept:>6.1%} | {middle} | {kept.get('yaw_deg', nan):5.1f} "
        f"{kept.get('yaw_deg_p95', nan):6.1f} | {one.moved:5.1f} {one.better:6.0%} {one.worse:6.0%} "
        f"{one.seconds:5.0f}"
    )
    return f"{one.name:<20} {text.replace('nan%', '   -').replace('nan', '  -')}"

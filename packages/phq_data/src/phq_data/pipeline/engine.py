"""Running the stages over the parts of a workspace: what to do, what is done already, and who runs it.

A part of a stage is one unit of work: read its input parts, call the stage, write its table part, then its
ledger part. It is skipped when both are there with the fingerprint that its inputs, settings and models have
now. Flows (Prefect) and `runner.run_inline` only decide where and when parts run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from phq_data import config as settings
from phq_data import schema
from phq_data.compatibility import first_stage_name, upgrade_settings
from phq_data.config import PipelineConfig
from phq_data.models.registry import check_files
from phq_data.pipeline.model_set import models_for
from phq_data.stages.base import Outcome, Row, StageResult, Tick, no_tick
from phq_data.stages.uncertainty import load_model
from phq_data.workspace import PartInfo, Workspace, WorkspaceError


@dataclass(frozen=True)
class StageSpec:
    """What the engine must know of a stage."""

    name: str
    version: int  # raised when the stage's result changes for the same input
    table: str  # what it writes
    item: str  # key of the table whose rows are its items
    inputs: tuple[str, ...]  # folders whose part i it reads


STAGES: tuple[StageSpec, ...] = (
    StageSpec("ingest", 1, "photos", "item", ("plan",)),
    StageSpec("detect", 2, "people", "photo_id", ("tables/photos",)),
    StageSpec("fit", 2, "fits", "person_id", ("tables/people", "tables/photos")),
    StageSpec("align_crop", 1, "portraits", "fit_id", ("tables/fits", "tables/people", "tables/photos")),
    StageSpec("screen", 2, "screened", "portrait_id", ("tables/portraits", "tables/people", "tables/fits")),
)
"""In order. `align_crop` is align, crop and mask: one pass over a photo's pixels."""
STAGE_NAMES: tuple[str, ...] = tuple(spec.name for spec in STAGES)


@dataclass(frozen=True)
class PartReport:
    """What running one part of one stage came to."""

    stage: str
    part: int
    skipped: bool  # it was done already
    items: int
    kept: int
    rejected: int
    failed: int
    seconds: float


def fingerprint(spec: StageSpec, config: PipelineConfig, inputs: Iterable[PartInfo]) -> str:
    """What a part of a stage is made from: stage version, its settings, its models, its inputs' content."""
    models = models_for(config)
    made_with: dict[str, list[Any]] = {
        "ingest": [config.ingest],
        "detect": [config.detect, models.detector.fingerprint] if spec.name == "detect" else [],
        "fit": [config.fit, models.fitter.fingerprint] if spec.name == "fit" else [],
        # What was given counts by its content, wherever it lies.
        "align_crop": [config.align, replace(config.crop, head_boxes="", vertex_maps=""), config.mask],
        "screen": [config.screen],
    }
    parts = list(made_with[spec.name])
    if spec.name == "align_crop":
        parts += [models.segmenter.fingerprint, models.rig.digest, models.given.fingerprints]
    if spec.name == "screen":
        parts += [models.rig.digest, load_model().digest]
    return settings.digest(
        first_stage_name(spec.name), spec.version, parts, [info.content for info in inputs]
    )


def run_part(
    url: str,
    config: PipelineConfig,
    stage: str,
    part: int,
    *,
    retry_failed: bool = False,
    tick: Tick = no_tick,
) -> PartReport:
    """Run part `part` of `stage` in the workspace at `url`, unless it is done.

    Picklable and free of shared state: runs in a thread, a process, or on another machine that sees the
    workspace. Raises `WorkspaceError` when an input part is missing or the workspace cannot be written.
    """
    spec = STAGES[STAGE_NAMES.index(stage)]
    workspace = Workspace.open(url)
    inputs: list[PartInfo] = []
    for folder in spec.inputs:
        info = workspace.part_info(folder, part)
        if info is None:
            raise WorkspaceError(f"part {part} of {folder} is missing or damaged: run `phq build` again")
        inputs.append(info)
    expected = fingerprint(spec, config, inputs)
    done = _done(workspace, spec, part, expected)
    if done is not None and not (retry_failed and done.extra.get("retryable", 0)):
        counts = {name: int(done.extra.get(name, 0)) for name in ("items", "kept", "rejected", "failed")}
        return PartReport(stage, part, skipped=True, seconds=0.0, **counts)

    began = time.perf_counter()
    tables = [_read(workspace, folder, part) for folder in spec.inputs]
    result = _call(spec, workspace, config, tables, tick)
    rows = schema.to_table(spec.table, result.rows)
    outcomes = schema.to_table("ledger", _ledger_rows(spec, result.outcomes, tables))
    seconds = time.perf_counter() - began
    tally = {kind: sum(o.outcome == kind for o in result.outcomes) for kind in ("kept", "rejected", "failed")}
    extra = {
        "items": len(result.outcomes),
        **tally,
        "retryable": sum(o.retryable for o in result.outcomes),
        "seconds": round(seconds, 3),
    }
    workspace.write_part(f"tables/{spec.table}", part, rows, expected)
    workspace.write_part(f"ledger/{spec.name}", part, outcomes, expected, extra)
    return PartReport(stage, part, skipped=False, items=len(result.outcomes), seconds=seconds, **tally)


def prepare(workspace: Workspace, config: PipelineConfig) -> None:
    """Write down what the build is made with: settings and rig. Fails early when one is missing."""
    models = models_for(config)
    _, rig = models.given, models.rig  # raise what they have to raise before anything is written
    check_files(config.detect.model, config.mask.model)
    if config.detect.model.startswith("keypoints:"):
        _ = models.detector
    workspace.write_bytes("config.json", config.to_json().encode())
    workspace.write_bytes("rig.safetensors", rig.to_bytes())


def finish(workspace: Workspace, config: PipelineConfig) -> None:
    """The steps that need the whole workspace at once: near-duplicates among the kept portraits."""
    from phq_data.stages.dedup import duplicates

    parts = [workspace.part_info("tables/screened", part) for part in workspace.parts("tables/screened")]
    expected = settings.digest("dedup", 1, config.dedup, [info.content for info in parts if info])
    done = workspace.part_info("tables/duplicates", 0)
    if done is not None and done.fingerprint == expected:
        return
    columns = ["portrait_id", "photo_id", "phash", "kept", "effective_resolution"]
    rows = workspace.table("screened", columns).to_pylist()
    found = duplicates([row for row in rows if row["kept"]], config.dedup)
    workspace.write_part("tables/duplicates", 0, schema.to_table("duplicates", found), expected)


def _read(workspace: Workspace, folder: str, part: int) -> list[Row]:
    try:
        return workspace.read_part(folder, part).to_pylist()
    except WorkspaceError:
        # Its footer is whole, its pages are not: without its mark the next build makes it anew.
        for spec in STAGES:
            if folder == f"tables/{spec.table}":
                workspace.remove(f"ledger/{spec.name}/part-{part:05d}.parquet")
        raise


def _done(workspace: Workspace, spec: StageSpec, part: int, expected: str) -> PartInfo | None:
    ledger = workspace.part_info(f"ledger/{spec.name}", part)
    table = workspace.part_info(f"tables/{spec.table}", part)
    if ledger is None or table is None:
        return None
    return ledger if ledger.fingerprint == table.fingerprint == expected else None


def _call(
    spec: StageSpec, workspace: Workspace, config: PipelineConfig, tables: list[list[Row]], tick: Tick
) -> StageResult:
    from phq_data.stages import align_crop, detect, fit, ingest, screen

    models = models_for(config)

    def read(row: Row) -> bytes:
        try:
            return read_photo(workspace, row["key"])
        except WorkspaceError as error:  # one photo that is gone is no reason to stop the others
            raise FileNotFoundError(str(error)) from error

    def open_photo(photo: Row) -> Any:
        return ingest.open_photo(photo, read(photo), config.ingest.max_pixels)

    if spec.name == "ingest":
        return ingest.ingest(tables[0], read, config.ingest, tick=tick)
    if spec.name == "detect":
        return detect.detect(tables[0], open_photo, models.detector, config.detect, tick=tick)
    if spec.name == "fit":
        people, photos = tables
        return fit.fit(people, models.fitter, config.fit, photos=photos, open_photo=open_photo, tick=tick)
    if spec.name == "align_crop":
        fits, people, photos = tables
        return align_crop.align_crop(
            fits, people, photos, open_photo, models.segmenter, models.rig, models.template, config,
            tick=tick, given=models.given,
        )  # fmt: skip
    portraits, people, fits = tables
    return screen.screen(portraits, people, config.screen, models.rig, tick=tick, fits=fits)


def read_photo(workspace: Workspace, key: str) -> bytes:
    """The bytes of a photo: from the workspace, or from its own place when it was only referenced."""
    from phq_data.sources.resolve import open_uri

    if key.startswith("photos/"):
        return workspace.read_bytes(key)
    with open_uri(key) as file:
        return file.read()


def _ledger_rows(spec: StageSpec, outcomes: list[Outcome], tables: list[list[Row]]) -> list[Row]:
    """Ledger rows in the order of the items, each with the uri of its photo."""
    items = [row[spec.item] for row in tables[0]]
    told = {outcome.item for outcome in outcomes}
    lost = [item for item in items if item not in told]
    if lost or len(outcomes) != len(items):
        raise RuntimeError(
            f"stage '{spec.name}' was given {len(items)} items and accounted for {len(outcomes)}"
            + (f"; first missing: {lost[0]}" if lost else "")
        )
    uris = {
        row["photo_id"]: row["uri"] for rows in tables for row in rows if "uri" in row and "photo_id" in row
    }
    by_item = {row[spec.item]: row.get("uri") or uris.get(row.get("photo_id", ""), "") for row in tables[0]}
    rows = []
    for outcome in outcomes:
        row = outcome.row(spec.name)
        row["uri"] = row["uri"] or by_item[outcome.item]
        rows.append(row)
    return rows


def load_config(workspace: Workspace) -> PipelineConfig:
    """The settings of the last build of this workspace (the default ones before any)."""
    if not workspace.exists("config.json"):
        return settings.default()
    try:
        values, _ = upgrade_settings(json.loads(workspace.read_bytes("config.json")))
        return PipelineConfig.from_dict(values)
    except (ValueError, AttributeError) as error:
        raise settings.ConfigError(
            f"cannot use the settings of the last build, {workspace.path('config.json')}: {error}. "
            "Build with --preset default or --config FILE"
        ) from error

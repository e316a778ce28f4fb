"""Running the stages over the parts of a workspace: what to do, what is done already, and who runs it.

A part of a stage is one unit of work: read its input parts, call the stage, write its table part, then its
ledger part. It is skipped when both are there with the fingerprint that its inputs, settings and models have
now. Nothing here knows one stage from another: what a stage is, its `STAGE` says (`stages.sequence`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phq_data import config as settings
from phq_data import records
from phq_data.compatibility import first_stage_name, upgrade_settings
from phq_data.config import PipelineConfig
from phq_data.models.registry import check_files
from phq_data.pipeline.model_set import models_for
from phq_data.records import Duplicate, LedgerEntry, Photo, PlanItem, Record
from phq_data.stages.base import Inputs, Outcome, Stage, StageContext, Tick, no_tick
from phq_data.stages.dedup import Candidate, duplicates
from phq_data.stages.ingest import open_photo
from phq_data.stages.sequence import STAGE_NAMES, STAGES
from phq_data.workspace import PartInfo, Workspace, WorkspaceError


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


def fingerprint(stage: Stage[Any], config: PipelineConfig, inputs: Iterable[PartInfo]) -> str:
    """What a part of a stage is made from: stage version, its settings, its models, its inputs' content."""
    made_with = stage.made_with(config, models_for(config))
    name = first_stage_name(stage.name)
    return settings.digest(name, stage.version, made_with, [info.content for info in inputs])


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
    chosen = STAGES[STAGE_NAMES.index(stage)]
    workspace = Workspace.open(url)
    expected = fingerprint(chosen, config, [_input(workspace, kind, part) for kind in chosen.reads])
    done = _done(workspace, chosen, part, expected)
    if done is not None and not (retry_failed and done.extra.get("retryable", 0)):
        counts = {name: int(done.extra.get(name, 0)) for name in ("items", "kept", "rejected", "failed")}
        return PartReport(stage, part, skipped=True, seconds=0.0, **counts)

    began = time.perf_counter()
    given = {kind: _read(workspace, kind, part) for kind in chosen.reads}
    result = chosen.run(Inputs(given), _context(workspace, config, tick))
    made = records.to_table(chosen.makes, result.records)
    entries = records.to_table(LedgerEntry, _ledger(chosen, result.outcomes, list(given.values())))
    seconds = time.perf_counter() - began
    tally = {kind: sum(o.outcome == kind for o in result.outcomes) for kind in ("kept", "rejected", "failed")}
    extra = {
        "items": len(result.outcomes),
        **tally,
        "retryable": sum(o.retryable for o in result.outcomes),
        "seconds": round(seconds, 3),
    }
    workspace.write_part(f"tables/{chosen.table}", part, made, expected)
    workspace.write_part(f"ledger/{chosen.name}", part, entries, expected, extra)
    return PartReport(stage, part, skipped=False, items=len(result.outcomes), seconds=seconds, **tally)


def prepare(workspace: Workspace, config: PipelineConfig) -> None:
    """Write down what the build is made with: settings and rig. Fails early when one is missing."""
    models = models_for(config)
    _, rig = models.reference_inputs, models.rig  # raise what they have to raise before anything is written
    check_files(config.detect.model, config.mask.model)
    if config.detect.model.startswith("keypoints:"):
        _ = models.detector
    workspace.write_bytes("config.json", config.to_json().encode())
    workspace.write_bytes("rig.safetensors", rig.to_bytes())


def finish(workspace: Workspace, config: PipelineConfig) -> None:
    """The steps that need the whole workspace at once: near-duplicates among the kept portraits."""
    parts = [workspace.part_info("tables/screened", part) for part in workspace.parts("tables/screened")]
    expected = settings.digest("dedup", 1, config.dedup, [info.content for info in parts if info])
    done = workspace.part_info("tables/duplicates", 0)
    if done is not None and done.fingerprint == expected:
        return
    screened = workspace.records(Candidate)
    found = duplicates([one for one in screened if one.kept], config.dedup)
    workspace.write_part("tables/duplicates", 0, records.to_table(Duplicate, found), expected)


def _folder(kind: type[Record]) -> str:
    """Where the parts of a table lie in a workspace."""
    return kind.table if kind is PlanItem else f"tables/{kind.table}"


def _input(workspace: Workspace, kind: type[Record], part: int) -> PartInfo:
    info = workspace.part_info(_folder(kind), part)
    if info is None:
        raise WorkspaceError(f"part {part} of {_folder(kind)} is missing or damaged: run `phq build` again")
    return info


def _read(workspace: Workspace, kind: type[Record], part: int) -> list[Record]:
    try:
        return records.from_table(kind, workspace.read_part(_folder(kind), part))
    except WorkspaceError:
        # Its footer is whole, its pages are not: without its mark the next build makes it anew.
        for stage in STAGES:
            if stage.makes is kind:
                workspace.remove(f"ledger/{stage.name}/part-{part:05d}.parquet")
        raise


def _done(workspace: Workspace, stage: Stage[Any], part: int, expected: str) -> PartInfo | None:
    ledger = workspace.part_info(f"ledger/{stage.name}", part)
    table = workspace.part_info(f"tables/{stage.table}", part)
    if ledger is None or table is None:
        return None
    return ledger if ledger.fingerprint == table.fingerprint == expected else None


def _context(workspace: Workspace, config: PipelineConfig, tick: Tick) -> StageContext:
    def read(key: str) -> bytes:
        try:
            return read_photo(workspace, key)
        except WorkspaceError as error:  # one photo that is gone is no reason to stop the others
            raise FileNotFoundError(str(error)) from error

    def opened(photo: Photo) -> NDArray[np.uint8]:
        return open_photo(photo.photo_id, read(photo.key), config.ingest.max_pixels)

    return StageContext(config, models_for(config), read, opened, tick)


def read_photo(workspace: Workspace, key: str) -> bytes:
    """The bytes of a photo: from the workspace, or from its own place when it was only referenced."""
    from phq_data.sources.resolve import open_uri

    if key.startswith("photos/"):
        return workspace.read_bytes(key)
    with open_uri(key) as file:
        return file.read()


def _ledger(
    stage: Stage[Any], outcomes: Sequence[Outcome], inputs: Sequence[Sequence[Record]]
) -> list[LedgerEntry]:
    """Ledger entries in the order of the outcomes, each with the uri of its photo."""
    items = [getattr(record, stage.item) for record in inputs[0]]
    told = {outcome.item for outcome in outcomes}
    lost = [item for item in items if item not in told]
    if lost or len(outcomes) != len(items):
        raise RuntimeError(
            f"stage '{stage.name}' was given {len(items)} items and accounted for {len(outcomes)}"
            + (f"; first missing: {lost[0]}" if lost else "")
        )
    photos = {one.photo_id: one.uri for records in inputs for one in records if isinstance(one, Photo)}
    uris = {item: _uri(record, photos) for item, record in zip(items, inputs[0], strict=True)}
    return [outcome.entry(stage.name, uris[outcome.item]) for outcome in outcomes]


def _uri(record: Record, photos: dict[str, str]) -> str:
    """Where the photo of an item came from, as far as the stage's inputs say; `photos` are their uris."""
    if isinstance(record, PlanItem | Photo):
        return record.uri
    return photos.get(getattr(record, "photo_id", ""), "")


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

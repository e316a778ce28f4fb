"""Running the stages over the parts of a workspace: what to do, what is done already, and who runs it.

A part of a stage is one unit of work: read its input parts, call the stage, write its table part, then its
ledger part. It is skipped when both are there with the fingerprint that its inputs, settings and models have
now. Nothing here knows one stage from another: what a stage is, its `STAGE` says (`stages.sequence`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phq_data import config as settings
from phq_data import records, schema
from phq_data.compatibility import first_stage_name, upgrade_settings
from phq_data.config import PipelineConfig
from phq_data.errors import ObjectStoreError
from phq_data.foreign import parse_json
from phq_data.pipeline.corrections import Applied, applied
from phq_data.pipeline.model_set import models_for
from phq_data.pipeline.photos import sound_photo
from phq_data.records import LedgerEntry, Photo, PlanItem, Provenance, Record
from phq_data.stages.base import Inputs, Outcome, Stage, StageContext, Tick, no_tick
from phq_data.stages.ingest import open_photo
from phq_data.stages.sequence import STAGE_NAMES as STAGE_NAMES
from phq_data.stages.sequence import STAGES as STAGES
from phq_data.workspace import PartInfo, Workspace, WorkspaceError
from phq_data.workspace.lease import LeaseLostError

RIGHTS = "rights"
"""In the footer of photos whose rights were stated later: a digest that differs when these do."""


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


Recipe = list[Any]
"""What all parts of a stage are made with: its name, its version, its settings and models; plain JSON."""


def recipe(stage: Stage[Any], config: PipelineConfig) -> Recipe:
    """The recipe of a stage under these settings. Raises `ModelError` when a model is missing."""
    made_with = stage.made_with(config, models_for(config))
    return settings.plain(first_stage_name(stage.name), stage.version, made_with)


def fingerprint(made_with: Recipe, inputs: Iterable[PartInfo], corrections: str = "") -> str:
    """What a part is made from: the recipe of its stage, the content of its inputs, and the digest of the
    corrected labels that hold in it, if there are any.
    """
    told = [corrections] if corrections else []
    return settings.digest(*made_with, [info.content for info in inputs], *told)


def corrections_of(stage: Stage[Any], taken: Applied, workspace: Workspace, part: int) -> str:
    """What enters the fingerprint of a stage's part for corrected labels."""
    return taken.digest(workspace, part) if stage.corrected else ""


def run_part(
    url: str,
    config: PipelineConfig,
    stage: str,
    part: int,
    *,
    retry_failed: bool = False,
    tick: Tick = no_tick,
    holder: str = "",
) -> PartReport:
    """Run part `part` of `stage` in the workspace at `url`, unless it is done.

    Picklable and free of shared state: runs in a thread, a process, or on another machine that sees the
    workspace. Raises `WorkspaceError` when an input part is missing or the workspace cannot be written, and
    `LeaseLostError` when `holder` (of `Workspace.holder`) does not hold it any more.
    """
    chosen = STAGES[STAGE_NAMES.index(stage)]
    workspace = Workspace.open(url)
    workspace.follow(holder)
    inputs = [_input(workspace, kind, part) for kind in chosen.reads]
    taken = applied(workspace) if chosen.corrected else Applied()
    told = corrections_of(chosen, taken, workspace, part)
    expected = fingerprint(recipe(chosen, config), inputs, told)
    done = _done(workspace, chosen, part, expected)
    if done is not None and not (retry_failed and done.extra.get("retryable", 0)):
        counts = {name: int(done.extra.get(name, 0)) for name in ("items", "kept", "rejected", "failed")}
        return PartReport(stage, part, skipped=True, seconds=0.0, **counts)

    began, busy = time.perf_counter(), time.thread_time()
    given = {kind: _read(workspace, kind, part) for kind in chosen.reads}
    result = chosen.run(Inputs(given), _context(workspace, config, part, tick, taken))
    made = records.to_table(chosen.makes, result.records)
    entries = records.to_table(LedgerEntry, _ledger(chosen, result.outcomes, list(given.values())))
    seconds = time.perf_counter() - began
    tally = {kind: sum(o.outcome == kind for o in result.outcomes) for kind in ("kept", "rejected", "failed")}
    extra = {
        "items": len(result.outcomes),
        **tally,
        "retryable": sum(o.retryable for o in result.outcomes),
        "seconds": round(seconds, 3),
        "cpu": round(time.thread_time() - busy, 3),
        "ended": round(time.time(), 3),
    }
    content, more = _but_for_rights(workspace, part, made) if chosen.makes is Photo else ("", {})
    workspace.write_part(f"tables/{chosen.table}", part, made, expected, more, content)
    workspace.write_part(f"ledger/{chosen.name}", part, entries, expected, extra)
    return PartReport(stage, part, skipped=False, items=len(result.outcomes), seconds=seconds, **tally)


def _but_for_rights(workspace: Workspace, part: int, made: pa.Table) -> tuple[str, dict[str, str]]:
    """(content, extra of the footer) of photos of which only the rights are stated otherwise than before:
    what was made of them stays up to date.
    """
    info = workspace.part_info("tables/photos", part)
    if info is None:
        return "", {}
    try:
        before = schema.complete(workspace.read_part("tables/photos", part), schema.PHOTOS)
    except (WorkspaceError, ValueError, KeyError):
        return "", {}
    rights = [field.name for field in dataclasses.fields(Provenance)]
    if not before.drop_columns(rights).equals(made.drop_columns(rights)):
        return "", {}
    return info.content, {RIGHTS: schema.content_digest(made)}


def folder_of(kind: type[Record]) -> str:
    """Where the parts of a table lie in a workspace."""
    return kind.table if kind is PlanItem else f"tables/{kind.table}"


def _input(workspace: Workspace, kind: type[Record], part: int) -> PartInfo:
    info = workspace.part_info(folder_of(kind), part)
    if info is None:
        raise WorkspaceError(f"part {part} of {folder_of(kind)} is missing or damaged: run `phq build` again")
    return info


def _read(workspace: Workspace, kind: type[Record], part: int) -> list[Record]:
    try:
        return records.from_table(kind, workspace.read_part(folder_of(kind), part))
    except WorkspaceError:
        # Its footer is whole, its pages are not: without its mark the next build makes it anew.
        for stage in STAGES:
            if stage.makes is kind:
                workspace.remove(f"ledger/{stage.name}/part-{part:05d}.parquet")
        raise


def _done(workspace: Workspace, stage: Stage[Any], part: int, expected: str) -> PartInfo | None:
    ledger = workspace.part_info(f"ledger/{stage.name}", part)
    table = workspace.part_info(f"tables/{stage.table}", part)
    if ledger is None or table is None or not ledger.fingerprint == table.fingerprint == expected:
        return None
    damaged = any(workspace.damaged(f, part) for f in (f"ledger/{stage.name}", f"tables/{stage.table}"))
    return None if damaged else ledger


def _context(
    workspace: Workspace, config: PipelineConfig, part: int, tick: Tick, taken: Applied
) -> StageContext:
    def uris(key: str) -> Iterator[str]:
        for item in records.from_table(PlanItem, workspace.read_part("plan", part)):
            if item.key == key:
                yield item.uri

    def read(key: str) -> bytes:
        try:
            return sound_photo(workspace, key, uris(key))
        except ObjectStoreError as error:  # says nothing of the photo
            raise WorkspaceError(str(error)) from error
        except LeaseLostError:
            raise
        except WorkspaceError as error:  # one photo that is gone is no reason to stop the others
            raise FileNotFoundError(str(error)) from error

    def opened(photo: Photo) -> NDArray[np.uint8]:
        return open_photo(photo.photo_id, read(photo.key), config.ingest.max_pixels)

    labels = {one.person_id: one for one in taken.of(workspace, part)}
    return StageContext(config, models_for(config), read, opened, tick, labels)


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
        values, _ = upgrade_settings(parse_json(workspace.read_bytes("config.json")))
        return PipelineConfig.from_dict(values)
    except (ValueError, AttributeError) as error:
        raise settings.ConfigError(
            f"cannot use the settings of the last build, {workspace.path('config.json')}: {error}. "
            "Build with --preset default or --config FILE"
        ) from error

"""What concerns a workspace as a whole: the settings on record, near-duplicates, and whether all parts carry
these settings.

`config.json` holds settings, `recipes.json` what they made of each stage (its version, settings and models)
and the digests of the settings and the rig. They are recorded when every part carries them: at the end of a
build, or at its start when no part contradicts. So a build that was stopped half way leaves the settings of
the one before, and its own parts are behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from phq_data import config as settings
from phq_data import records
from phq_data.config import PipelineConfig
from phq_data.foreign import parse_json
from phq_data.models.registry import check_files
from phq_data.pipeline import corrections, engine
from phq_data.pipeline.engine import Recipe, fingerprint, folder_of, load_config, recipe
from phq_data.pipeline.model_set import TERMS, model_terms, models_for
from phq_data.records import Correction, Duplicate
from phq_data.stages.dedup import Candidate, crowded, duplicates
from phq_data.workspace import LOGS, PartInfo, Workspace, WorkspaceError

_RECIPES = "recipes.json"
_DIGESTS = "digests"
_DEDUP = "dedup"
MISSING, DAMAGED, NO_PLAN = "missing", "damaged", "without a plan"
OTHER = "made with other settings, of other rows or corrections"
_SHOWN = 12  # numbers of parts that a sentence names


@dataclass(frozen=True)
class Behind:
    """A part that is not what the settings on record make of the plan."""

    stage: str
    part: int
    why: str  # one of the words above


def prepare(workspace: Workspace, config: PipelineConfig) -> None:
    """Fail early when a model is missing; take the corrections that hold; record the settings if no part was
    made with others.
    """
    models = models_for(config)
    _, rig = models.reference_inputs, models.rig  # raise what they have to raise before anything is written
    check_files(config.detect.model, config.mask.model, config.screen.age_model)
    if config.detect.model.startswith("keypoints:"):
        _ = models.detector
    recipes = _recipes(config)
    corrections.take(workspace)
    if not any(one.why == OTHER for one in behind(workspace, recipes)):
        _record(workspace, config, recipes, rig.to_bytes())


def finish(workspace: Workspace, config: PipelineConfig) -> None:
    """The end of a build that did all parts: near-duplicates among the kept portraits, then the record."""
    recipes = _recipes(config)
    deduplicate(workspace, config, recipes)
    _record(workspace, config, recipes, models_for(config).rig.to_bytes())


def deduplicate(workspace: Workspace, config: PipelineConfig, recipes: Mapping[str, Recipe]) -> None:
    """Find the near-duplicates among the kept portraits, unless they are up to date."""
    expected = fingerprint(recipes[_DEDUP], _screened(workspace))
    done = workspace.part_info("tables/duplicates", 0)
    if done is None or done.fingerprint != expected or workspace.damaged("tables/duplicates", 0):
        found = duplicates(_candidates(workspace, config), config.dedup)
        workspace.write_part("tables/duplicates", 0, records.to_table(Duplicate, found), expected)


def _candidates(workspace: Workspace, config: PipelineConfig) -> list[Candidate]:
    """The kept portraits that are near another one. Of all others only hashes are held at a time."""
    hashes = workspace.table("screened", ["phash", "kept"])
    kept = hashes["kept"].to_numpy()
    near = np.zeros(len(kept), bool)
    near[kept] = crowded(hashes["phash"].to_numpy()[kept], config.dedup)
    found: list[Candidate] = []
    start = 0
    for part in workspace.parts("tables/screened"):
        table = workspace.read_part("tables/screened", part, records.columns(Candidate))
        here = near[start : start + table.num_rows]
        start += table.num_rows
        if here.any():
            found += records.from_table(Candidate, table.filter(pa.array(here)))
    return found


@contextlib.contextmanager
def finished(workspace: Workspace) -> Iterator[Callable[[], None]]:
    """Hold a workspace whose every part carries the settings on record, while all of it is read; yields the
    check of `Workspace.reading`, to be asked before what was made of it is published.

    Raises `WorkspaceBusyError` while a build runs, and `WorkspaceError` naming the parts that are behind, or
    are no longer what was written (all their bytes are read).
    """
    with workspace.reading() as check:
        faults = told([*behind(workspace), *damaged(workspace)])
        if faults := [*faults, *(f"{key}: {DAMAGED}" for key in changed_records(workspace))]:
            raise WorkspaceError(
                f"the workspace {workspace.url} is not finished: {'; '.join(faults)}. `phq build "
                f"--workspace {workspace.url}` makes them with the settings of the last finished build; a "
                "build that was stopped goes on with its own command; `phq workspace verify` says more"
            )
        yield check


def behind(workspace: Workspace, recipes: Mapping[str, Recipe] | None = None) -> list[Behind]:
    """Parts that are not what `recipes` (default: those on record) make of the plan, in order.

    A workspace that no build made (an import has neither plan nor ledger) has none.
    """
    if not (planned := workspace.parts("plan")) and not workspace.parts(f"ledger/{engine.STAGE_NAMES[0]}"):
        return []
    made_with = recipes or recorded(workspace)
    taken = corrections.applied(workspace)
    found = [one for part in planned for one in _behind(workspace, made_with, part, taken)]
    for stage in engine.STAGES:
        stray = sorted(set(workspace.parts(folder_of(stage.makes))) - set(planned))
        found += [Behind(stage.name, part, NO_PLAN) for part in stray]
    twins = workspace.part_info("tables/duplicates", 0)
    expected = fingerprint(made_with[_DEDUP], _screened(workspace))
    if not found and (twins is None or twins.fingerprint != expected):
        found.append(Behind("near-duplicates", 0, OTHER if twins else MISSING))
    return found


def uncorrected(workspace: Workspace, log: Iterable[Correction], part: int | None = None) -> list[Behind]:
    """What is behind (of one part) and may be for corrections of this log: taken, and not yet worked in.

    An apply or a build that was stopped after `corrections.take` leaves it.
    """
    photos = {one.photo_id for one in log}
    if not photos or not (planned := workspace.parts("plan")) or (part is not None and part not in planned):
        return []
    first = [stage.corrected for stage in engine.STAGES].index(True)
    names = {*engine.STAGE_NAMES[first:], "near-duplicates"}
    if part is None:
        faults = behind(workspace)
    else:
        faults = list(_behind(workspace, recorded(workspace), part, corrections.applied(workspace)))
    found = [one for one in faults if one.why == OTHER and one.stage in names]
    concerned = {
        number
        for number in {one.part for one in found if one.stage in engine.STAGE_NAMES}
        if not photos.isdisjoint(corrections.photos_of(workspace, number))
    }
    return [one for one in found if one.part in concerned or one.stage not in engine.STAGE_NAMES]


def damaged(workspace: Workspace) -> list[Behind]:
    """Parts that are no longer what was written. Every byte of plan, tables and ledgers is read."""
    return [
        Behind(name, part, DAMAGED)
        for folder, name in folders().items()
        for part in workspace.parts(folder)
        if workspace.damaged(folder, part)
    ]


def changed_records(workspace: Workspace) -> list[str]:
    """Settings and rig that are no longer what was recorded. What PHQ 0.1 recorded cannot be checked."""
    known = _read_recipes(workspace).get(_DIGESTS, {}) if workspace.exists(_RECIPES) else {}
    return [
        key
        for key, digest in sorted(known.items())
        if not workspace.exists(key) or hashlib.sha256(workspace.read_bytes(key)).hexdigest() != digest
    ]


def folders() -> dict[str, str]:
    """Every folder of parts, and whose parts they are."""
    found = {"plan": "plan"}
    for stage in engine.STAGES:
        found |= {folder_of(stage.makes): stage.name, f"ledger/{stage.name}": f"ledger of {stage.name}"}
    logs = {f"tables/{name}": name for name in LOGS}
    return {**found, "tables/duplicates": "near-duplicates", **logs}


def told(faults: Iterable[Behind]) -> list[str]:
    """One line for each stage and kind of fault, with the numbers of its parts."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in faults:
        groups[one.stage, one.why].append(one.part)
    lines = []
    for (stage, why), parts in groups.items():
        rest = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
        numbers = ", ".join(map(str, parts[:_SHOWN]))
        lines.append(f"{stage} of part{'s' if len(parts) > 1 else ''} {numbers}{rest}: {why}")
    return lines


def _behind(
    workspace: Workspace, recipes: Mapping[str, Recipe], part: int, taken: corrections.Applied
) -> Iterator[Behind]:
    """What is behind of one part; a stage behind one that is missing is missing or of other rows too."""
    contents: dict[str, PartInfo | None] = {"plan": workspace.part_info("plan", part)}
    if contents["plan"] is None:
        yield Behind("plan", part, MISSING)
        return
    for stage in engine.STAGES:
        table = contents[folder_of(stage.makes)] = workspace.part_info(folder_of(stage.makes), part)
        ledger = workspace.part_info(f"ledger/{stage.name}", part)
        if table is None or ledger is None:
            yield Behind(stage.name, part, MISSING)
            continue
        inputs = [info for kind in stage.reads if (info := contents[folder_of(kind)]) is not None]
        told = engine.corrections_of(stage, taken, workspace, part)
        if not table.fingerprint == ledger.fingerprint == fingerprint(recipes[stage.name], inputs, told):
            yield Behind(stage.name, part, OTHER)


def _recipes(config: PipelineConfig) -> dict[str, Recipe]:
    found = {stage.name: recipe(stage, config) for stage in engine.STAGES}
    return {**found, _DEDUP: settings.plain(_DEDUP, 1, config.dedup)}


def recorded(workspace: Workspace) -> Mapping[str, Recipe]:
    """The recipes on record; those of the settings on record where an older PHQ built."""
    if not workspace.exists(_RECIPES):
        return _recipes(load_config(workspace))
    found = _read_recipes(workspace)
    return {name: found[name] for name in (*(stage.name for stage in engine.STAGES), _DEDUP)}


def _read_recipes(workspace: Workspace) -> dict[str, Any]:
    try:
        found = parse_json(workspace.read_bytes(_RECIPES))
        names = (*(stage.name for stage in engine.STAGES), _DEDUP)
        return {**{name: list(found[name]) for name in names}, _DIGESTS: dict(found.get(_DIGESTS, {}))}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WorkspaceError(
            f"{workspace.path(_RECIPES)} is damaged ({error!r}): `phq build` writes it anew"
        ) from error


def _record(workspace: Workspace, config: PipelineConfig, recipes: Mapping[str, Recipe], rig: bytes) -> None:
    """The recipes last: where they lack, or are the former ones, the parts are seen to be behind."""
    kept = dataclasses.replace(config, device="auto")  # of the machine, not of the dataset
    files = {"rig.safetensors": rig, "config.json": kept.to_json().encode()}
    if terms := model_terms(models_for(config)):
        told = {name: dataclasses.asdict(one) for name, one in terms.items()}
        files[TERMS] = json.dumps(told, indent=1, sort_keys=True).encode()
    digests = {key: hashlib.sha256(data).hexdigest() for key, data in files.items()}
    files[_RECIPES] = json.dumps({**recipes, _DIGESTS: digests}, indent=1, sort_keys=True).encode()
    for key, data in files.items():
        if not workspace.exists(key) or workspace.read_bytes(key) != data:
            workspace.write_bytes(key, data)


def _screened(workspace: Workspace) -> list[PartInfo]:
    parts = (workspace.part_info("tables/screened", part) for part in workspace.parts("tables/screened"))
    return [info for info in parts if info is not None]

"""Applying corrected labels without a whole build: the parts concerned, with the settings on record."""

from __future__ import annotations

from phq_data.pipeline import corrections, whole
from phq_data.pipeline.engine import STAGE_NAMES, PartReport, load_config, run_part
from phq_data.stages.sequence import STAGES
from phq_data.workspace import Workspace, WorkspaceError


def apply_corrections(workspace: Workspace) -> list[PartReport]:
    """What `phq build` would do about the corrections that hold now. The caller holds the lock.

    Stopped, the next call or build goes on. Raises `WorkspaceError` for a workspace that a build has yet to
    finish.
    """
    config = load_config(workspace)
    corrections.take(workspace)
    behind = whole.behind(workspace)
    correcting = STAGE_NAMES[[stage.corrected for stage in STAGES].index(True) :]
    unfinished = [one for one in behind if one.why != whole.OTHER or one.stage in _before(correcting[0])]
    if unfinished or not workspace.exists("config.json"):
        raise WorkspaceError(
            f"corrected labels wait until {workspace.url} is built to its end (phq build): "
            f"{'; '.join(whole.told(unfinished)) or 'it has no settings on record'}"
        )
    parts = sorted({one.part for one in behind if one.stage in correcting})
    reports = [run_part(workspace.url, config, name, part) for part in parts for name in correcting]
    if behind:
        whole.finish(workspace, config)
    return reports


def _before(stage: str) -> tuple[str, ...]:
    return STAGE_NAMES[: STAGE_NAMES.index(stage)]

"""The numbers of a report, gathered from a workspace's tables: one frame of portraits, counts, seconds.

Only narrow columns are read here; images are read later, for the few portraits that are shown (`sheets`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from phq_data.arrays import FloatArray
from phq_data.compatibility import upgrade_settings
from phq_data.config import ConfigError, PipelineConfig, default
from phq_data.foreign import parse_json
from phq_data.stages.sequence import STAGE_NAMES
from phq_data.workspace import PartInfo, Workspace

PORTRAIT_COLUMNS = [
    "portrait_id", "photo_id", "person_id", "fit_id", "pose", "yaw", "pitch", "roll", "size",
    "effective_resolution",
    "padding", "crop_mode", "codec", "models", "landmark_error", "shoulder_error", "camera", "window",
]  # fmt: skip
SCREEN_COLUMNS = ["portrait_id", "kept", "reasons", "error_probability", "age_screen"]
LEDGER_COLUMNS = ["stage", "item", "outcome", "reason", "message", "retryable", "uri"]
PHOTO_COLUMNS = [
    "photo_id", "uri", "provider", "source", "author", "page_url", "license", "license_url", "permission",
    "consent", "file_url", "width", "height",
]  # fmt: skip

HEAD_METRES = 0.25
FRONT, REAR = np.radians(45.0), np.radians(135.0)
"""|yaw| below the first is a front view, above the second a rear view, between them a side view."""


@dataclass(frozen=True)
class Reason:
    """Why items were rejected or failed, how often, and one sentence as an example."""

    outcome: str  # rejected, failed
    reason: str
    count: int
    example: str
    retryable: int  # how many of them may be tried again


@dataclass(frozen=True)
class Stage:
    """What one stage did, over all its parts."""

    name: str
    items: int
    kept: int
    rejected: int
    failed: int
    parts: int  # parts with a ledger
    seconds: float  # worker seconds, summed over parts; nan when the stage keeps no clock
    share: float  # of the seconds of all stages
    busy: float  # processor seconds of the workers' own threads; nan where a part did not keep them
    wall: float  # seconds in which some part of it ran; nan where a part did not keep them
    reasons: tuple[Reason, ...]

    @property
    def per_second(self) -> float:
        """Items a worker second; nan when no clock was kept."""
        return self.items / self.seconds if self.seconds > 0 else float("nan")


@dataclass(frozen=True)
class Cluster:
    """Portraits that are the same image; `distances` are bits of 64 to the representative."""

    representative: str
    members: tuple[str, ...]
    distances: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything a report says, except its images."""

    url: str
    portraits: pd.DataFrame  # indexed by portrait_id; see `_portraits`
    photos: pd.DataFrame  # indexed by photo_id
    stages: tuple[Stage, ...]
    clusters: tuple[Cluster, ...]
    troubles: pd.DataFrame  # ledger rows that are not `kept` and not of the screen, newest columns first
    planned_files: int
    planned_parts: int
    people: int
    config: PipelineConfig
    wall: float  # seconds in which some stage ran; nan where a part did not keep them
    settings: Mapping[str, Any]  # flat: "crop.size" -> 512, as the workspace has them
    changed: frozenset[str] = field(default_factory=frozenset)  # settings that differ from the default

    @property
    def kept(self) -> pd.DataFrame:
        """Portraits that the screen kept."""
        return self.portraits[self.portraits["state"] == "kept"]

    @property
    def rejected(self) -> pd.DataFrame:
        """Portraits that the screen rejected."""
        return self.portraits[self.portraits["state"] == "rejected"]

    @property
    def distinct(self) -> int:
        """Kept portraits without their near-duplicates."""
        return int((self.kept["duplicate_of"] == "").sum())

    @property
    def seconds(self) -> float:
        """Worker seconds of all stages."""
        return float(np.nansum([stage.seconds for stage in self.stages]))

    @property
    def limiting_stage(self) -> str:
        """The stage that took most of the time; "" when there is no clock."""
        timed = [stage for stage in self.stages if stage.seconds > 0]
        return max(timed, key=lambda stage: stage.seconds).name if timed else ""


def gather(workspace: Workspace) -> ReportData:
    """Read the workspace. Works for an empty one; raises `WorkspaceError` for damaged parts."""
    settings, config = _settings(workspace)
    portraits = _portraits(workspace)
    stages = _stages(workspace, portraits)
    ledger = _frame(workspace, "ledger", LEDGER_COLUMNS)
    troubles = ledger[(ledger["outcome"] != "kept") & (ledger["stage"] != "screen")]
    photos = _frame(workspace, "photos", PHOTO_COLUMNS).drop_duplicates("photo_id").set_index("photo_id")
    portraits["uri"] = portraits["photo_id"].map(photos["uri"]).fillna("")
    plain = _flat(default())
    return ReportData(
        url=workspace.url,
        portraits=portraits,
        photos=photos,
        stages=stages,
        clusters=_clusters(workspace),
        troubles=troubles.reset_index(drop=True),
        planned_files=sum(_rows(workspace, "plan", part) for part in workspace.parts("plan")),
        planned_parts=len(workspace.parts("plan")),
        people=sum(_rows(workspace, "tables/people", part) for part in workspace.parts("tables/people")),
        config=config,
        wall=_wall(workspace),
        settings=settings,
        changed=frozenset(name for name, value in settings.items() if plain.get(name) != value),
    )


def view_of(yaw: pd.Series) -> pd.Series:
    """ "front", "side" or "rear" for yaw angles in radians."""
    size = yaw.abs()
    return pd.Series(np.select([size <= FRONT, size > REAR], ["front", "rear"], "side"), index=yaw.index)


# ---- tables ----------------------------------------------------------------------------------------------


def _portraits(workspace: Workspace) -> pd.DataFrame:
    """Portraits joined with verdict, duplicates and the part they lie in, indexed by portrait_id.

    Beside the table's columns: `state` (kept, rejected, waiting), `reasons`, `duplicate_of` (the
    representative, "" for itself), `part`, `pose_0`..`pose_5` in radians.
    """
    frames = [_frame_of(None, "portraits", PORTRAIT_COLUMNS)]
    for part in workspace.parts("tables/portraits"):
        table = workspace.read_part("tables/portraits", part, PORTRAIT_COLUMNS)
        frame = _frame_of(table, "portraits", PORTRAIT_COLUMNS)
        frames.append(frame.assign(part=part))
    portraits = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    if "part" not in portraits:
        portraits["part"] = 0
    portraits = portraits.drop_duplicates("portrait_id").set_index("portrait_id")
    pose = np.array(portraits.pop("pose").tolist(), np.float64).reshape(len(portraits), 6)
    label = np.array(portraits.pop("camera").tolist(), np.float64).reshape(len(portraits), 25)
    window = np.array(portraits.pop("window").tolist(), np.float64).reshape(len(portraits), 3)
    portraits["head_pixels"] = head_share(label) * window[:, 2]
    for column in range(6):
        portraits[f"pose_{column}"] = pose[:, column]

    screened = _frame(workspace, "screened", SCREEN_COLUMNS).drop_duplicates("portrait_id")
    portraits = portraits.join(screened.set_index("portrait_id"))
    verdict = portraits.pop("kept")
    portraits["state"] = np.select([verdict.isna(), verdict.eq(True)], ["waiting", "kept"], "rejected")
    portraits["reasons"] = [list(r) if isinstance(r, list | np.ndarray) else [] for r in portraits["reasons"]]

    duplicates = _frame(workspace, "duplicates", ["portrait_id", "cluster", "representative"])
    leaders = duplicates[duplicates["representative"].astype(bool)].set_index("cluster")["portrait_id"]
    followers = duplicates[~duplicates["representative"].astype(bool)].set_index("portrait_id")["cluster"]
    leader = followers.map(leaders).fillna(followers)
    portraits["duplicate_of"] = portraits.index.map(leader.to_dict().get).fillna("")
    return portraits


def head_share(label: FloatArray) -> FloatArray:
    """Height of a head of 25 cm at the neck's distance, in sides of the portrait; `label` [N, 25]."""
    distance = np.linalg.norm(label[:, [3, 7, 11]], axis=1)
    return np.asarray(HEAD_METRES * label[:, 16] / distance)


def _stages(workspace: Workspace, portraits: pd.DataFrame) -> tuple[Stage, ...]:
    folders = [name for name in STAGE_NAMES if workspace.parts(f"ledger/{name}")]
    clocks = {
        name: [info for part in workspace.parts(f"ledger/{name}") if (info := _info(workspace, name, part))]
        for name in folders
    }
    seconds = {name: sum(float(i.extra.get("seconds", 0)) for i in infos) for name, infos in clocks.items()}
    total = sum(seconds.values())
    stages = []
    for name in folders:
        parts = [
            workspace.read_part(f"ledger/{name}", part, LEDGER_COLUMNS)
            for part in workspace.parts(f"ledger/{name}")
        ]
        rows = _frame_of(pa.concat_tables(parts), "ledger", LEDGER_COLUMNS)
        counts = rows["outcome"].value_counts()
        stages.append(
            Stage(
                name=name,
                items=len(rows),
                kept=int(counts.get("kept", 0)),
                rejected=int(counts.get("rejected", 0)),
                failed=int(counts.get("failed", 0)),
                parts=len(parts),
                seconds=seconds[name] or float("nan"),
                share=seconds[name] / total if total else float("nan"),
                busy=_sum_of(clocks[name], "cpu"),
                wall=union(_spans(clocks[name])),
                reasons=_reasons(rows),
            )
        )
    if workspace.parts("tables/duplicates"):
        kept = portraits[portraits["state"] == "kept"]
        copies = int((kept["duplicate_of"] != "").sum())
        why = Reason("rejected", "near_duplicate", copies, "the same image as another portrait", 0)
        reasons = (why,) if copies else ()
        nan = float("nan")
        stages.append(
            Stage("dedup", len(kept), len(kept) - copies, copies, 0, 1, nan, nan, nan, nan, reasons)
        )
    return tuple(stages)


def union(spans: Sequence[tuple[float, float]] | None) -> float:
    """Seconds that are in one of the spans (begin, end) at least; nan for unknown ones."""
    total, reached = 0.0, -np.inf
    for begin, end in sorted(spans or ()):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total if spans else float("nan")


def _wall(workspace: Workspace) -> float:
    """Seconds in which some part of some stage ran."""
    stages = (f"ledger/{name}" for name in STAGE_NAMES)
    parts = [workspace.part_info(stage, part) for stage in stages for part in workspace.parts(stage)]
    return union(_spans([info for info in parts if info is not None]))


def _spans(infos: Sequence[PartInfo]) -> list[tuple[float, float]] | None:
    """When each part ran; None where one does not say."""
    if not all("ended" in info.extra for info in infos):
        return None
    return [(info.extra["ended"] - info.extra["seconds"], info.extra["ended"]) for info in infos]


def _sum_of(infos: Sequence[PartInfo], name: str) -> float:
    return sum(float(info.extra.get(name, np.nan)) for info in infos)


def _reasons(rows: pd.DataFrame) -> tuple[Reason, ...]:
    bad = rows[rows["outcome"] != "kept"]
    found = [
        Reason(
            outcome=str(outcome),
            reason=str(reason) or "unnamed",
            count=len(group),
            example=str(group["message"].iloc[0]),
            retryable=int(group["retryable"].sum()),
        )
        for (outcome, reason), group in bad.groupby(["outcome", "reason"], sort=True)
    ]
    return tuple(sorted(found, key=lambda reason: (-reason.count, reason.reason)))


def _clusters(workspace: Workspace) -> tuple[Cluster, ...]:
    """Clusters of at least two, largest first."""
    rows = _frame(workspace, "duplicates", ["portrait_id", "cluster", "representative", "distance"])
    clusters = []
    for name, group in rows.groupby("cluster", sort=True):
        if len(group) < 2:
            continue
        by = ["representative", "distance", "portrait_id"]
        ordered = group.sort_values(by, ascending=[False, True, True])
        leader = str(ordered["portrait_id"].iloc[0]) if ordered["representative"].iloc[0] else str(name)
        clusters.append(
            Cluster(leader, tuple(ordered["portrait_id"]), tuple(int(d) for d in ordered["distance"]))
        )
    return tuple(sorted(clusters, key=lambda c: (-len(c.members), c.representative)))


# ---- settings --------------------------------------------------------------------------------------------


def _settings(workspace: Workspace) -> tuple[dict[str, Any], PipelineConfig]:
    """The flat settings as written, and the config they make (the default one for a newer version's)."""
    if not workspace.exists("config.json"):
        return _flat(default()), default()
    try:
        written = parse_json(workspace.read_bytes("config.json"))
        if not isinstance(written, dict):
            raise ConfigError("not an object")
    except ValueError as error:
        raise ConfigError(
            f"{workspace.path('config.json')} is damaged ({error}): build again, which writes it anew"
        ) from error
    try:
        written, _ = upgrade_settings(written)
        config = PipelineConfig.from_dict(written)
    except (ConfigError, TypeError):
        config = default()
    return _flatten(written), config


def _flat(config: PipelineConfig) -> dict[str, Any]:
    return _flatten(json.loads(config.to_json()))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


# ---- reading ---------------------------------------------------------------------------------------------


def _frame(workspace: Workspace, name: str, columns: list[str]) -> pd.DataFrame:
    return _frame_of(workspace.table(name, columns), name, columns)


def _frame_of(table: pa.Table | None, name: str, columns: list[str]) -> pd.DataFrame:
    """A frame whose columns have the same kinds whether there are rows or not."""
    if table is None or table.num_rows == 0:
        from phq_data import schema

        wanted = schema.SCHEMAS[name]
        table = pa.schema([wanted.field(column) for column in columns]).empty_table()
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _rows(workspace: Workspace, folder: str, part: int) -> int:
    info = workspace.part_info(folder, part)
    return info.rows if info else 0


def _info(workspace: Workspace, stage: str, part: int) -> Any:
    return workspace.part_info(f"ledger/{stage}", part)

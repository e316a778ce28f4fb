"""Which portraits of a workspace enter a release, and why the others do not.

Reads every table part by part and no image. What is kept of a portrait are numbers in columns, some 70 bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phq_data.errors import ReleaseError
from phq_data.images.near import Groups, pairs_between
from phq_data.release import rights, splits
from phq_data.release.places import Places, packed, texts
from phq_data.release.rights import Permission
from phq_data.release.splits import Ties
from phq_data.release.tombstones import Tombstones
from phq_data.review import decisions
from phq_data.review.consensus import Consensus, ConsensusRule
from phq_data.stages.age import MINOR, UNDECIDED
from phq_data.workspace import Workspace

_DAY = re.compile(r"(\d{4})[:-](\d{2})[:-](\d{2})", re.ASCII)
_IDS = ("portrait_id", "photo_id", "corrected_from")
PROVENANCE: tuple[str, ...] = (
    "provider", "page_url", "file_url", "title", "author", "author_url", "license", "license_url",
    "rights_checked_at", "rights_evidence", "permission", "consent",
)  # fmt: skip
_ROW = np.dtype([
    ("id", "S16"), ("part", "i4"), ("row", "i4"), ("photo", "u8"), ("draw", "u8"),
    ("author", "u8"), ("day", "i4"),
    ("own", "i4"),  # which of the user's own photos; -1: none of them
    ("cluster", "i4"), ("phash", "u8"), ("distance", "u1"), ("representative", "?"),
    ("barred", "i4"),  # which refusal of the rights gate; -1: none, -2: a sample that is for trials only
])  # fmt: skip
"""A portrait that may enter the release."""
_TRIAL = -2


@dataclass(frozen=True)
class Selection:
    """Chosen portraits in the order of their ids, and how many were left out for what reason."""

    places: Places
    ties: Ties  # which split they may be in
    left_out: Mapping[str, int]
    refused: Mapping[str, list[str]]  # by the rights gate: reason -> portrait ids
    folders: tuple[str, ...] = ()  # sources of refused photos of the user's own
    consensus: Mapping[str, int] = field(default_factory=dict)  # state -> portraits
    replaced: int = 0  # portraits with a verdict that the workspace no longer has


def select(
    workspace: Workspace,
    *,
    reviewed: bool,
    rule: ConsensusRule,
    tombstones: Tombstones,
    permissions: Sequence[Permission],
    duplicate_distance: int,
    keep_duplicates: bool = False,
    only_permitted: bool = False,
    votes: Mapping[str, Consensus] | None = None,
) -> Selection:
    """Choose the portraits of a release.

    Reviewed: those that the reviewers accepted. Unreviewed: those that the screening kept and no consensus
    rejected or disputes. Never those that the screen for minors took for minors, nor undecided ones that it
    was not sure of. Then not those taken down (nor their near-duplicates), and one of every cluster of
    near-duplicates. The rights gate comes last; what it refuses is in `refused`, for the caller to stop at,
    or with `only_permitted` left out. Samples that are for trials only are always left out.
    """
    votes = decisions.current(workspace, rule) if votes is None else votes
    states = Counter(consensus.state for consensus in votes.values())
    reading = _Reading(votes, reviewed, tombstones, permissions, _Clusters.of(workspace))
    rows = [reading.rows(part) for part in _parts(workspace)]
    chosen, left_out = np.concatenate([np.zeros(0, _ROW), *rows]), reading.left_out
    del rows
    chosen = chosen[np.argsort(chosen["id"], kind="stable")]
    cluster = _clustered(chosen, duplicate_distance)
    keep = ~_like(chosen, cluster, np.array(reading.gone, _GONE), duplicate_distance)
    _leave_out(left_out, "like_taken_down", keep)
    chosen, cluster = chosen[keep], cluster[keep]
    keep = chosen["barred"] != _TRIAL
    _leave_out(left_out, "sample_for_trials_only", keep)
    chosen, cluster = chosen[keep], cluster[keep]
    if only_permitted:
        keep = chosen["barred"] < 0
        _leave_out(left_out, "not_permitted", keep)
        chosen, cluster = chosen[keep], cluster[keep]
    if not keep_duplicates:
        keep = _best_of_each(chosen, cluster)
        _leave_out(left_out, "near_duplicate", keep)
        chosen, cluster = chosen[keep], cluster[keep]
    refused, folders = _refused(chosen, reading.refusals)
    replaced = sum(one.state != "undecided" for name, one in votes.items() if name not in reading.present)
    return Selection(
        Places(chosen["id"].copy(), chosen["part"].copy(), chosen["row"].copy()),
        _ties(chosen, cluster, np.concatenate(reading.own)),
        dict(sorted(left_out.items())), refused, folders, dict(sorted(states.items())), replaced,
    )  # fmt: skip


def _refused(
    chosen: NDArray[Any], refusals: Sequence[tuple[str, str]]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """(portrait ids by reason, sources of the user's own photos among them)."""
    found = [number for number in range(len(refusals)) if (chosen["barred"] == number).any()]
    reasons = dict.fromkeys(refusals[number][0] for number in found)
    refused = {
        reason: texts(chosen["id"][np.isin(chosen["barred"], [n for n in found if refusals[n][0] == reason])])
        for reason in reasons
    }
    return refused, tuple(dict.fromkeys(refusals[number][1] for number in found if refusals[number][1]))


def day(exif_time: str | None) -> str | None:
    """The ISO date of an EXIF time; None when there is none or it is no date."""
    match = _DAY.match(exif_time or "")
    return "-".join(match.groups()) if match and match[0][:4] != "0000" else None


@dataclass(frozen=True)
class _Part:
    """What is read of a part: portraits (ids), their photos by id, screening verdicts by portrait."""

    number: int
    portraits: list[dict[str, Any]]
    photos: dict[str, dict[str, Any]]
    screened: dict[str, dict[str, Any]]


def _parts(workspace: Workspace) -> Iterator[_Part]:
    for part in workspace.parts("tables/portraits"):
        rows = workspace.read_part("tables/portraits", part, _IDS).to_pylist()
        columns = ["photo_id", "exif_time", "source", "uri", *PROVENANCE]
        photos = workspace.read_part("tables/photos", part, columns).to_pylist()
        verdicts: list[dict[str, Any]] = []
        if workspace.part_info("tables/screened", part) is not None:
            verdicts = workspace.read_part(
                "tables/screened", part, ["portrait_id", "kept", "phash", "reasons"]
            ).to_pylist()
        by_photo = {photo["photo_id"]: photo for photo in photos}
        for row in rows:
            if row["photo_id"] not in by_photo:
                raise ReleaseError(
                    f"portrait {row['portrait_id'][:12]} of part {part} has no row in 'photos': run `phq "
                    "build` again"
                )
        yield _Part(part, rows, by_photo, {verdict["portrait_id"]: verdict for verdict in verdicts})


@dataclass(frozen=True)
class _Clusters:
    """The workspace's table of near-duplicates, by portrait."""

    ids: NDArray[np.bytes_]  # [M] ascending
    number: NDArray[np.int32]  # [M] equal ones are one cluster
    distance: NDArray[np.int32]
    representative: NDArray[np.bool_]

    @classmethod
    def of(cls, workspace: Workspace) -> _Clusters:
        table = workspace.table("duplicates")
        ids = packed(table["portrait_id"])
        number = table["cluster"].combine_chunks().dictionary_encode().indices.to_numpy()
        order = np.argsort(ids)
        columns = (table[name].to_numpy()[order] for name in ("distance", "representative"))
        return cls(ids[order], number[order], *columns)

    def find(self, ids: NDArray[np.bytes_]) -> NDArray[np.int64]:  # [N]
        """The row [N] of each portrait; -1: it is in none."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, place, -1)


_GONE = np.dtype([("phash", "u8"), ("cluster", "i4")])
"""A portrait that was taken down, whatever else became of it."""


class _Reading:
    """Parts become rows; what is counted on the way."""

    def __init__(
        self,
        votes: Mapping[str, Consensus],
        reviewed: bool,
        tombstones: Tombstones,
        permissions: Sequence[Permission],
        clusters: _Clusters,
    ) -> None:
        self._votes, self._reviewed, self._clusters = votes, reviewed, clusters
        self._tombstones, self._permissions = tombstones, permissions
        self.left_out: Counter[str] = Counter()
        self.present: set[str] = set()  # of those with votes
        self.gone: list[tuple[int, int]] = []  # `_GONE`
        self.own: list[NDArray[Any]] = [np.zeros(0, splits.OWN)]
        self._own = 0  # how many these are
        self._refusals: dict[tuple[str, str], int] = {}

    @property
    def refusals(self) -> list[tuple[str, str]]:
        """Of the rights gate, by number: reason, and the source of the user's own photos, else empty."""
        return list(self._refusals)

    def rows(self, part: _Part) -> NDArray[Any]:
        """The portraits of a part that may enter the release, as `_ROW`."""
        own = {name: photo for name, photo in part.photos.items() if photo["provider"] == "folder"}
        number_of = {name: self._own + number for number, name in enumerate(own)}
        self._own += len(own)
        self.own.append(np.array([_own(photo) for photo in own.values()], splits.OWN))
        ids = packed(pa.array([row["portrait_id"] for row in part.portraits], pa.string()))
        place = self._clusters.find(ids).tolist()
        found = []
        for position, (row, cluster) in enumerate(zip(part.portraits, place, strict=True)):
            photo = part.photos[row["photo_id"]]
            verdict = part.screened.get(row["portrait_id"])
            if verdict is None:
                raise ReleaseError(
                    f"portrait {row['portrait_id'][:12]} was not screened yet: finish the build first "
                    "(phq build)"
                )
            number = int(self._clusters.number[cluster]) if cluster >= 0 else -1
            if self._is_out(row, photo, verdict, number):
                continue
            code, taken = _author(photo), day(photo["exif_time"])
            found.append((
                ids[position], part.number, position, int(row["photo_id"][:16], 16),
                splits.draw_of(row["photo_id"]),
                code, int(taken.replace("-", "")) if taken else 0, number_of.get(row["photo_id"], -1), number,
                verdict["phash"], self._clusters.distance[cluster] if cluster >= 0 else 0,
                cluster < 0 or self._clusters.representative[cluster], self._barred(photo),
            ))  # fmt: skip
        return np.array(found, _ROW)

    def _is_out(
        self, row: Mapping[str, Any], photo: Mapping[str, Any], verdict: Mapping[str, Any], cluster: int
    ) -> bool:
        portrait = row["portrait_id"]
        if portrait in self._votes:
            self.present.add(portrait)
        ids = [portrait, *([row["corrected_from"]] if row["corrected_from"] else [])]
        if self._tombstones.entries and any(
            self._tombstones.forbids({**photo, "portrait_id": one, "photo_id": row["photo_id"]})
            for one in ids
        ):
            self.gone.append((verdict["phash"], cluster))
            self.left_out["taken_down"] += 1
            return True
        reason = _left_out(self._votes.get(portrait), verdict, self._reviewed)
        if reason:
            self.left_out[reason] += 1
        return bool(reason)

    def _barred(self, photo: Mapping[str, Any]) -> int:
        reason = rights.refusal(photo, "train", self._permissions)
        if not reason:
            return -1
        if photo["provider"] == "samples":
            return _TRIAL
        source = str(photo["source"]) if photo["provider"] == "folder" else ""
        return self._refusals.setdefault((reason, source), len(self._refusals))


def _left_out(vote: Consensus | None, verdict: Mapping[str, Any], reviewed: bool) -> str:
    kept, reasons = bool(verdict["kept"]), set(verdict["reasons"])
    if MINOR in reasons:
        return "minor"  # whatever was said of the label
    state = vote.state if vote else "undecided"
    if state == "undecided" and reasons & UNDECIDED:
        return "age_undecided"
    if reviewed and not (state == "undecided" and not kept):
        return "" if state == "accepted" else f"review_{state}"
    if state in ("rejected", "disputed"):
        return f"review_{state}"
    return "" if kept or state == "accepted" else "screened_out"


def _leave_out(left_out: Counter[str], reason: str, keep: NDArray[np.bool_]) -> None:
    if not keep.all():
        left_out[reason] += int((~keep).sum())


def _clustered(chosen: NDArray[Any], distance: int) -> NDArray[np.int64]:
    """The cluster of every row [N], joined again over what was chosen: the first row of it.

    The workspace's clusters cover what the screening kept; a reviewer may accept what it did not, and a part
    may be newer than the clusters. A portrait that the table knows nothing of is compared with all.
    """
    groups = Groups(chosen["phash"])
    loose = np.flatnonzero(chosen["cluster"] < 0)
    asked, first = np.unique(groups.of[loose], return_index=True)
    number, other = pairs_between(groups.distinct[asked], groups.distinct, distance)
    alone = (asked[number] == other) & (groups.sizes()[other] == 1)  # each is near itself
    place, row = groups.rows_of(other[~alone])
    edges = np.arange(len(row), dtype=np.uint64)
    ends = np.concatenate([loose[first][number[~alone]][place], row])
    known = np.flatnonzero(chosen["cluster"] >= 0)
    tied = (known, chosen["cluster"][known].astype(np.uint64))
    return splits.components(len(chosen), [tied, (ends, np.concatenate([edges, edges]))])


def _like(
    chosen: NDArray[Any], cluster: NDArray[np.int64], gone: NDArray[Any], distance: int
) -> NDArray[np.bool_]:
    """Which rows [N] look like a portrait that was taken down, or are of its cluster: the same image from
    another file."""
    alike = np.zeros(len(chosen), bool)
    if not len(gone) or not len(chosen):
        return alike
    groups = Groups(chosen["phash"])
    near = np.zeros(len(groups.distinct), bool)
    near[pairs_between(groups.distinct, np.unique(gone["phash"]), distance)[0]] = True
    named = np.unique(gone["cluster"][gone["cluster"] >= 0])
    of_theirs = np.unique(cluster[np.isin(chosen["cluster"], named)])
    return np.asarray(near[groups.of] | np.isin(cluster, of_theirs), np.bool_)


def _best_of_each(chosen: NDArray[Any], cluster: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows [N] are the representative of their cluster, or the member nearest to it when it was not
    chosen; of equals the first."""
    best = np.lexsort((chosen["distance"], ~chosen["representative"], cluster))
    keep = np.zeros(len(chosen), bool)
    keep[best[np.diff(cluster[best], prepend=-1) != 0]] = True
    return keep


def _ties(chosen: NDArray[Any], cluster: NDArray[np.int64], own: NDArray[Any]) -> Ties:
    codes = [cluster.astype(np.uint64) + np.uint64(1), splits.sessions(chosen["author"], chosen["day"])]
    is_own = chosen["own"] >= 0
    for session in splits.series(own) if is_own.any() else ():
        codes.append(np.zeros(len(chosen), np.uint64))
        codes[-1][is_own] = session[chosen["own"][is_own]]
    return Ties(chosen["photo"].copy(), chosen["draw"].copy(), codes)


def _own(photo: Mapping[str, Any]) -> tuple[int, int, int]:
    return splits.own_photo(photo["source"], photo["uri"], day(photo["exif_time"]))


def _author(photo: Mapping[str, Any]) -> int:
    """Whose sessions tie a photo to others: renders have nobody's, and in a folder without dates the owner of
    everything would tie all."""
    if photo["provider"] == "synthetic" or (photo["provider"] == "folder" and not day(photo["exif_time"])):
        return 0
    return splits.author_code(photo["author"])

"""Which portraits of a workspace enter a release, and why the others do not.

Reads every table part by part and no image. What is kept of a portrait here is a few hundred bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phq_data.errors import ReleaseError
from phq_data.images.near import Groups, pairs_between
from phq_data.release import rights
from phq_data.release.rights import Permission
from phq_data.release.splits import Grouped, series_of
from phq_data.release.tombstones import Tombstones
from phq_data.review import decisions
from phq_data.review.consensus import Consensus, ConsensusRule
from phq_data.workspace import Workspace

_DAY = re.compile(r"(\d{4})[:-](\d{2})[:-](\d{2})", re.ASCII)
_IDS = ("portrait_id", "photo_id", "corrected_from")
PROVENANCE: tuple[str, ...] = (
    "provider", "page_url", "file_url", "title", "author", "author_url", "license", "license_url",
    "rights_checked_at", "rights_evidence", "permission", "consent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A portrait that enters the release, and where it lies in the workspace."""

    portrait_id: str
    photo_id: str
    part: int
    row: int  # in the part
    author: str | None
    day: str | None
    cluster: str
    series: tuple[str, ...] = ()

    @property
    def grouped(self) -> Grouped:
        """What decides its split."""
        return Grouped(self.portrait_id, self.photo_id, self.author, self.day, self.cluster, self.series)


@dataclass(frozen=True)
class Selection:
    """Chosen portraits in the order of their ids, and how many were left out for what reason."""

    places: tuple[Place, ...]
    left_out: Mapping[str, int]
    refused: Mapping[str, list[str]]  # by the rights gate: reason -> portrait ids
    folders: tuple[str, ...] = ()  # sources of refused photos of the user's own
    consensus: Mapping[str, int] = field(default_factory=dict)  # state -> portraits
    replaced: int = 0  # portraits with a verdict that the workspace no longer has


@dataclass(frozen=True, slots=True)
class _Candidate:
    place: Place
    phash: int
    representative: bool
    distance: int


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
    rejected or disputes. Then not those taken down (nor their near-duplicates), and one of every cluster of
    near-duplicates. The rights gate comes last; what it refuses is in `refused`, for the caller to stop at,
    or with `only_permitted` left out. Samples that are for trials only are always left out.
    """
    votes = decisions.current(workspace, rule) if votes is None else votes
    states = Counter(consensus.state for consensus in votes.values())
    left_out: Counter[str] = Counter()
    clusters = {row["portrait_id"]: row for row in workspace.table("duplicates").to_pylist()}
    present: set[str] = set()  # of those with votes
    chosen: list[_Candidate] = []
    gone: list[tuple[int, str]] = []  # hash and cluster of taken-down portraits, whatever became of them
    barred: dict[str, str] = {}  # photo_id -> why the rights gate refuses it
    trials: dict[str, str] = {}  # the same for samples
    sources: dict[str, str] = {}  # photo_id -> the folder, of refused photos of the user's own
    taken: list[Mapping[str, str | None]] = []  # of users' own folders
    for part, rows, photos, screened in _parts(workspace):
        taken += [_taken(photo) for photo in photos.values() if photo["provider"] == "folder"]
        for position, row in enumerate(rows):
            portrait, photo = row["portrait_id"], photos[row["photo_id"]]
            if portrait in votes:
                present.add(portrait)
            verdict = screened.get(portrait)
            if verdict is None:
                raise ReleaseError(
                    f"portrait {portrait[:12]} was not screened yet: finish the build first (phq build)"
                )
            duplicate = clusters.get(portrait, {})
            cluster = str(duplicate.get("cluster", portrait))
            ids = [portrait, *([row["corrected_from"]] if row["corrected_from"] else [])]
            if any(
                tombstones.forbids({**photo, "portrait_id": one, "photo_id": row["photo_id"]}) for one in ids
            ):
                gone.append((verdict["phash"], cluster))
                left_out["taken_down"] += 1
                continue
            reason = _left_out(votes.get(portrait), bool(verdict["kept"]), reviewed)
            if reason:
                left_out[reason] += 1
                continue
            place = Place(
                portrait, row["photo_id"], part, position, _author(photo), day(photo["exif_time"]), cluster
            )
            representative = bool(duplicate.get("representative", True))
            chosen.append(
                _Candidate(place, verdict["phash"], representative, int(duplicate.get("distance", 0)))
            )
            if reason := rights.refusal(photo, "train", permissions):
                (trials if photo["provider"] == "samples" else barred)[row["photo_id"]] = reason
                if photo["provider"] == "folder":
                    sources[row["photo_id"]] = photo["source"]
    joined = _clustered(chosen, duplicate_distance, set(clusters))
    names = {cluster for _, cluster in gone}  # and what clusters with their members are called now
    names |= {
        new.place.cluster for old, new in zip(chosen, joined, strict=True) if old.place.cluster in names
    }
    hashes = np.array([phash for phash, _ in gone], np.uint64)
    chosen = _without_likes(joined, hashes, names, duplicate_distance, left_out)
    chosen = _permitted(chosen, trials, left_out, "sample_for_trials_only")
    if only_permitted:
        chosen = _permitted(chosen, barred, left_out, "not_permitted")
    if not keep_duplicates:
        chosen = _one_a_cluster(chosen, left_out)
    series = series_of(taken)
    found = (replace(one.place, series=series.get(one.place.photo_id, ())) for one in chosen)
    places = sorted(found, key=lambda place: place.portrait_id)
    refused: dict[str, list[str]] = {}
    for place in places:
        if place.photo_id in barred:
            refused.setdefault(barred[place.photo_id], []).append(place.portrait_id)
    replaced = sum(one.state != "undecided" for name, one in votes.items() if name not in present)
    folders = tuple(dict.fromkeys(sources[one.photo_id] for one in places if one.photo_id in sources))
    return Selection(
        tuple(places),
        dict(sorted(left_out.items())),
        refused,
        folders,
        dict(sorted(states.items())),
        replaced,
    )


def day(exif_time: str | None) -> str | None:
    """The ISO date of an EXIF time; None when there is none or it is no date."""
    match = _DAY.match(exif_time or "")
    return "-".join(match.groups()) if match and match[0][:4] != "0000" else None


def _parts(
    workspace: Workspace,
) -> Iterator[tuple[int, list[dict[str, Any]], dict[str, Any], dict[str, Any]]]:
    """Part by part: portraits (ids), photos by id, screening verdicts by portrait."""
    for part in workspace.parts("tables/portraits"):
        rows = workspace.read_part("tables/portraits", part, _IDS).to_pylist()
        columns = ["photo_id", "exif_time", "source", "uri", *PROVENANCE]
        photos = workspace.read_part("tables/photos", part, columns).to_pylist()
        verdicts: list[dict[str, Any]] = []
        if workspace.part_info("tables/screened", part) is not None:
            verdicts = workspace.read_part(
                "tables/screened", part, ["portrait_id", "kept", "phash"]
            ).to_pylist()
        by_photo = {photo["photo_id"]: photo for photo in photos}
        for row in rows:
            if row["photo_id"] not in by_photo:
                raise ReleaseError(
                    f"portrait {row['portrait_id'][:12]} of part {part} has no row in 'photos': run `phq "
                    "build` again"
                )
        yield part, rows, by_photo, {verdict["portrait_id"]: verdict for verdict in verdicts}


def _taken(photo: Mapping[str, Any]) -> dict[str, str | None]:
    kept = {name: photo[name] for name in ("photo_id", "provider", "source", "uri", "author")}
    return {**kept, "day": day(photo["exif_time"])}


def _left_out(vote: Consensus | None, kept: bool, reviewed: bool) -> str:
    state = vote.state if vote else "undecided"
    if reviewed and not (state == "undecided" and not kept):
        return "" if state == "accepted" else f"review_{state}"
    if state in ("rejected", "disputed"):
        return f"review_{state}"
    return "" if kept or state == "accepted" else "screened_out"


def _clustered(chosen: list[_Candidate], distance: int, known: set[str]) -> list[_Candidate]:
    """Join near-duplicates again over what was chosen.

    The workspace's clusters cover what the screening kept; a reviewer may accept what it did not, and a part
    may be newer than the clusters. A portrait that the table knows nothing of is compared with all.
    """
    if not chosen:
        return chosen
    groups = Groups(np.array([one.phash for one in chosen], np.uint64))
    cluster = [one.place.cluster for one in chosen]
    loose: dict[int, int] = {}  # group -> its first row that the table knows nothing of
    for row, (one, group) in enumerate(zip(chosen, groups.of.tolist(), strict=True)):
        if one.place.portrait_id not in known:
            loose.setdefault(group, row)
    names: dict[str, str] = {}

    def root(name: str) -> str:
        while names.get(name, name) != name:
            name = names[name]
        return name

    asked = np.fromiter(loose, np.int64, len(loose))
    for number, other in zip(*pairs_between(groups.distinct[asked], groups.distinct, distance), strict=True):
        first = loose[int(asked[number])]
        for row in groups.rows(other).tolist():
            low, high = sorted((root(cluster[first]), root(cluster[row])))
            names[high] = low
    found = []
    for one in chosen:
        name = root(one.place.cluster)
        place = one.place if name == one.place.cluster else _in_cluster(one.place, name)
        found.append(_Candidate(place, one.phash, one.representative, one.distance))
    return found


def _without_likes(
    chosen: list[_Candidate],
    gone: NDArray[np.uint64],  # [G] hashes of portraits that were taken down
    clusters: Set[str],
    distance: int,
    left_out: Counter[str],
) -> list[_Candidate]:
    """Leave out what looks like a portrait that was taken down, or is of its cluster: the same image from
    another file.
    """
    if not len(gone) or not chosen:
        return chosen
    groups = Groups(np.array([one.phash for one in chosen], np.uint64))
    alike = np.zeros(len(groups.distinct), bool)
    alike[pairs_between(groups.distinct, np.unique(gone), distance)[0]] = True
    found = [
        one
        for one, like in zip(chosen, alike[groups.of].tolist(), strict=True)
        if not like and one.place.cluster not in clusters
    ]
    if len(found) < len(chosen):
        left_out["like_taken_down"] += len(chosen) - len(found)
    return found


def _author(photo: Mapping[str, Any]) -> str | None:
    """Whose sessions tie a photo to others: renders have nobody's, and in a folder without dates the owner of
    everything would tie all."""
    if photo["provider"] == "synthetic" or (photo["provider"] == "folder" and not day(photo["exif_time"])):
        return None
    return str(photo["author"]) if photo["author"] else None


def _permitted(
    chosen: list[_Candidate], barred: Mapping[str, str], left_out: Counter[str], word: str
) -> list[_Candidate]:
    """Leave out what the rights gate refuses, before one of near-duplicates is chosen."""
    found = [one for one in chosen if one.place.photo_id not in barred]
    if len(found) < len(chosen):
        left_out[word] += len(chosen) - len(found)
    return found


def _one_a_cluster(chosen: Iterable[_Candidate], left_out: Counter[str]) -> list[_Candidate]:
    """The representative of every cluster, or the member nearest to it when it was not chosen."""
    best: dict[str, _Candidate] = {}
    for one in chosen:
        rival = best.setdefault(one.place.cluster, one)
        if rival is not one:
            left_out["near_duplicate"] += 1
            best[one.place.cluster] = min(rival, one, key=_rank)
    return list(best.values())


def _rank(one: _Candidate) -> tuple[bool, int, str]:
    return (not one.representative, one.distance, one.place.portrait_id)


def _in_cluster(place: Place, cluster: str) -> Place:
    return replace(place, cluster=cluster)

"""Who saw a portrait: the releases that hold it, the training runs that were given it, their checkpoints.

A run of portraitgan says in `seen.json` which portraits of which release it was trained on; of a run before
there was that file its checkpoints name the release alone, and it may have seen the portrait.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phq_data.errors import ReleaseError
from phq_data.foreign import parse_json
from phq_data.release import reader
from phq_data.release.marks import mark, marks
from phq_data.release.shelf import Shelf

KINDS = ("portrait", "photo", "person", "author")
_SHORTEST = 8  # digits of an id
_DEEPEST = 6  # folders below the one that is searched
_COLUMNS = ["portrait_id", "photo_id", "person_id", "author", "author_url"]


@dataclass(frozen=True)
class Holding:
    """A release that holds what was asked for; portraits that were taken down count, too."""

    version: str
    digest: str
    portraits: int


@dataclass(frozen=True)
class Trained:
    """A run that was trained on it."""

    run: str
    version: str  # of the release
    portraits: int  # how many of them; 0 = it is not recorded which portraits the run was given
    checkpoints: tuple[str, ...]  # folders
    through: str = ""  # the run whose weights it began from, where it saw nothing itself


@dataclass(frozen=True)
class Trace:
    """What was found."""

    portraits: tuple[str, ...]
    releases: tuple[Holding, ...]
    runs: tuple[Trained, ...]


def trace(releases: str, requests: Sequence[tuple[str, str]], runs: Iterable[Path] = ()) -> Trace:
    """Where the portraits that `requests` (kind of `KINDS`, text) mean went.

    `runs` are folders of runs, or folders above them. Raises `ReleaseError` for an id that is too short, and
    where neither a release nor a run knows what was asked for.
    """
    for kind, text in requests:
        if kind != "author" and len(text) < _SHORTEST:
            raise ReleaseError(f"{text!r} is too short an id: give at least {_SHORTEST} digits of it")
    holdings: list[Holding] = []
    wanted: set[str] = set()
    for folder in Shelf(releases).releases():
        opened = reader.open(folder.url)
        if hits := _meant(opened, requests):
            wanted |= hits
            holdings.append(Holding(folder.name, opened.manifest.digest, len(hits)))
    starts = tuple(text for kind, text in requests if kind == "portrait")
    found = trained_on(wanted, {one.digest: one.version for one in holdings}, runs, starts)
    if not holdings and not found:
        raise ReleaseError(f"no release in {releases} and no run knows {_told(requests)}")
    return Trace(tuple(sorted(wanted)), tuple(holdings), found)


def trained_on(
    portraits: set[str], digests: Mapping[str, str], runs: Iterable[Path], starts: tuple[str, ...] = ()
) -> tuple[Trained, ...]:
    """The runs below `runs` that saw one of `portraits` (or an id that begins with one of `starts`), those
    that began from weights of such a run, and those of before that were trained on a release of `digests`
    (digest -> version).
    """
    found: dict[Path, list[Trained]] = {}
    begun: dict[Path, str] = {}
    for run in sorted({run for place in runs for run in _runs(place)}):
        entries = _entries(run)
        if entries is None:
            if digests and (old := _of_before(run, digests)):
                found[run] = [old]
            continue
        for entry in entries:
            begun.setdefault(run, str(entry.get("weights") or ""))
            seen = [
                one for one in entry["portraits"] if one in portraits or (starts and one.startswith(starts))
            ]
            if seen:
                made = tuple(name for name, state in _checkpoints(run) if state["images"] > entry["images"])
                found.setdefault(run, []).append(Trained(str(run), str(entry["version"]), len(seen), made))
    told = [one for run in found for one in found[run]]
    return (*told, *_descended(found, begun))


def _descended(found: Mapping[Path, Any], begun: Mapping[Path, str]) -> Iterator[Trained]:
    """Runs that began from weights of one that saw it, and so on."""
    touched = {run.resolve() for run in found}
    more = True
    while more:
        more = False
        for run, weights in begun.items():
            source = Path(weights).resolve() if weights else None
            parent = next(
                (one for one in touched if source and (one == source or one in source.parents)), None
            )
            if parent is not None and run.resolve() not in touched:
                touched.add(run.resolve())
                more = True
                yield Trained(str(run), "", 0, tuple(name for name, _ in _checkpoints(run)), str(parent))


def _meant(release: reader.Release, requests: Sequence[tuple[str, str]]) -> set[str]:
    """The ids of the portraits of a release that the requests mean."""
    authors = {mark("author", text) for kind, text in requests if kind == "author"}
    starts = {kind: tuple(text for one, text in requests if one == kind) for kind in KINDS[:3]}
    found = set()
    for number in range(len(release.manifest.shards)):
        for row in release.read_shard(number, _COLUMNS).to_pylist():
            named = (row["author"], row["author_url"]) if authors else ()
            if any(row[f"{kind}_id"].startswith(ids) for kind, ids in starts.items() if ids) or any(
                authors & set(marks("author", name)) for name in named if name
            ):
                found.add(row["portrait_id"])
    return found


def _runs(place: Path) -> Iterator[Path]:
    """The folders of runs at or below `place`."""
    if not place.is_dir():
        raise ReleaseError(f"there is no folder of runs at {place}")
    for folder, names, files in os.walk(place):
        here = Path(folder)
        deep = len(here.relative_to(place).parts) >= _DEEPEST
        if "seen.json" in files or ("checkpoints" in names and "config.json" in files):
            yield here
            deep = True
        names[:] = [] if deep else sorted(name for name in names if not name.startswith("."))


def _entries(run: Path) -> list[dict[str, Any]] | None:
    """What a run was trained on; None for one of before, or whose record is damaged."""
    try:
        found = parse_json((run / "seen.json").read_bytes())
        entries = [dict(entry) for entry in found["data"]]
        if all(isinstance(one["portraits"], list) and isinstance(one["images"], int) for one in entries):
            return entries
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _of_before(run: Path, digests: Mapping[str, str]) -> Trained | None:
    made = [(name, state["data"]) for name, state in _checkpoints(run) if state["data"] in digests]
    if not made:
        return None
    return Trained(str(run), digests[made[-1][1]], 0, tuple(name for name, _ in made))


def _checkpoints(run: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(folder, state) of the run's checkpoints, by name; damaged ones count as of its beginning and end."""
    for path in sorted((run / "checkpoints").glob("*/state.json")):
        try:
            state = parse_json(path.read_bytes())
            yield str(path.parent), {"images": int(state["images"]), "data": str(state["data"])}
        except (OSError, ValueError, KeyError, TypeError):
            yield str(path.parent), {"images": 1 << 62, "data": ""}


def _told(requests: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{kind} {text!r}" for kind, text in requests)

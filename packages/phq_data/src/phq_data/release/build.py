"""Making a release: choose, split, compare with the parent, write, and only then give it its name.

Everything is written into a hidden folder beside the releases, the manifest last, and the folder is renamed.
A build that is stopped leaves nothing that looks like a release; the next one clears it away. For releases at
an object store it is written here and then sent, the manifest last (`release.transfer`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from phq_data import __version__, parquet, parquet_limits, schema
from phq_data.errors import ReleaseError
from phq_data.files import file_sha256
from phq_data.foreign import parse_json
from phq_data.pipeline.engine import load_config
from phq_data.pipeline.model_set import load_terms
from phq_data.pipeline.whole import finished
from phq_data.release import manifest as manifests
from phq_data.release import parts, reader, rights, shards, splits, stats, tombstones
from phq_data.release.decoded import Decoded
from phq_data.release.manifest import FileEntry, Images, Manifest, ShardEntry
from phq_data.release.parent import Changes, compare, decoded_of, rows_before
from phq_data.release.parts import Run
from phq_data.release.places import Places, texts
from phq_data.release.reader import Folder
from phq_data.release.rights import Permission, RightsError
from phq_data.release.rows import FACTS, Truth
from phq_data.release.select import Selection, select
from phq_data.release.shards import ShardPlan
from phq_data.release.shelf import Shelf, record_shelf, taken_down_elsewhere
from phq_data.release.splits import SplitShares
from phq_data.release.takedown import settle
from phq_data.release.transfer import complete, send
from phq_data.release.version import Version, VersionError, check_step
from phq_data.review.consensus import ConsensusRule
from phq_data.rig import PortraitRig, RigError
from phq_data.workspace import Workspace, WorkspaceError

Progress = Callable[[str, int, int], None]
"""Told of (what is being done, rows done, rows in all)."""

_INDEX_ROWS = 1 << 20  # of a row group
_RECIPE_BODIES = ("smpl",)
"""Bodies whose numbers may not be given away."""


@dataclass(frozen=True)
class ReleaseOptions:
    """How a release is made."""

    name: str = "phq-portraits"
    created: str = ""  # ISO date; "" = today
    unreviewed: bool = False
    images: Images = "all"
    rule: ConsensusRule = field(default_factory=ConsensusRule)
    shares: SplitShares = field(default_factory=SplitShares)
    shard_bytes: int = 256 << 20
    parent: str = ""  # version; "" = the highest one there
    repack: bool = False  # pack all rows anew instead of keeping the parent's shards
    keep_duplicates: bool = False
    only_permitted: bool = False  # leave out what the rights gate refuses
    permissions: tuple[Permission, ...] = ()
    creator: str = "the people who ran phq release build"
    url: str = ""  # where the release will be published
    workers: int = 2


@dataclass(frozen=True)
class ReleaseResult:
    """A release that was made."""

    folder: str  # or URL
    manifest: Manifest
    changes: Changes | None  # None: the first release
    left_out: Mapping[str, int]


def build(
    workspace: Workspace,
    releases: str | Path,
    version: str,
    options: ReleaseOptions = ReleaseOptions(),
    *,
    truth: Truth | None = None,
    run: Run | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ReleaseResult:
    """Make `releases`/`version` from the accepted portraits of `workspace`; `releases` is a folder or URL.
    `run` does it in pieces (default: threads of this process).

    Raises `VersionError` for a number that says the wrong thing about the rows, `RightsError` for rows that
    may not be used, `ReleaseError` for a workspace or parent that no release can be made from,
    `WorkspaceError` for a workspace that is being built or of which parts are behind its settings. Nothing is
    left behind then.
    """
    number = Version.parse(version)
    if number.build:
        raise VersionError(f"a release has no build mark: {version}")
    shelf = Shelf(releases)
    target = shelf.release(version)
    if target.fs.exists(target.root) if target.is_local else target.exists(manifests.NAME):
        raise VersionError(f"{target.url} exists already; a version never changes: choose the next number")
    with finished(workspace) as unchanged, shelf.building() as (partial, check):
        parent = _parent(shelf, options.parent, number)
        if target.exists(manifests.NAME):
            raise VersionError(f"{target.url} was built by somebody else meanwhile: choose the next number")
        with contextlib.suppress(WorkspaceError):  # who may only read can release as well
            record_shelf(workspace, shelf)
        gone = tombstones.joined([shelf.tombstones(), *taken_down_elsewhere(workspace, shelf)])
        config = load_config(workspace)
        selection = select(
            workspace,
            reviewed=not options.unreviewed,
            rule=options.rule,
            tombstones=gone,
            permissions=options.permissions,
            duplicate_distance=config.dedup.max_distance,
            keep_duplicates=options.keep_duplicates,
            only_permitted=options.only_permitted,
        )
        _check_selection(selection, options)
        places = selection.places
        before, removed = rows_before(parent, places)
        chosen = splits.assign(selection.ties, options.shares, before["split"])
        selection = replace(selection, ties=splits.NO_TIES)  # 50 bytes a row
        run, truth = run or parts.Here(options.workers), truth or {}
        facts = _facts(workspace, places, chosen, before, decoded_of(parent), options, truth, run, progress)
        changes = compare(facts, before, removed, parent, gone)
        if parent is not None:
            changed = (changes.added, changes.removed, changes.changed)
            check_step(Version.parse(parent.version), number, *changed)
        old_shards = parent.manifest.shards if parent is not None else ()
        # Shards of an older schema are written anew: all of a release have the same columns.
        current = parent is not None and parent.stored_columns == schema.RELEASE.names
        keep = current and not options.repack
        plans = shards.plan(facts, options.shard_bytes, old_shards if keep else (), before)
        entries = _write_shards(
            plans, facts, places, workspace, partial, options, truth, parent, run, progress
        )
        _write_index(plans, facts, places, partial)
        rig = _write_rig(workspace, partial)
        summary = stats.summarise(partial / entry.path for entry in entries)
        copied = sum(shard.copy_of is not None for shard in plans)
        changes = Changes(
            changes.added, changes.removed, changes.changed, changes.taken_down, copied, len(plans) - copied
        )
        manifest = Manifest(
            name=options.name,
            version=version,
            created=options.created or date.today().isoformat(),
            schema_version=schema.SCHEMA_VERSION,
            images=options.images,
            reviewed=not options.unreviewed,
            shards=tuple(entries),
            files=(),
            parent={"version": parent.version, "digest": parent.manifest.digest} if parent else None,
            about={
                **_about(selection, options, changes if parent else None, summary, rig, workspace, gone),
                tombstones.LINEAGE: _lineage(parent, partial),
            },
        )
        manifest = _write_documents(manifest, partial, parent, summary)
        gone = gone.known_to(manifest.about)
        unchanged()
        tombstones.add(LocalFileSystem(), str(partial), gone, copy=True)
        tombstones.add(shelf.fs, shelf.root, gone)
        if target.is_local:
            (partial / manifests.NAME).write_bytes(manifest.to_bytes())
            partial.rename(target.root)
        else:
            known = (parent.folder, parent.manifest) if parent is not None else None
            send(Folder(str(partial)), manifest, target, parent=known, check=check)
            tombstones.add(target.fs, target.root, gone, copy=True)
            unchanged()
            complete(target, manifest, check)
        settle(shelf, target, manifest)  # what was taken down while it was built
    return ReleaseResult(target.url, manifest, changes if parent else None, selection.left_out)


def _parent(shelf: Shelf, wanted: str, number: Version) -> reader.Release | None:
    name = wanted or shelf.latest()
    if not name:
        return None
    try:
        return reader.open(shelf.release(name).url)
    except ReleaseError as error:
        raise ReleaseError(f"the parent of {number} cannot be used: {error}") from error


def _check_selection(selection: Selection, options: ReleaseOptions) -> None:
    if selection.refused:
        raise RightsError(rights.explain(selection.refused, "train", selection.folders))
    if not len(selection.places):
        why = ", ".join(f"{count} {reason}" for reason, count in selection.left_out.items()) or "it has none"
        if selection.replaced:
            why += f"; {selection.replaced} decided portraits were replaced by newer ones: review these"
        hint = (
            ""
            if options.unreviewed or not selection.left_out.get("review_undecided")
            else "; nobody has decided about them: review them (phq review), or release with "
            "--unreviewed, and marked so"
        )
        raise ReleaseError(f"no portrait of the workspace can be released: {why}{hint}")
    if twice := selection.places.twice():
        raise ReleaseError(f"portrait {twice} is in the workspace twice: run `phq build` again")


def _facts(
    workspace: Workspace,
    places: Places,
    split: NDArray[np.int8],
    before: NDArray[Any],
    decoded: Decoded,
    options: ReleaseOptions,
    truth: Truth,
    run: Run,
    progress: Progress,
) -> NDArray[Any]:
    """[N] `FACTS` of all rows."""
    facts, done = np.zeros(len(places), FACTS), 0
    rows = places.rows()

    def calls() -> Iterator[tuple[Any, ...]]:
        for some in rows.pieces(len(rows)):
            own = some.numbers()
            known = places.known(own, truth)
            # What goes elsewhere takes along what it may need, found by the same portrait.
            there = decoded if isinstance(run, parts.Here) else decoded.among(before["encoded"][own])
            yield workspace.url, some, split[own], there, options.images, known

    for numbers, found in run(parts.examine, calls()):
        facts[numbers] = found
        done += len(numbers)
        progress("checking images", done, len(places))
    return facts


def _write_shards(
    plans: Sequence[ShardPlan],
    facts: NDArray[Any],
    places: Places,
    workspace: Workspace,
    partial: Path,
    options: ReleaseOptions,
    truth: Truth,
    parent: reader.Release | None,
    run: Run,
    progress: Progress,
) -> list[ShardEntry]:
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        progress("writing shards", done, len(facts))

    def copy(entry: ShardEntry, path: Path) -> None:
        assert parent is not None
        parent.folder.fs.get_file(parent.folder.path(entry.path), str(path))
        if file_sha256(path) != entry.sha256:
            raise ReleaseError(
                f"{parent.folder.path(entry.path)} is not what {parent.version} was released with: get it "
                "again (phq release pull), or build with --repack"
            )

    return shards.write(plans, facts, places, workspace, partial, options.images, truth, copy, run, count)


def _write_index(plans: Sequence[ShardPlan], facts: NDArray[Any], places: Places, partial: Path) -> None:
    """The index, a row group in memory at a time."""
    waiting: list[pa.Table] = []
    with parquet.writer(partial / manifests.INDEX, manifests.INDEX_SCHEMA) as file:
        for number, shard in enumerate(plans):
            waiting.append(_indexed(number, shard, facts, places, partial / shard.path))
            while sum(map(len, waiting)) >= _INDEX_ROWS or (number == len(plans) - 1 and waiting):
                table = pa.concat_tables(waiting).combine_chunks()
                file.write_table(table.slice(0, _INDEX_ROWS), _INDEX_ROWS)
                waiting = [table.slice(_INDEX_ROWS)] if len(table) > _INDEX_ROWS else []


def _indexed(number: int, shard: ShardPlan, facts: NDArray[Any], places: Places, path: Path) -> pa.Table:
    own, rows = facts[shard.rows], len(shard.rows)
    columns = {
        "portrait_id": texts(places.ids[shard.rows]),
        "photo_id": parquet_limits.read_all(path, ["photo_id"])["photo_id"],
        "split": pa.repeat(shard.split, rows),
        "shard": np.full(rows, number, np.int32),
        "row": np.arange(rows, dtype=np.int32),
        **{name: [one.tobytes().hex() for one in own[name]] for name in ("digest", "pixels", "encoded")},
    }
    return pa.table(columns, schema=manifests.INDEX_SCHEMA)


def _write_rig(workspace: Workspace, partial: Path) -> dict[str, Any]:
    """The rig, or a recipe where its numbers may not be given away. Returns what the manifest says."""
    if not workspace.exists("rig.safetensors"):
        raise ReleaseError(f"the workspace {workspace.url} has no rig.safetensors: run `phq build` again")
    path = partial / manifests.RIG
    path.write_bytes(workspace.read_bytes("rig.safetensors"))
    try:
        rig = PortraitRig.load(path)
    except RigError as error:
        raise ReleaseError(f"the workspace's rig is damaged: {error}; run `phq build` again") from error
    about: dict[str, Any] = {"body": rig.body, "digest": rig.digest}
    if rig.body in _RECIPE_BODIES:
        path.unlink()
        about["command"] = f"phq rig build --body {rig.body} --model FILE rig.safetensors"
        (partial / manifests.RECIPE).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    return about


def _about(
    selection: Selection,
    options: ReleaseOptions,
    changes: Changes | None,
    summary: stats.Summary,
    rig: Mapping[str, Any],
    workspace: Workspace,
    gone: tombstones.Tombstones,
) -> dict[str, Any]:
    config = parse_json(workspace.read_bytes("config.json")) if workspace.exists("config.json") else None
    return {
        "columns": schema.RELEASE.names,
        "code_version": __version__,
        "counts": {
            "portraits": summary.rows,
            "photos": summary.photos,
            "corrected": summary.corrected,
            "consent": summary.consent,
            "age_screen": summary.ages,
            "splits": summary.splits,
            "left_out": dict(selection.left_out),
        },
        "review": {
            "min_votes": options.rule.min_votes,
            "min_share": options.rule.min_share,
            "consensus": dict(selection.consensus),
        },
        "split_shares": dict(zip(manifests.SPLITS, options.shares.as_tuple(), strict=True)),
        "config": config,
        "models": summary.models,
        "model_terms": {name: asdict(terms) for name, terms in load_terms(workspace).items()},
        "rig": dict(rig),
        "licenses": summary.licenses,
        "providers": summary.providers,
        "permissions": [permission.to_dict() for permission in options.permissions],
        "terms_checked": {name: terms.checked for name, terms in rights.TERMS.items()},
        "creator": options.creator,
        "url": options.url,
        "changes": vars(changes).copy() if changes else None,
        tombstones.RECORDED: True,
        "tombstones": sorted({portrait for entry in gone.entries for portrait in entry.portraits}),
    }


def _lineage(parent: reader.Release | None, partial: Path) -> str:
    """What a release and all that follow it have in common."""
    inherited = parent.manifest.about.get(tombstones.LINEAGE) if parent is not None else None
    return str(inherited or file_sha256(partial / manifests.INDEX)[:32])


def _write_documents(
    manifest: Manifest, folder: Path, parent: reader.Release | None, summary: stats.Summary
) -> Manifest:
    """Write everything that is for people, and list every file in the manifest."""
    from phq_data.release import card, croissant, report

    changelog = ""
    if parent is not None:
        with contextlib.suppress(FileNotFoundError):
            changelog = parent.folder.read("CHANGELOG.md").decode()
    card.write(folder, manifest, summary, changelog)
    report.write(folder, manifest, summary)
    listed = _listed(manifest, folder)
    croissant.write(folder, listed, summary)
    return _listed(manifest, folder)


def _listed(manifest: Manifest, folder: Path) -> Manifest:
    known = {entry.path for entry in manifest.shards}
    files = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in known and name != manifests.NAME:
            files.append(FileEntry(name, path.stat().st_size, file_sha256(path)))
    return replace(manifest, files=tuple(files))

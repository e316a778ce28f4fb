"""Does anything get lost? `python -m benchmarks.chaos` kills programs, flips bits, and compares what is left.

Kills: `phq build` under three runners, `phq release push` and `pull`, the review service while it takes
decisions, `portraitgan train`; each by SIGKILL at a random moment, then run again to its end. Flips: one
random bit in every kind of file of a workspace, its review, a release and a checkpoint, which is then read.
Counted are rows lost and doubled, and silent faults: other values than without the fault, and no word of it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import chaos_kills as kills
from phq_data.errors import PhqError

NOTICED, HARMLESS, SILENT = "noticed", "harmless", "silent"


@dataclass
class Found:
    """What a run found; `kinds` counts outcomes by kind of fault."""

    tries: int = 0
    lost: int = 0
    doubled: int = 0
    silent: int = 0
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)  # of silent faults

    def count(self, kind: str, outcome: str, where: str = "") -> None:
        """Note a try of `kind`."""
        self.tries += 1
        self.kinds.setdefault(kind, Counter())[outcome] += 1
        if outcome == SILENT:
            self.silent += 1
            self.examples.append(f"{kind}: {where}")

    def killed(self, kind: str, after: kills.After) -> None:
        """Note a program that was killed and run again."""
        self.count(kind, SILENT if after.other else "as without", after.what)
        self.lost += after.lost
        self.doubled += after.doubled


def main(arguments: list[str] | None = None) -> None:
    """Run what was asked for and print what was found; exit code 1 for any loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3, help="times that each program is killed")
    parser.add_argument("--flips", type=int, default=20, help="flips in each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help=f"some of {', '.join(KINDS)}, with commas between them")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args(arguments)
    wanted = given.only.split(",") if given.only else list(KINDS)
    if unknown := set(wanted) - set(KINDS):
        raise SystemExit(f"there is no '{', '.join(sorted(unknown))}'; there are {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory(prefix="phq-chaos-") as folder:
        found = chaos(Path(folder), wanted, given.kills, given.flips, given.seed)
    for kind, outcomes in found.kinds.items():
        print(f"{kind + ' ':<40}" + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    for example in found.examples:
        print(f"SILENT {example}")
    numbers = {name: getattr(found, name) for name in ("tries", "lost", "doubled", "silent")}
    print(json.dumps(numbers) if given.json else numbers)
    if found.lost or found.doubled or found.silent:
        sys.exit(1)


def chaos(folder: Path, wanted: list[str], times: int, flips: int, seed: int) -> Found:
    """Try `wanted` in a folder of its own."""
    found = Found()
    scene = kills.Scene(folder)
    for name in wanted:
        KINDS[name](scene, found, times, flips, random.Random(f"{seed}/{name}"))
    return found


# ---- kills ------------------------------------------------------------------------------------


def _builds(scene: kills.Scene, found: Found, times: int, _: int, draw: random.Random) -> None:
    for runner in ("inline", "threads", "processes"):
        for _ in range(times):
            found.killed(f"kill: build, {runner}", kills.build(scene, runner, draw))


def _transfers(scene: kills.Scene, found: Found, times: int, _: int, draw: random.Random) -> None:
    for way in ("push", "pull"):
        for _ in range(times):
            found.killed(f"kill: {way}", kills.transfer(scene, way, draw))


def _review(scene: kills.Scene, found: Found, times: int, _: int, draw: random.Random) -> None:
    for _ in range(times):
        found.killed("kill: review service", kills.review(scene, draw))


def _training(scene: kills.Scene, found: Found, times: int, _: int, draw: random.Random) -> None:
    for _ in range(times):
        found.killed("kill: training", kills.training(scene, draw))


# ---- flipped bits ------------------------------------------------------------------------------------


def _workspace_flips(scene: kills.Scene, found: Found, _: int, flips: int, draw: random.Random) -> None:
    """The workspace is verified and released: one of them speaks, or nothing changed."""
    from phq_data.pipeline import integrity
    from phq_data.workspace import Workspace

    right = _content(scene.release)

    def read(copy: Path) -> bool:
        workspace = Workspace.open(str(copy))
        if integrity.verify(workspace).faults:
            raise PhqError("phq workspace verify names it")
        kills.make_release(copy, copy.parent / "made")
        return _content(copy.parent / "made" / kills.VERSION) == right

    _flip_all("workspace", scene.workspace, read, scene.scratch, found, flips, draw)


def _review_flips(scene: kills.Scene, found: Found, _: int, flips: int, draw: random.Random) -> None:
    """The review's database and its journal: verified, mended, and every row compared."""
    from phq_data.pipeline import integrity
    from phq_data.review import repair
    from phq_data.workspace import Workspace

    right = kills.review_rows(scene.reviewed)

    def read(copy: Path) -> bool:
        workspace = Workspace.open(str(copy))
        assert not integrity.verify(workspace).faults
        if faults := repair.faults(workspace):
            repair.repair(workspace)
            if repair.faults(workspace):
                return False
            raise PhqError(faults[0].problem)
        return kills.review_rows(copy) == right

    for kind in ("review.sqlite", "review.sqlite-wal"):
        _flip_all("review", scene.reviewed, read, scene.scratch, found, flips, draw, f"review/{kind}")


def _release_flips(scene: kills.Scene, found: Found, _: int, flips: int, draw: random.Random) -> None:
    """Every row is read, images too; `phq release verify` is asked about files that no reader reads."""
    from phq_data.release import reader
    from phq_data.release.verify import verify

    def rows(folder: Path) -> str:
        release = reader.open(folder)
        state = hashlib.sha256()
        for row in release.all().stream():
            state.update(repr(row).encode())
        return state.hexdigest() + repr(sorted(release.manifest.about.items()))

    right = rows(scene.release)

    def read(copy: Path) -> bool:
        if rows(copy / kills.VERSION) != right:
            return False
        if problems := verify(copy / kills.VERSION, pixels=True):
            raise PhqError(str(problems[0]))
        return True

    _flip_all("release", scene.releases, read, scene.scratch, found, flips, draw)


def _checkpoint_flips(scene: kills.Scene, found: Found, _: int, flips: int, draw: random.Random) -> None:
    from portraitgan.checkpoints import checkpoint

    def content(folder: Path) -> str:
        made = checkpoint.load(folder)
        state = hashlib.sha256(repr((made.config, made.state)).encode())
        for tensors in (*(made.networks[name] for name in sorted(made.networks)), made.optimiser):
            for name in sorted(tensors):
                state.update(name.encode() + tensors[name].numpy().tobytes())
        return state.hexdigest()

    whole = checkpoint.latest(scene.run)
    right = content(whole)
    _flip_all("checkpoint", whole, lambda copy: content(copy) == right, scene.scratch, found, flips, draw)


def _flip_all(
    name: str,
    whole: Path,
    read: Callable[[Path], bool],  # True: as without the flip; `PhqError`: it was noticed
    scratch: Path,
    found: Found,
    flips: int,
    draw: random.Random,
    pattern: str = "*",
) -> None:
    kinds: dict[str, list[Path]] = {}
    for path in sorted(one for one in whole.rglob(pattern) if one.is_file() and one.stat().st_size):
        kinds.setdefault(_kind_of(path.relative_to(whole)), []).append(path)
    for kind, paths in kinds.items():
        for _ in range(flips):
            path = draw.choice(paths)
            data = bytearray(path.read_bytes())
            bit = draw.randrange(8 * len(data))
            data[bit // 8] ^= 1 << bit % 8
            with _changed_copy(whole, scratch, path, bytes(data)) as copy:
                try:
                    outcome = HARMLESS if read(copy) else SILENT
                except PhqError:
                    outcome = NOTICED
            found.count(f"flip: {name} {kind}", outcome, f"{path.relative_to(whole)} bit {bit}")


@contextlib.contextmanager
def _changed_copy(whole: Path, scratch: Path, path: Path, data: bytes) -> Iterator[Path]:
    """A copy of a folder in which the file `path` has other bytes; gone afterwards."""
    place = scratch / "flip"
    shutil.rmtree(place, ignore_errors=True)
    try:
        copy = place / "copy"
        shutil.copytree(whole, copy)
        (copy / path.relative_to(whole)).write_bytes(data)
        yield copy
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _kind_of(path: Path) -> str:
    """Files of one folder and ending are of one kind: tables/portraits/*.parquet."""
    folder = "/".join(part for part in path.parent.parts if len(part) > 2)  # photos lie below ab/
    alone = path.suffix in (".json", ".md", ".csv", ".html") or path.parent == Path()
    name = path.name if alone else f"*{path.suffix}"
    return f"{folder}/{name}" if folder else name


def _content(release: Path) -> dict[str, str]:
    """Digests of what a release says: all files but the pages for people."""
    return {path: digest for path, digest in _digests(release) if not path.endswith((".html", ".md"))}


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        yield str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()


KINDS: dict[str, Callable[[kills.Scene, Found, int, int, random.Random], None]] = {
    "build": _builds,
    "transfer": _transfers,
    "review": _review,
    "training": _training,
    "workspace-flips": _workspace_flips,
    "review-flips": _review_flips,
    "release-flips": _release_flips,
    "checkpoint-flips": _checkpoint_flips,
}


if __name__ == "__main__":
    main()

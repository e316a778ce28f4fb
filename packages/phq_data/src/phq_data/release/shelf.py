"""A folder of releases, on this machine or at an fsspec URL: which are there, and one builder at a time."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from phq_data.errors import PhqError, ReleaseError
from phq_data.files import new_folder
from phq_data.foreign import parse_json
from phq_data.release import manifest as manifests
from phq_data.release import tombstones
from phq_data.release.reader import Folder
from phq_data.release.tombstones import Tombstones
from phq_data.release.version import Version, VersionError
from phq_data.workspace import Workspace, WorkspaceBusyError, lease

_LOG = logging.getLogger(__name__)
_RECORD = "shelves.json"


class Shelf(Folder):
    """The folder; its releases are named by their versions. Raises `ReleaseError` for an unknown URL."""

    def __init__(self, place: str | Path) -> None:
        super().__init__(str(place))

    def release(self, version: str) -> Folder:
        """Where a version lies, or would lie."""
        return Folder(f"{self.url}/{version}")

    def children(self) -> list[Folder]:
        """Its folders, by name. Raises `ReleaseError` when it is not there."""
        try:
            found = self.fs.ls(self.root, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            raise ReleaseError(
                f"there is no folder of releases at {self.url}: name it with --releases DIR "
                "(`phq release build` writes to WORKSPACE/releases)"
            ) from None
        names = (str(one["name"]).rstrip("/").rpartition("/")[2] for one in found if one["type"] != "file")
        return [self.release(name) for name in sorted(names)]

    def releases(self) -> list[Folder]:
        """Its folders that hold a whole release, by name."""
        return [folder for folder in self.children() if folder.exists(manifests.NAME)]

    def latest(self) -> str:
        """The highest version; "" when there is none."""
        found = []
        with contextlib.suppress(ReleaseError):
            for folder in self.releases():
                with contextlib.suppress(VersionError):
                    version = Version.parse(folder.name)
                    if not version.build:
                        found.append(version)
        return str(max(found)) if found else ""

    def tombstones(self) -> Tombstones:
        """All that its list of taken-down portraits hides, and its copies in the releases: a lost list comes
        back so.
        """
        places = [self.root]
        with contextlib.suppress(ReleaseError):
            places += [folder.root for folder in self.children()]
        return tombstones.joined(tombstones.read(self.fs, place) for place in places)

    @contextlib.contextmanager
    def building(self) -> Iterator[tuple[Path, Callable[[], None]]]:
        """(a clean folder of this machine to build in, a check that nobody took over), one build at a time.

        The folder is hidden beside the releases, or among the temporary files where these are at an object
        store; it is removed unless it was renamed.
        """
        try:
            with self._building_here() if self.is_local else self._building_for_afar() as found:
                yield found
        except WorkspaceBusyError as error:
            raise ReleaseError(f"another release is being built: {error}") from None
        except PhqError:
            raise
        except OSError as error:
            raise ReleaseError(
                f"cannot write the release below {self.url}: {error.strerror or error}. It needs twice the "
                "room of its images while it is built"
            ) from error

    @contextlib.contextmanager
    def _building_here(self) -> Iterator[tuple[Path, Callable[[], None]]]:
        from filelock import FileLock, Timeout

        folder = Path(self.root)
        lock = FileLock(folder / ".building.lock")
        partial = folder / ".building"
        with new_folder(folder):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise ReleaseError(f"another release is being built in {self.url}: wait for it") from None
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                yield partial, lambda: None
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                with contextlib.suppress(OSError):
                    if {entry.name for entry in folder.iterdir()} == {".building.lock"}:
                        (folder / ".building.lock").unlink()  # nothing was made: the folder need not stay
                lock.release()

    @contextlib.contextmanager
    def _building_for_afar(self) -> Iterator[tuple[Path, Callable[[], None]]]:
        name = f"the folder of releases {self.url}"
        with (
            lease.held(self.fs, self.root, name, wait=False) as held,
            tempfile.TemporaryDirectory(prefix="phq-release-") as scratch,
        ):
            yield Path(scratch), held.check


def taken_down_elsewhere(workspace: Workspace, shelf: Shelf) -> list[Tombstones]:
    """What the lists of the other folders hide into which releases of this workspace were built.

    Says so where one of them cannot be found. Raises `ReleaseError` for a list that is damaged.
    """
    found = []
    for place in [*_recorded(workspace), f"{workspace.url}/releases"]:
        other = Shelf(place)
        if _place(other) == _place(shelf):
            continue
        if other.fs.exists(other.root):
            found.append(replace(other.tombstones(), lineages=()))
        elif place in _recorded(workspace):
            _LOG.warning(
                "releases of this workspace were built into %s, which is not there: what was taken down "
                "there is not known here", place,
            )  # fmt: skip
    return found


def record_shelf(workspace: Workspace, shelf: Shelf) -> None:
    """Note in the workspace that a release of it was built into `shelf`."""
    known = _recorded(workspace)
    if _place(shelf) not in known:
        workspace.write_bytes(_RECORD, json.dumps([*known, _place(shelf)], indent=1).encode())


def _recorded(workspace: Workspace) -> list[str]:
    if not workspace.exists(_RECORD):
        return []
    try:
        found = parse_json(workspace.read_bytes(_RECORD))
        if not all(isinstance(one, str) for one in found):
            raise ValueError("it is no list of folders")
        return list(found)
    except (ValueError, TypeError) as error:
        raise ReleaseError(
            f"{workspace.path(_RECORD)}, the folders that releases of this workspace were built into, cannot "
            f"be read ({error}): mend it, a JSON list of their names, or delete it"
        ) from error


def _place(shelf: Shelf) -> str:
    return shelf.root if shelf.is_local else shelf.url

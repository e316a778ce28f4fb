"""The files of a workspace, wherever they lie: written whole or not at all, by one writer at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from phq_data.errors import ObjectStoreError
from phq_data.files import OutputError, writing
from phq_data.workspace import lease, locking
from phq_data.workspace.errors import WorkspaceError, explained


class WorkspaceFiles:
    """A folder of this machine, or one at an object store."""

    def __init__(self, url: str, fs: fsspec.AbstractFileSystem, root: str) -> None:
        self.url = url
        self._fs = fs
        self._root = root.rstrip("/")
        self.is_local = isinstance(fs, LocalFileSystem)
        self._lease = None if self.is_local else lease.of_this_process(fs, self._root)
        self._holder: str | None = None  # who was in when a worker of another process began

    def path(self, key: str) -> str:
        """The full path of `key` in the workspace's file system."""
        return f"{self._root}/{key}"

    def shown(self, key: str) -> str:
        """The full path or URL of `key`, for people."""
        return self.path(key) if self.is_local else f"{self.url.rstrip('/')}/{key}"

    def exists(self, key: str) -> bool:
        """Is there a file or folder `key`?"""
        return bool(self._fs.exists(self.path(key)))

    def version(self, key: str) -> str:
        """What changes whenever file `key` is written anew. Raises `OSError`."""
        return version_of(self._fs.info(self.path(key)))

    def read_bytes(self, key: str) -> bytes:
        """The bytes of file `key`; `WorkspaceError` if it cannot be read."""
        try:
            data = self._fs.cat_file(self.path(key))
        except ObjectStoreError:
            raise
        except OSError as error:
            raise WorkspaceError(f"cannot read {self.path(key)}: {error}") from error
        return bytes(data)

    def reading_file(self, key: str) -> BinaryIO:
        """File `key`, to read from. Raises `OSError`."""
        file: BinaryIO = self._fs.open(self.path(key), "rb")
        return file

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write file `key` whole or not at all.

        Raises `WorkspaceError` with advice when the disk is full or the folder cannot be written, and when
        somebody else has taken over a workspace at an object store.
        """
        target = self.path(key)
        self._check_lease()
        try:
            if self.is_local:
                with writing(target) as temporary:
                    temporary.write_bytes(data)
            else:
                self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._fs.pipe_file(target, data)  # a put is whole or absent
        except OutputError as error:
            assert isinstance(error.__cause__, OSError)
            raise explained(error.__cause__, target) from error
        except OSError as error:
            raise explained(error, target) from error

    def sizes(self, folder: str) -> dict[str, int]:
        """Size in bytes of every file below `folder`, by its key."""
        if not self.exists(folder):
            return {}
        found = self._fs.find(self.path(folder), detail=True)
        return {str(path)[len(self._root) + 1 :]: about["size"] for path, about in found.items()}

    def remove(self, key: str) -> None:
        """Remove file `key` if it is there."""
        self._check_lease()
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self.path(key))

    def remove_folder(self, key: str) -> None:
        """Remove folder `key` and all in it if it is there."""
        self._check_lease()
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self.path(key), recursive=True)

    def alone(
        self, folder: str = "", *, wait: bool = True, on_wait: Callable[[str], None] = lambda text: None
    ) -> contextlib.AbstractContextManager[lease.Lease | None]:
        """Hold the workspace, or a folder of it at an object store; nothing is cleared or carried over."""
        if self.is_local:
            return locking.held(Path(self._root), self.url, wait=wait, on_wait=on_wait)
        place = f"{self._root}/{folder}".rstrip("/")
        return lease.held(self._fs, place, f"the workspace {self.url}", wait=wait, on_wait=on_wait)

    def discard(self, unused: Collection[str]) -> None:
        """Remove the folder of a workspace that holds nothing but these files, where nobody else is in it."""
        if not self.is_local:
            return
        root = Path(self._root)
        with contextlib.suppress(WorkspaceError, OSError), self.alone(wait=False):
            there = {entry.name for entry in root.iterdir()} - set(locking.FILES)
            if there <= set(unused):
                for name in (*there, *locking.FILES):
                    (root / name).unlink(missing_ok=True)
                root.rmdir()

    def holder(self) -> str:
        """What tells whoever holds the workspace from all others; "" where nobody does.

        One that was killed counts until the next one comes.
        """
        return locking.holder(Path(self._root)) if self.is_local else lease.holder(self._fs, self._root)

    def follow(self, holder: str = "") -> None:
        """In a worker: write only while `holder` holds the workspace; without one, whoever is in now.

        Of this process's own lease nothing need be asked, of a folder only with a `holder`. Raises
        `LeaseLostError` when somebody else is in already, or nobody.
        """
        if self._lease is None and holder:
            self._holder = holder
            self._check_lease()
        elif self._lease is None and not self.is_local:
            self._holder = self.holder()

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()
        elif self._holder and self.holder() != self._holder:
            raise lease.LeaseLostError(
                f"whoever built the workspace {self.url} has let go of it: this worker writes nothing more"
            )


def version_of(about: Mapping[str, Any]) -> str:
    """What changes with every writing of a file, of what its file system says of it."""
    names = ("size", "ETag", "mtime", "LastModified", "created")
    return " ".join(str(about[name]) for name in names if about.get(name))

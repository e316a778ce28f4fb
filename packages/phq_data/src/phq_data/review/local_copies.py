"""Files kept on this machine while the review runs: the last ones, up to so many bytes.

For a workspace at an object store, where every look costs a request and a part of a table is some megabytes.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

import pyarrow as pa

MOST_BYTES = 1 << 30


class LocalCopies:
    """A temporary folder of files by name. Safe to use from many threads; gone when it is closed."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="phq-review-")
        self._most = most_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._guard = threading.Lock()

    def opened(self, name: str) -> pa.NativeFile | None:
        """The file, to read from, if it is there; it may be dropped meanwhile."""
        with self._guard:
            if name not in self._sizes:
                return None
            try:
                file = pa.OSFile(str(self._path(name)))
            except OSError:  # somebody has cleared the folder of temporary files
                del self._sizes[name]
                return None
            self._sizes.move_to_end(name)
            return file

    def put(self, name: str, data: bytes) -> None:
        """Keep a file, and drop those that were not asked for the longest. A full disk keeps nothing."""
        with self._guard:
            beside = self._path(f"{name}.new")  # whoever reads the former file reads it to its end
            try:
                beside.write_bytes(data)
                beside.replace(self._path(name))
            except OSError:
                for path in (beside, self._path(name)):
                    with contextlib.suppress(OSError):
                        path.unlink()
                self._sizes.pop(name, None)
                return
            self._sizes[name] = len(data)
            self._sizes.move_to_end(name)
            while sum(self._sizes.values()) > self._most:
                oldest, _ = self._sizes.popitem(last=False)
                self._path(oldest).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def _path(self, name: str) -> Path:
        return Path(self._folder.name, name)

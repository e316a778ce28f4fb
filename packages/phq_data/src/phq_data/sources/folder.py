"""Photos in a folder of this machine, or one file.

Files that are no pictures by their endings (`README.md`, the video beside a phone's photo) are ignored and
counted (`FolderSource.ignored`). Every other file that is not hidden is listed: what is no photo is named as
such in the ledger. Hidden are names that begin with a dot, and the rights files (see `rights`). What cannot
be opened (broken links, unreadable folders, pipes) is listed too, and `open` says why.
"""

from __future__ import annotations

import difflib
import errno
import functools
import logging
import os
import stat
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

from phq_data.sources import Provenance, SourceError, SourceFile
from phq_data.sources.rights import RIGHTS_NAMES, FolderRights, read_rights
from phq_data.text import printable

NO_PICTURES = frozenset({
    "7z", "aac", "aae", "avi", "bat", "bz2", "cfg", "conf", "css", "csv", "db", "doc", "docx", "epub", "exe",
    "flac", "gz", "htm", "html", "ini", "ipynb", "js", "json", "jsonl", "lnk", "log", "m4a", "m4v", "md",
    "mkv", "mov", "mp3", "mp4", "mpeg", "mpg", "npy", "npz", "odp", "ods", "odt", "ogg", "onnx", "parquet",
    "pdf", "pickle", "pkl", "ppt", "pptx", "pt", "pth", "py", "rar", "rst", "rtf", "safetensors", "sh",
    "sqlite", "srt", "tar", "tex", "toml", "tsv", "txt", "url", "vtt", "wav", "webm", "wmv", "xls", "xlsx",
    "xml", "xmp", "yaml", "yml", "zip",
})  # fmt: skip
"""Endings of files that nobody means as a photo."""

_LOG = logging.getLogger(__name__)
_Claims = tuple[tuple[FolderRights, int], ...]
"""Rights files from the outermost folder inwards, each with the length of its folder's path."""
_Rules = Mapping[Path, Mapping[str, Sequence[int]]]
"""By rights file and path below its folder: the numbers of the rules that speak of it."""


@dataclass(frozen=True)
class _Folder:
    path: bytes
    claims: _Claims


class FolderSource:
    """All files of a folder and its subfolders in the order of their paths' bytes, or a single file.

    Links to folders are followed, but no folder is listed twice: not through a loop, and not through a link
    when it also lies in the tree itself.
    """

    provider = "folder"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(os.fsencode(os.path.expanduser(path)))  # noqa: PTH100, PTH111 (bytes)
        self.spec = _readable(os.fsencode(path))
        self.ignored: Counter[str] = Counter()
        """How many files of each ending of `NO_PICTURES` the last `files` left out."""
        if not os.path.exists(self._root):  # noqa: PTH110
            raise SourceError(f"there is no file or folder {self.spec}")

    def files(self) -> Iterator[SourceFile]:
        """Every file below the folder, sorted. Raises `SourceError` for an unusable rights file."""
        self.ignored.clear()
        if os.path.isdir(self._root):  # noqa: PTH112
            found = self._walk()
            whole = True
        else:
            parent = os.path.dirname(self._root)  # noqa: PTH120
            found, whole = [(self._root, _with_rights((), parent))], False
        found.sort(key=lambda entry: entry[0])
        rules = _matched(found, say=whole)
        for path, claims in found:
            yield _source_file(path, claims, rules)

    def open(self, file: SourceFile) -> BinaryIO:
        """The bytes of a listed file. Raises `OSError`; a pipe or device is refused, never waited for."""
        return self.open_uri(file.uri)

    @staticmethod
    def open_uri(uri: str) -> BinaryIO:
        """The bytes behind a file URI that a `FolderSource` listed. Raises `OSError`."""
        path = path_of(uri)
        if os.path.isdir(path):  # noqa: PTH112
            os.listdir(path)  # noqa: PTH208 (only unreadable folders are listed: say why)
            raise IsADirectoryError(errno.EISDIR, "is a folder now")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "not a regular file (a pipe, socket or device)")
        return os.fdopen(handle, "rb")

    def _walk(self) -> list[tuple[bytes, _Claims]]:
        """(path, claims) of every file. Real folders first, so that a link never takes a folder's place."""
        found: list[tuple[bytes, _Claims]] = []
        seen: set[tuple[int, int]] = set()
        real = [_Folder(self._root, ())]
        linked: deque[_Folder] = deque()
        while real or linked:
            folder = real.pop() if real else linked.popleft()
            try:
                status = os.stat(folder.path)  # noqa: PTH116
                identity = status.st_dev, status.st_ino
                if identity in seen:
                    continue
                seen.add(identity)
                with os.scandir(folder.path) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError:
                found.append((folder.path, folder.claims))  # opening it will say why
                continue
            if any(entry.name == b"workspace.json" for entry in entries):
                continue  # a workspace of ours: what it holds was made from photos
            claims = _with_rights(folder.claims, folder.path)
            for entry in entries:
                if entry.name.startswith(b".") or (
                    entry.name.decode("ascii", "replace") in RIGHTS_NAMES and entry.is_file()
                ):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    real.append(_Folder(entry.path, claims))
                elif _is_folder(entry):
                    linked.append(_Folder(entry.path, claims))
                elif (ending := _ending(entry.name)) in NO_PICTURES:
                    self.ignored[ending] += 1
                else:
                    found.append((entry.path, claims))
        return found


def path_of(uri: str) -> bytes:
    """The path behind a file URI that this module made."""
    return unquote_to_bytes(urlsplit(uri).path)


def _matched(found: Sequence[tuple[bytes, _Claims]], *, say: bool) -> _Rules:
    """For each rights file, which of its rules speak of which of the files below its folder.

    `say`: these are all the files there are, and a rule that speaks of none is named to the user, once.
    """
    below: dict[Path, tuple[FolderRights, list[str]]] = {}
    for path, claims in found:
        for rights, length in claims:
            below.setdefault(rights.path, (rights, []))[1].append(_relative(path, length))
    rules = {}
    for place, (rights, names) in below.items():
        rules[place], strangers = rights.match(names)
        for pattern in strangers if say else ():
            _say_stranger(str(place), pattern, tuple(difflib.get_close_matches(pattern, names, n=1)))
    return rules


@functools.cache
def _say_stranger(place: str, pattern: str, near: tuple[str, ...]) -> None:
    hint = f"did you mean '{near[0]}'?" if near else "keys are paths below its folder"
    _LOG.warning("%s: no file is called '%s'; %s", printable(place), printable(pattern), printable(hint))


def _relative(path: bytes, length: int) -> str:
    return os.fsdecode(path[length:]).lstrip("/")


def _source_file(path: bytes, claims: _Claims, rules: _Rules) -> SourceFile:
    provenance = Provenance()
    for rights, length in claims:
        provenance = rights.apply(provenance, rules[rights.path].get(_relative(path, length), ()))
    uri = Path(os.fsdecode(path)).as_uri()
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # a broken link, a link to itself
        return SourceFile(uri, provenance=provenance)
    if not stat.S_ISREG(status.st_mode):
        return SourceFile(uri, provenance=provenance)
    return SourceFile(uri, status.st_size, status.st_mtime_ns, provenance)


def _with_rights(claims: _Claims, folder: bytes) -> _Claims:
    rights = read_rights(Path(os.fsdecode(folder)))
    return (*claims, (rights, len(folder))) if rights else claims


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _ending(name: bytes) -> str:
    return name.rpartition(b".")[2].decode("ascii", "replace").lower()


def _readable(name: bytes) -> str:
    """A name as text that any table can hold, whatever bytes it is made of."""
    return name.decode("utf-8", "backslashreplace")

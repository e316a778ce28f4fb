"""`withheld.json`: what a published release no longer holds, because it was taken down since.

Programs that read the shards without PHQ (`datasets`) do not know the list of takedowns. So a push puts other
files in the place of those that show what was taken down: shards whose hidden rows hold their ids and split
alone (all else is empty, or zero where a column may not be empty), attribution.csv without their lines,
report.html without images. Rows keep their places, by which the index finds all others, and the manifest
stays as it was published; `withheld.json` names the files that are other ones now, with sizes and sha256.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pyarrow as pa

from phq_data import parquet, parquet_limits
from phq_data.errors import ReleaseError
from phq_data.files import file_sha256
from phq_data.release.manifest import FileEntry, Manifest, ShardEntry

NAME = "withheld.json"
FORMAT = "phq-withheld/1"
_KEPT = {"portrait_id", "photo_id", "split"}
"""Columns of a hidden row that stay: the list of takedowns names the ids, too."""
_REPORT = "<!doctype html><title>Withheld</title><p>Portraits of this release were taken down."
Entry = TypeVar("Entry", bound=FileEntry | ShardEntry)
Fetch = Callable[[str, Path], None]
"""Brings a file of the release to this machine: (its path in the release, where to)."""
Upload = Callable[[Path, FileEntry], None]


@dataclass(frozen=True)
class Withheld:
    """What was taken out of one release, and which of its files are other ones since."""

    portraits: tuple[str, ...] = ()
    files: tuple[FileEntry, ...] = ()

    def now(self, entry: Entry) -> Entry:
        """A file of the manifest as it is today."""
        other = next((file for file in self.files if file.path == entry.path), None)
        return entry if other is None else replace(entry, bytes=other.bytes, sha256=other.sha256)

    def to_bytes(self) -> bytes:
        """The file."""
        document = {"format": FORMAT, **asdict(self)}
        return (
            json.dumps({**document, "digest": _digest(document)}, indent=1, sort_keys=True) + "\n"
        ).encode()


def read(fs: fsspec.AbstractFileSystem, folder: str) -> Withheld:
    """What is withheld from the release in `folder`. Raises `ReleaseError` for a damaged file."""
    path = f"{folder}/{NAME}"
    try:
        document = json.loads(bytes(fs.cat_file(path)))
        stated = document.pop("digest")
        if document.pop("format") != FORMAT or stated != _digest({"format": FORMAT, **document}):
            raise ValueError("its digest does not fit")
        return Withheld(tuple(document["portraits"]), tuple(FileEntry(**one) for one in document["files"]))
    except FileNotFoundError:
        return Withheld()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReleaseError(
            f"{path} cannot be read ({error}): get the release again (phq release pull)"
        ) from error


def make(
    fetch: Fetch, manifest: Manifest, before: Withheld, hidden: Mapping[int, Collection[str]], upload: Upload
) -> Withheld:
    """Make and `upload` the files of a release without the portraits `hidden` (by shard); what they are.

    `fetch` brings files of the release. What was withheld `before` stays so.
    """
    gone = {*before.portraits, *(one for ids in hidden.values() for one in ids)}
    done = {file.path: file for file in before.files}
    with tempfile.TemporaryDirectory(prefix="phq-withheld-") as scratch:
        for path, writer in _writers(manifest, hidden):
            source, made = Path(scratch, "source"), Path(scratch, path)
            made.parent.mkdir(exist_ok=True)
            fetch(path, source)
            writer(source, gone, made)
            done[path] = FileEntry(path, made.stat().st_size, file_sha256(made))
            upload(Path(scratch), done[path])
            made.unlink()
    return Withheld(tuple(sorted(gone)), tuple(done[path] for path in sorted(done)))


Writer = Callable[[Path, Collection[str], Path], None]
"""Writes a file without what is gone: (the file as released, the portraits that are gone, the new file)."""


def _writers(manifest: Manifest, hidden: Mapping[int, Collection[str]]) -> Iterator[tuple[str, Writer]]:
    """Every file that shows one of the `hidden`, and what writes it anew."""
    for number in sorted(hidden):
        yield manifest.shards[number].path, _write_shard
    for path, write in (("attribution.csv", _write_attribution), ("report.html", _write_report)):
        if any(file.path == path for file in manifest.files):
            yield path, write


def _write_shard(source: Path, gone: Collection[str], made: Path) -> None:
    from phq_data.release.shards import write_rows

    with parquet.opened(source) as file:
        kind = file.schema_arrow
        empty = {
            field.name: None if field.nullable else _zero(field.type)
            for field in kind
            if field.name not in _KEPT
        }

        def rows() -> Iterator[dict[str, Any]]:
            for group in range(file.num_row_groups):
                for row in parquet_limits.read(file, group=group).to_pylist():
                    yield {**row, **empty} if row["portrait_id"] in gone else row

        write_rows(made, rows(), kind)


def _zero(kind: pa.DataType) -> Any:
    """What says nothing in a column that may not be empty."""
    if pa.types.is_fixed_size_list(kind):
        return [_zero(kind.value_type)] * kind.list_size
    if pa.types.is_list(kind):
        return []
    return "" if pa.types.is_string(kind) else 0


def _write_attribution(source: Path, gone: Collection[str], made: Path) -> None:
    kept = io.StringIO()
    writer = csv.writer(kept, lineterminator="\n")
    with source.open(newline="", encoding="utf-8") as file:
        writer.writerows(line for line in csv.reader(file) if line and line[0] not in gone)
    made.write_text(kept.getvalue(), encoding="utf-8")


def _write_report(source: Path, gone: Collection[str], made: Path) -> None:
    made.write_text(_REPORT, encoding="utf-8")


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

"""The workspace: where photos and tables live, in parts that are written whole or not at all.

    workspace.json                       format and version
    plan/part-00000.parquet              the files that were found, in order
    photos/3f/3f9a...e1.jpg              photo bytes under their sha256
    tables/<table>/part-00000.parquet    rows; part i comes from part i of the plan (but not of
                                         duplicates, one part for all, decisions, corrections)
    ledger/<stage>/part-00000.parquet    one row an item: kept, rejected or failed
    config.json, recipes.json            the settings that all parts carry, and what they made of the stages
    rig.safetensors                      the rig that the overlays and labels refer to
    models.json                          license and source of models that are not shipped with PHQ, if any

A part's footer carries the fingerprint of everything it was made from, a digest of its content and one of the
file (`parquet.sealed`). A stage's
part is done when its table part and then its ledger part are there with the expected fingerprint: the ledger
part is written last and is the mark.

A workspace of an older schema is read as it is (`old_schema`). Whoever locks it carries it over first, part
by part, with the fingerprints that the parts have: no stage runs again.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from phq_data import compatibility, old_schema, parquet, schema
from phq_data.errors import ObjectStoreError
from phq_data.files import TEMPORARY, file_system
from phq_data.foreign import first_line, parse_json
from phq_data.old_schema import FOOTER
from phq_data.records import R, from_table
from phq_data.records import columns as columns_of
from phq_data.workspace.errors import WorkspaceBusyError, WorkspaceError, explained
from phq_data.workspace.layout import former, part_key
from phq_data.workspace.stored import WorkspaceFiles, version_of

__all__ = [
    "FORMAT",
    "LOGS",
    "PartInfo",
    "Workspace",
    "WorkspaceBusyError",
    "WorkspaceError",
    "explained",
    "part_key",
]

FORMAT = "phq-workspace/1"
_MARKER = "workspace.json"
LOGS = ("decisions", "corrections")
"""Tables that grow while others read the workspace."""
_OF_ALL_PARTS = ("duplicates", *LOGS)  # tables whose parts are not those of the plan
_UNFINISHED = "carrying_over"  # in the marker: parts of an older schema are left


@dataclass(frozen=True)
class PartInfo:
    """What a part's footer says."""

    index: int
    rows: int
    fingerprint: str  # of what it was made from
    content: str  # digest of its rows
    extra: Mapping[str, Any]  # e.g. seconds that the work took


class Workspace(WorkspaceFiles):
    """A folder (any fsspec URL) that holds one dataset in the making. Open it with `Workspace.open`."""

    @classmethod
    def open(cls, url: str | Path, *, create: bool = False) -> Workspace:
        """Open the workspace at a folder or fsspec URL, making it if `create`.

        Raises `WorkspaceError` if there is none, if it is of a newer version or if it cannot be written.
        """
        text = str(url)
        try:
            fs, root = file_system(text)
        except (ValueError, ImportError, NotImplementedError, OSError) as error:
            raise WorkspaceError(f"cannot open a workspace at {text}: {error}") from error
        workspace = cls(text, fs, root)
        if not workspace.exists(_MARKER):
            if not create:
                raise WorkspaceError(
                    f"there is no workspace at {text}; `phq build --workspace {text} PHOTOS` makes one"
                )
            with contextlib.suppress(OSError):
                if fs.isfile(workspace._root):
                    raise WorkspaceError(f"{text} is a file, not a folder: name another workspace")
            workspace._mark()
        try:
            found = parse_json(workspace.read_bytes(_MARKER))
            known = found["format"] == FORMAT and found["schema_version"] <= schema.SCHEMA_VERSION
        except (ValueError, KeyError, TypeError) as error:
            raise WorkspaceError(
                f"{text}/{_MARKER} is damaged ({error}): delete it and build again; the tables stay"
            ) from error
        if not known:
            raise WorkspaceError(
                f"the workspace {text} was made by a newer PHQ ({found}); this one reads {FORMAT}, "
                f"schema {schema.SCHEMA_VERSION}"
            )
        return workspace

    # ---- parts -------------------------------------------------------------------------------------------

    def write_part(
        self,
        folder: str,  # "plan", "tables/<table>" or "ledger/<stage>"
        index: int,
        table: pa.Table,
        fingerprint: str,
        extra: Mapping[str, Any] | None = None,
        content: str = "",
    ) -> PartInfo:
        """Write one part whole or not at all; returns what its footer says.

        `content` is the digest of rows that were only renamed: what depends on them stays up to date.
        """
        content = content or schema.content_digest(table)
        footer: dict[str, Any] = {
            "schema_version": schema.SCHEMA_VERSION,
            "fingerprint": fingerprint,
            "content": content,
            "extra": dict(extra or {}),
        }
        has_images = any(
            name in table.column_names and table[name].null_count < table.num_rows
            for name in ("image", "overlay")
        )
        data = parquet.sealed(
            table, {FOOTER: json.dumps(footer)}, row_group_size=16 if has_images else 65_536
        )
        self.write_bytes(part_key(folder, index), data)
        return PartInfo(index, table.num_rows, fingerprint, content, footer["extra"])

    def part_info(self, folder: str, index: int) -> PartInfo | None:
        """The footer of a part; None when it is missing or damaged (then it is simply made again).

        Raises `ObjectStoreError` where an object store does not say.
        """
        try:
            with self._parquet(self._place(folder, index)) as file:
                metadata = file.metadata
            footer = parse_json(metadata.metadata[FOOTER])
            if footer["schema_version"] > schema.SCHEMA_VERSION:
                return None
            return PartInfo(
                index, metadata.num_rows, footer["fingerprint"], footer["content"], footer["extra"]
            )
        except ObjectStoreError:
            raise
        except (*parquet.DAMAGE, KeyError, ValueError, TypeError, AttributeError):
            return None

    def read_part(self, folder: str, index: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a part. Raises `WorkspaceError` when it is missing or damaged."""
        path = self._place(folder, index)
        first, _, name = folder.partition("/")
        table_name, stage = (name, "") if first == "tables" else (first, name)
        try:
            with self._parquet(path) as file:
                table = old_schema.read(file, table_name, columns or None, stage=stage)
        except ObjectStoreError:
            raise
        except (*parquet.DAMAGE, ValueError, KeyError, TypeError) as error:
            why = f"cannot read {path}: {first_line(error)}; run `phq build` again to make it anew"
            raise WorkspaceError(why) from error
        return table.replace_schema_metadata(None)

    def damaged(self, folder: str, index: int) -> bool:
        """Is a part that is there another one than was written? Its bytes are read, nothing is decoded.

        Parts of PHQ 0.1 carry no digest: they are decoded, and what can be is taken for whole.
        """
        try:
            found = parquet.damaged(bytes(self._fs.cat_file(self._place(folder, index))))
            if found is None:
                self.read_part(folder, index)
        except FileNotFoundError:
            return False
        except ObjectStoreError:
            raise
        except (OSError, WorkspaceError):
            return True
        return bool(found)

    def made(self) -> list[str]:
        """Folders whose part i was made of part i of the plan: ledgers, which are the marks, then tables."""
        tables = [f"tables/{name}" for name in self._names("tables") if name not in _OF_ALL_PARTS]
        return [*self._stages(), *tables]

    def _parquet(self, path: str) -> parquet.File:
        # Arrow's own files, read on this thread: a worker thread of Arrow that lets go of a Python file while
        # the program ends aborts it.
        source = pa.OSFile(path) if self.is_local else pa.BufferReader(self._fs.cat_file(path))
        return parquet.opened(source)

    def parts(self, folder: str) -> list[int]:
        """The numbers of the parts in a folder, ascending."""
        names = [*self._names(folder), *self._names(former(folder))]
        found = (re.fullmatch(r"part-(\d+)\.parquet", name) for name in names)
        return sorted({int(match[1]) for match in found if match})

    def _names(self, folder: str) -> list[str]:
        path = self.path(folder)
        if not folder or not self._fs.exists(path):
            return []
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in self._fs.ls(path, detail=False))

    def _place(self, folder: str, index: int) -> str:
        """Where a part lies: under the folder's former name while it was not carried over."""
        path = self.path(part_key(folder, index))
        if (before := former(folder)) and not self._fs.exists(path):
            old = self.path(part_key(before, index))
            return old if self._fs.exists(old) else path
        return path

    def _stages(self) -> list[str]:
        """Folders of the ledger, by today's names."""
        names = dict.fromkeys(compatibility.STAGES.get(name, name) for name in self._names("ledger"))
        return [f"ledger/{name}" for name in names]

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of table `name` ("photos", "portraits", ..., "plan", "ledger"), parts in order.

        Name the `columns` you need: reading `portraits` whole reads every image.
        """
        if name == "plan":
            folders = ["plan"]
        elif name == "ledger":
            folders = self._stages()
        else:
            folders = [f"tables/{name}"]
        tables = [self.read_part(f, i, columns) for f in folders for i in self.parts(f)]
        wanted = schema.SCHEMAS[name]
        if columns:
            wanted = pa.schema([wanted.field(column) for column in columns])
        if not tables:
            return wanted.empty_table()
        return pa.concat_tables([schema.complete(table, wanted) for table in tables])

    def records(self, kind: type[R]) -> list[R]:
        """All rows of the table of a record class, as records; only its columns are read."""
        return from_table(kind, self.table(kind.table, columns_of(kind)))

    def kept(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The portraits that passed the screening, near-duplicates once: rows of table `portraits`."""
        judged = self.table("screened", ["portrait_id", "kept"])
        twins = self.table("duplicates", ["portrait_id", "representative"])
        wanted = set(judged.filter(judged["kept"])["portrait_id"].to_pylist())
        wanted -= set(twins.filter(pc.invert(twins["representative"]))["portrait_id"].to_pylist())
        schema_of = (
            schema.PORTRAITS if not columns else pa.schema([schema.PORTRAITS.field(c) for c in columns])
        )
        found = []
        for part in self.parts("tables/portraits"):
            ids = self.read_part("tables/portraits", part, ["portrait_id"])["portrait_id"].to_pylist()
            rows = [index for index, portrait in enumerate(ids) if portrait in wanted]
            if rows:
                found.append(self.read_part("tables/portraits", part, columns).take(rows).cast(schema_of))
        return pa.concat_tables(found) if found else schema_of.empty_table()

    def search(
        self, folder: str, key: str, prefix: str, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """(part, its rows whose column `key` starts with `prefix`), for every part that has such rows."""
        for part in self.parts(folder):
            found = pc.starts_with(self.read_part(folder, part, [key])[key], pattern=prefix)
            if pc.any(found).as_py():
                yield part, self.read_part(folder, part, columns).filter(found)

    def row(self, name: str, value: str) -> dict[str, Any] | None:
        """The row of table `name` whose key starts with `value` (None: no such row).

        Raises `WorkspaceError` when several rows do.
        """
        key = schema.KEYS[name]
        hits = [row for _, rows in self.search(f"tables/{name}", key, value) for row in rows.to_pylist()]
        if len({hit[key] for hit in hits}) > 1:
            raise WorkspaceError(f"{len(hits)} rows of '{name}' start with {value!r}: give more of the id")
        return hits[0] if hits else None

    # ---- one at a time -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(
        self, *, wait: bool = True, on_wait: Callable[[str], None] = lambda text: None
    ) -> Iterator[None]:
        """Hold the workspace for writing. A second holder waits (telling `on_wait` who is in) or, with
        `wait=False`, gets a `WorkspaceBusyError`. On entry leftover temporary files are cleared, and a
        workspace of an older schema is carried over (`on_wait` is told).

        At an object store that is a lease (`workspace.lease`).
        """
        with self.alone(wait=wait, on_wait=on_wait) as self._lease:
            try:
                self._sweep()
                self._carry_over(on_wait)
                yield
            finally:
                self._lease = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[], None]]:
        """Hold the workspace as it is while all of it is read; yields a check that it still is.

        It is asked at the end, too. It raises `LeaseLostError` when this process stood still and another took
        over, and `WorkspaceBusyError` where no lock can be had, because the workspace may only be read, and
        it has changed: then every part is listed. `reading` raises that, too, while somebody works on it.
        """
        with contextlib.ExitStack() as stack:
            held = before = None
            try:
                held = stack.enter_context(self.alone(wait=False))
            except WorkspaceBusyError:
                raise
            except WorkspaceError:
                before = self._stamps()

            def check() -> None:
                if held is not None:
                    held.check()
                if before is not None and self._stamps() != before:
                    raise WorkspaceBusyError(f"the workspace {self.url} was changed meanwhile: try again")

            yield check
            check()

    def _stamps(self) -> dict[str, str]:
        """The version of every part of a table or of the plan."""
        found: dict[str, str] = {}
        for folder in ("plan", *(f"tables/{name}" for name in self._names("tables") if name not in LOGS)):
            if self.exists(folder):
                for about in self._fs.ls(self.path(folder), detail=True):
                    found[about["name"]] = version_of(about)
        return found

    def _sweep(self) -> None:
        if not self.is_local:  # puts leave nothing behind
            return
        for path in Path(self._root).rglob(f"{TEMPORARY}*"):
            with contextlib.suppress(OSError):
                path.unlink()

    # ---- an older schema ---------------------------------------------------------------------------------

    def _mark(self, **more: Any) -> None:
        header = {"format": FORMAT, "schema_version": schema.SCHEMA_VERSION, **more}
        self.write_bytes(_MARKER, json.dumps(header, indent=2).encode())

    def _carry_over(self, say: Callable[[str], None]) -> None:
        """Write every part of an older schema again under today's names.

        Each is replaced whole, so this may be stopped at any moment and goes on with the next lock.
        """
        header = parse_json(self.read_bytes(_MARKER))
        if header["schema_version"] == schema.SCHEMA_VERSION and not header.get(_UNFINISHED):
            return
        say(
            f"the workspace {self.url} is carried over to schema {schema.SCHEMA_VERSION}; no stage runs again"
        )
        self._mark(**{_UNFINISHED: True})  # first, so that an older PHQ leaves it alone from now on
        for folder in ["plan", *(f"tables/{name}" for name in self._names("tables")), *self._stages()]:
            for index in self.parts(folder):
                self._carry_over_part(folder, index)
            if before := former(folder):
                self.remove_folder(before)
        if self.exists("config.json"):
            with contextlib.suppress(
                ValueError, AttributeError
            ):  # one that is damaged is told of by the build
                values, _ = compatibility.upgrade_settings(parse_json(self.read_bytes("config.json")))
                values = compatibility.with_later_settings(values)
                self.write_bytes("config.json", json.dumps(values, sort_keys=True, indent=2).encode())
        self._mark()

    def _carry_over_part(self, folder: str, index: int) -> None:
        info, place = self.part_info(folder, index), self._place(folder, index)
        if info is None:  # damaged: the build makes it again
            return
        with self._parquet(place) as file:
            old = old_schema.version_of(file) < schema.SCHEMA_VERSION
        if old or place != self.path(part_key(folder, index)):
            try:
                rows = self.read_part(folder, index)
            except WorkspaceError:  # its footer is whole, its pages are not
                return
            self.write_part(folder, index, rows, info.fingerprint, info.extra, info.content)

"""Photos from a list of addresses: CSV (also TSV) or Parquet with a column `url`.

Other columns that are understood are the provenance: license (or licence), license_url, author, author_url,
title, page_url, rights_evidence, rights_checked_at; and sha1. A photo without a free license is refused,
unless a permission covers it. Addresses on the hosts of providers with terms fall under these.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from phq_data import parquet, parquet_limits
from phq_data.files import file_sha256, written_encoding
from phq_data.sources import Provenance, SourceError, is_web_address
from phq_data.sources.licenses import normalise
from phq_data.sources.web import Candidate, Page

PER_PAGE = 1000
_COPIED = ("page_url", "title", "author", "author_url", "rights_checked_at", "rights_evidence")
_ALIASES = {
    "image_url": "url", "file_url": "url", "licence": "license", "licence_url": "license_url",
    "photographer": "author", "creator": "author",
}  # fmt: skip


class UrlList:
    """A list of addresses in a file."""

    provider = "urls"

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            digest = file_sha256(path)
        except OSError as error:
            raise SourceError(f"cannot read the list {path}: {error.strerror or error}") from error
        self.query = f"{path.name}@{digest[:12]}"
        """What the list is called in tables: its name and content, so that a changed list is read anew."""
        self._open: tuple[int, Iterator[Mapping[str, Any]]] | None = None

    def search(self, query: str, cursor: str) -> Page:
        """The next thousand rows from row number `cursor`."""
        start = int(cursor or "0")
        if self._open is None or self._open[0] != start:
            self._open = start, islice(self._rows(), start, None)
        rows = list(islice(self._open[1], PER_PAGE))
        self._open = start + len(rows), self._open[1]
        found = tuple(candidate for row in rows if (candidate := _candidate(row, self._path.name)))
        return Page(found, str(start + len(rows)) if len(rows) == PER_PAGE else None)

    def before_download(self, candidate: Candidate) -> None:
        """Nothing is asked for."""

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        """The rows, with the names of columns as we call them."""
        names: list[str] = []
        try:
            if self._path.suffix.lower() in (".parquet", ".pq"):
                file = parquet.opened(self._path)
                names = _named(file.schema_arrow.names, self._path)
                _require_texts(file.schema_arrow, self._path)
                wanted = [
                    n
                    for n in file.schema_arrow.names
                    if _ALIASES.get(n.strip().lower(), n.strip().lower()) in _KNOWN
                ]
                for batch in parquet_limits.batches(file, PER_PAGE, wanted):
                    for row in batch.to_pylist():
                        yield {_ALIASES.get(k.strip().lower(), k.strip().lower()): v for k, v in row.items()}
                return
            with self._path.open(newline="", encoding=written_encoding(self._path)) as text:
                delimiter = "\t" if self._path.suffix.lower() == ".tsv" else ","
                reader = csv.reader(text, delimiter=delimiter)
                names = _named(next(reader, []), self._path)
                for values in reader:
                    yield dict(zip(names, values, strict=False))
        except (*parquet.DAMAGE, csv.Error) as error:
            raise SourceError(f"cannot read the list {self._path}: {error}") from error


_KNOWN = frozenset({"url", "license", "license_url", "sha1", *_COPIED})


def _named(columns: list[str], path: Path) -> list[str]:
    names = [_ALIASES.get(name.strip().lower(), name.strip().lower()) for name in columns]
    if "url" not in names:
        hint = ""
        if len(columns) == 1 and (other := next((c for c in ";\t|," if c in columns[0]), "")):
            shown = "a tab" if other == "\t" else f"'{other}'"
            hint = (
                f". Its first line was read as one column: it seems to be separated by {shown}; use commas, "
            )
            hint += "or tabs in a file called .tsv"
        raise SourceError(f"{path} has no column 'url'; it has {', '.join(columns) or 'none at all'}{hint}")
    for name in _KNOWN & set(names):
        same = [column for column, known in zip(columns, names, strict=True) if known == name]
        if len(same) > 1:
            raise SourceError(f"{path}: the columns {' and '.join(same)} mean the same: keep one of them")
    return names


def _require_texts(columns: pa.Schema, path: Path) -> None:
    """A column that we read holds texts, days or nothing (floats: pandas' column of nothing but NaN)."""
    for column in columns:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        fine = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        fine = fine or pa.types.is_null(kind) or pa.types.is_temporal(kind) or pa.types.is_floating(kind)
        if not fine and _ALIASES.get(column.name.strip().lower(), column.name.strip().lower()) in _KNOWN:
            raise SourceError(f"{path}: the column {column.name} must hold texts, not {column.type}")


def _candidate(row: Mapping[str, Any], name: str) -> Candidate | None:
    """The photo of a row; None for a row without an address."""
    values = {
        key: str(value).strip() for key, value in row.items() if value is not None and value == value
    }  # NaN
    url = values.get("url", "")
    if not url:
        return None
    license = normalise(values.get("license"), values.get("license_url"))
    copied = {key: values.get(key) or None for key in _COPIED}
    for key in ("page_url", "author_url"):
        copied[key] = copied[key] if is_web_address(copied[key]) else None
    return Candidate(
        uri=url,
        url=url,
        provenance=Provenance(
            **copied,
            file_url=url,
            license=license.name or values.get("license") or None,
            license_url=values.get("license_url") or None,
        ),
        refusal=license.reason,
        message=license.message,
        sha1=values.get("sha1", ""),
        stated={"from": f"the list {name}"},
    )

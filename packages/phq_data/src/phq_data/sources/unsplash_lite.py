"""The Unsplash Lite data set: 25,000 photos whose list (TSV files) one downloads from unsplash.com/data.

It may be trained on internally and never published, in whole or part (`terms`). A query is searched for in
the photos' keywords and descriptions, here, without a key.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from phq_data.sources import Provenance, SourceError
from phq_data.sources.unsplash import attributed
from phq_data.sources.web import Candidate, Page
from phq_data.sources.web.limits import HostPolicy

PER_PAGE = 200
_WORD = re.compile(r"\w+")
_SMALL = frozenset(
    ["a", "an", "and", "at", "by", "de", "of", "from", "in", "into", "no", "on", "or", "the", "to", "with"]
)
_PHOTOS = ("photo_id", "photo_url", "photo_image_url", "photographer_username")


def policies() -> dict[str, HostPolicy]:
    """What one may ask of its hosts."""
    return {"images.unsplash.com": HostPolicy(connections=8)}


class UnsplashLite:
    """The data set in a folder."""

    provider = "unsplash-lite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not any(self._files("photos")):
            raise SourceError(
                f"{folder} holds no photos.tsv: unpack the Lite data set (unsplash.com/data) and name "
                "its folder"
            )

    def search(self, query: str, cursor: str) -> Page:
        """Photos that have all words of `query` among their keywords and in their descriptions, in the order
        of the list.
        """
        wanted = _words(query) - _SMALL or _words(query)
        found = [photo for photo, words in self._index.items() if wanted <= words]
        start = int(cursor or "0")
        page = tuple(self._photos[photo] for photo in found[start : start + PER_PAGE])
        more = start + PER_PAGE < len(found)
        return Page(page, str(start + PER_PAGE) if more else None, len(found))

    def before_download(self, candidate: Candidate) -> None:
        """Nothing is asked for."""

    @cached_property
    def _photos(self) -> dict[str, Candidate]:
        return {row["photo_id"]: _candidate(row) for row in self._rows("photos")}

    @cached_property
    def _index(self) -> dict[str, set[str]]:
        """Photo to the words it can be found by."""
        index = {photo: set[str]() for photo in self._photos}
        for row in self._rows("photos"):
            for name in ("photo_description", "ai_description"):
                index[row["photo_id"]] |= _words(row.get(name) or "")
        for row in self._rows("keywords"):
            words = index.get(row.get("photo_id") or "")
            if words is not None:
                words |= _words(row.get("keyword") or "")
        return index

    def _files(self, table: str) -> Iterator[Path]:
        """`photos.tsv000`, `photos.tsv001`, ... or `photos.tsv`; some versions say csv and mean TSV."""
        yield from sorted(p for p in self._folder.glob(f"{table}.*sv*") if p.is_file())

    def _rows(self, table: str) -> Iterator[dict[str, str]]:
        csv.field_size_limit(1 << 24)
        for path in self._files(table):
            try:
                with path.open(newline="", encoding="utf-8", errors="replace") as file:
                    reader = csv.DictReader(file, delimiter="\t")
                    missing = [n for n in _PHOTOS if table == "photos" and n not in (reader.fieldnames or ())]
                    if missing:
                        raise SourceError(f"{path} lacks the column '{missing[0]}'")
                    yield from (row for row in reader if row.get("photo_id"))
            except (OSError, csv.Error) as error:
                raise SourceError(f"cannot read {path}: {error}") from error


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _candidate(row: dict[str, str]) -> Candidate:
    name = f"{row.get('photographer_first_name') or ''} {row.get('photographer_last_name') or ''}".strip()
    user = row.get("photographer_username") or ""
    return Candidate(
        uri=f"unsplash:{row['photo_id']}",
        url=row["photo_image_url"],
        provenance=Provenance(
            page_url=attributed(row["photo_url"]),
            file_url=row["photo_image_url"],
            title=row.get("photo_description") or row.get("ai_description") or None,
            author=name or user or None,
            author_url=attributed(f"https://unsplash.com/@{user}") if user else None,
            license="Unsplash-Lite",
            license_url="https://unsplash.com/data",
        ),
        version=row["photo_id"],
        stated={"from": "photos.tsv of the Unsplash Lite data set"},
    )

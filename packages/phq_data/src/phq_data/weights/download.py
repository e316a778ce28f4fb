"""One file from an address: with progress, resumed where it stopped, checked before it counts."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from phq_data.errors import ModelError
from phq_data.files import file_sha256
from phq_data.foreign import parse_json

Progress = Callable[[int, int], None]
"""Told (bytes here, bytes in all; 0 = unknown) now and then."""
_CHUNK = 1 << 18


def no_progress(done: int, total: int) -> None:
    """The listener that does not care."""


def fetch(url: str, target: Path, sha256: str = "", progress: Progress = no_progress) -> str:
    """Bring `url` to `target` and return the file's SHA-256. `sha256`: what it must be, or begin with.

    What has come lies at `target` plus ".part" until it is whole and right, and the next call goes on from
    there, if the server still has the same file. Raises `ModelError`: a network that fails keeps the part, a
    wrong checksum throws it away.
    """
    _check_address(url)
    part, note = target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _bring(url, part, note, progress)
    except (urllib.error.URLError, http.client.HTTPException, OSError, TimeoutError) as error:
        here = part.stat().st_size if part.exists() else 0
        kept = f"; {here:,} bytes are kept, the same command goes on from there" if here else ""
        plain = isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError)
        reason = getattr(error, "reason", error) if plain else error
        raise ModelError(f"the download of {url} stopped ({reason}){kept}") from error
    found = file_sha256(part)
    if not found.startswith(sha256.lower()):
        part.unlink()
        note.unlink(missing_ok=True)
        raise ModelError(
            f"the file from {url} is not the right one: its SHA-256 is {found}, expected {sha256}; "
            "it was thrown away"
        )
    part.replace(target)
    note.unlink(missing_ok=True)
    return found


def _bring(url: str, part: Path, note: Path, progress: Progress) -> None:
    here, tag = _what_is_here(url, part, note)
    headers = {"User-Agent": "phq-data", "Accept-Encoding": "identity"}
    if here:
        # With If-Range the server sends the rest only of the very same file, and else all of the new one.
        headers |= {"Range": f"bytes={here}-", "If-Range": tag}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and here:  # nothing after what is here: it was whole
            return
        raise
    with answer:
        _check_address(answer.url)
        resumed = answer.status == 206
        here = here if resumed else 0
        length = int(answer.headers.get("Content-Length") or 0)
        total = here + length if length else 0
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        note.write_text(json.dumps({"url": url, "tag": tag}))
        with part.open("ab" if resumed else "wb") as stream:
            while block := answer.read(_CHUNK):
                stream.write(block)
                here += len(block)
                progress(here, total)
    if total and here != total:
        raise ConnectionError(f"{here:,} of {total:,} bytes came")


def _what_is_here(url: str, part: Path, note: Path) -> tuple[int, str]:
    """(bytes, tag) of a part that can be gone on with; (0, "") when there is none."""
    try:
        known = parse_json(note.read_text())
        size = part.stat().st_size
    except (OSError, ValueError):
        return 0, ""
    if not isinstance(known, dict) or known.get("url") != url or not known.get("tag"):
        return 0, ""
    tag = str(known["tag"])
    return (0, "") if tag.startswith("W/") else (size, tag)


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ModelError(f"{url} is not an https address")

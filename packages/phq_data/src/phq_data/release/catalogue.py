"""Which releases a folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phq_data.errors import ReleaseError
from phq_data.release import manifest as manifests
from phq_data.release import reader
from phq_data.release.reader import Folder
from phq_data.release.shelf import Shelf
from phq_data.release.version import Version, VersionError

_INCOMPLETE = ".incomplete.json"


@dataclass(frozen=True)
class Listed:
    """A release in a folder; `note` says what is the matter with it."""

    version: str
    created: str
    portraits: int  # released
    taken_down: int  # of them, by now
    mib: float
    parent: str
    digest: str
    note: str


def catalogue(releases: str | Path) -> list[Listed]:
    """The releases in a folder or at a URL, oldest version first; broken and half ones too, with a note."""
    found: list[tuple[Version, Listed]] = []
    for folder in Shelf(releases).children():
        try:
            version = Version.parse(folder.name)
        except VersionError:
            continue
        if folder.exists(manifests.NAME) or folder.exists(_INCOMPLETE):
            found.append((version, _listed(folder)))
    return [listed for _, listed in sorted(found, key=lambda pair: pair[0])]


def _listed(folder: Folder) -> Listed:
    try:
        release = reader.open(folder.url)
        manifest = release.manifest
        down = int((~release.alive()).sum())
    except ReleaseError as error:
        incomplete = folder.exists(_INCOMPLETE)
        return Listed(folder.name, "", 0, 0, 0.0, "", "", "incomplete" if incomplete else str(error))
    notes = [] if manifest.reviewed else ["not reviewed"]
    notes += ["without images"] if manifest.images == "none" else []
    return Listed(
        manifest.version,
        manifest.created,
        manifest.rows,
        down,
        sum(entry.bytes for entry in manifest.entries) / 2**20,
        (manifest.parent or {}).get("version", ""),
        manifest.digest,
        ", ".join(notes),
    )

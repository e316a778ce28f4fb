"""What was taken out of a workspace, apart from the plan, whose parts can be lost: `removed.json`.

Written before anything else is removed, and sealed by a digest. A workspace of a former version has none: it
is made of the items that its plan has as removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property

from phq_data import typed_json
from phq_data.foreign import parse_json
from phq_data.workspace import Workspace, WorkspaceError

FILE = "removed.json"


@dataclass(frozen=True)
class Removed:
    """Files and photos that are not to come back."""

    files: dict[str, str] = field(default_factory=dict)  # uri -> sha256 of what it held; "" = was unreadable
    photos: tuple[str, ...] = ()  # sha256, of photos of which no file was to stay

    def with_more(self, files: Mapping[str, str], photos: set[str]) -> Removed:
        """These and others."""
        return Removed(self.files | dict(files), tuple(sorted({*self.photos, *photos} - {""})))

    @cached_property
    def _photos(self) -> frozenset[str]:
        return frozenset(self.photos)

    def has_photo(self, sha256: str) -> bool:
        """Was every file of this photo taken out?"""
        return sha256 in self._photos

    def has_file(self, uri: str, sha256: str) -> bool:
        """Was this file taken out? With other bytes it is another photo."""
        return self.files.get(uri) in (sha256, "")


@dataclass(frozen=True)
class _Sealed:
    removed: Removed
    digest: str


def read(workspace: Workspace) -> Removed:
    """What was taken out. Raises `WorkspaceError` when the list is damaged."""
    if not workspace.exists(FILE):
        return Removed()
    try:
        found = typed_json.read(_Sealed, parse_json(workspace.read_bytes(FILE)), complete=True)
        if found.digest != _digest(found.removed):
            raise ValueError("its digest is of another list")
    except ValueError as error:
        raise WorkspaceError(
            f"{workspace.path(FILE)} is damaged ({error}): it lists what was taken out. Bring it back from a "
            "backup, or delete it: what the plan has as removed is then written down again"
        ) from error
    return found.removed


def write(workspace: Workspace, removed: Removed) -> None:
    """Write the list. The caller holds the lock."""
    sealed = asdict(_Sealed(removed, _digest(removed)))
    workspace.write_bytes(FILE, json.dumps(sealed, indent=1).encode())


def _digest(removed: Removed) -> str:
    return hashlib.sha256(json.dumps(asdict(removed), sort_keys=True).encode()).hexdigest()

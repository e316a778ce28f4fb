"""The bytes of photos: as they were planned, or fetched again from where they came."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from phq_data.sources.resolve import open_uri
from phq_data.workspace import Workspace, WorkspaceError

_OURS = ("file:", "sample:", "synthetic:")
"""Uris that may be opened again at any time; websites are asked by `phq scrape` alone, with all courtesy."""


def read_photo(workspace: Workspace, key: str) -> bytes:
    """The bytes of a photo: from the workspace, or from its own place when it was only referenced.

    Raises `WorkspaceError` or `OSError`.
    """
    if key.startswith("photos/"):
        return workspace.read_bytes(key)
    with open_uri(key) as file:
        return file.read()


def sound_photo(workspace: Workspace, key: str, uris: Iterable[str]) -> bytes:
    """The bytes of a photo. A copy in the workspace that is missing or damaged is fetched again from one of
    `uris`, where its bytes still are. Raises `WorkspaceError` when they are not, and what `read_photo` does.
    """
    name = re.fullmatch(r"photos/../([0-9a-f]{64})\..*", key)
    if name is None:
        return read_photo(workspace, key)
    sha256, problem = name[1], "is damaged"
    try:
        data = workspace.read_bytes(key)
    except WorkspaceError:
        problem = "is missing"
    else:
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    for uri in uris:
        if uri.startswith(_OURS):
            try:
                with open_uri(uri) as file:
                    data = file.read()
            except OSError:
                continue
            if hashlib.sha256(data).hexdigest() == sha256:
                workspace.write_bytes(key, data)
                return data
    raise WorkspaceError(
        f"the photo {workspace.path(key)} {problem}, and its source no longer has its bytes: put the file "
        f"back, or take the photo out with `phq workspace remove {sha256[:12]}`"
    )

"""What a run shows on its page: only what a member of the team can reach with a browser.

A path on a worker's disk is of no use there. `PHQ_ARTIFACTS_URL` says under which address a folder (or fsspec
URL) is served, as FOLDER=ADDRESS, several with spaces between them; what lies below one becomes a link. An
overlay sheet that has no address goes into the artifact itself, as a small JPEG.
"""

from __future__ import annotations

import base64
import io
import os
import socket
from typing import Any
from urllib.parse import quote

from phq_flows import environment

environment.prepare()

from PIL import Image  # noqa: E402
from prefect.artifacts import (  # noqa: E402
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from phq_data.files import file_system  # noqa: E402
from phq_data.stages.sequence import STAGE_NAMES  # noqa: E402
from phq_data.typed_json import ConfigError  # noqa: E402
from phq_data.workspace import Workspace  # noqa: E402

VARIABLE = "PHQ_ARTIFACTS_URL"
_SIDE, _BYTES = 1400, 400_000
"""Of an embedded sheet: a database row holds it, and the page loads it with the run."""


def public_url(place: str) -> str:
    """The address under which a file is served, "" for none. Raises `ConfigError` for a bad setting."""
    for one in os.environ.get(VARIABLE, "").split():
        folder, found, address = one.partition("=")
        if not (folder and found and address.startswith(("http://", "https://"))):
            raise ConfigError(
                f"{VARIABLE} is FOLDER=ADDRESS, for example /data=https://files.example.org/phq, not {one!r}"
            )
        root = folder.rstrip("/") + "/"
        if place.startswith(root):
            return f"{address.rstrip('/')}/{quote(place[len(root) :])}"
    return ""


def check() -> None:
    """Before anything is done. Raises `ConfigError` for a bad setting."""
    public_url("")


def of_report(workspace: Workspace, page: str, *, overlays: bool = True) -> None:
    """A link to the page (or where it lies), the counts of all stages, and the overlay sheet."""
    about = f"Report of {workspace.url}"
    if address := public_url(page):
        create_link_artifact(address, link_text="Report", key="phq-report", description=about)
    else:
        create_markdown_artifact(
            f"The page is `{page}` on `{socket.gethostname()}`. For a link here, let a web server show the "
            f"folder and set {VARIABLE}=FOLDER=ADDRESS where the flows run.",
            key="phq-report", description=about,
        )  # fmt: skip
    create_table_artifact(key="phq-counts", table=counts(workspace), description=f"Counts of {workspace.url}")
    sheet = page.rpartition("/")[0] + "/overlays.png"
    fs, path = file_system(sheet)
    if overlays and fs.isfile(path):
        image = public_url(sheet) or _embedded(fs.cat_file(path))
        create_image_artifact(image, key="phq-overlays", description="The posed rig over portraits")


def counts(workspace: Workspace) -> list[dict[str, Any]]:
    """A row a stage: parts, items, kept, rejected, failed."""
    rows = []
    for stage in STAGE_NAMES:
        infos = [workspace.part_info(f"ledger/{stage}", part) for part in workspace.parts(f"ledger/{stage}")]
        extras = [info.extra for info in infos if info is not None]
        sums = {kind: sum(int(e.get(kind, 0)) for e in extras) for kind in _COUNTED}
        rows.append({"stage": stage, "parts": len(extras), **sums})
    return rows


_COUNTED = ("items", "kept", "rejected", "failed")


def _embedded(sheet: bytes) -> str:
    """A sheet as a data URI of at most `_BYTES` characters."""
    with Image.open(io.BytesIO(sheet)) as opened:
        image = opened.convert("RGB")
    side, text = _SIDE, ""
    while not text or len(text) > _BYTES:
        image.thumbnail((side, 4 * side))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        text = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
        side = side * 3 // 4
    return text

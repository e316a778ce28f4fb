"""Writing the report: gather the numbers, choose and draw the images, fill the template."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from phq_data import __version__
from phq_data.arrays import ImageArray
from phq_data.files import OutputError, file_system, write_at
from phq_data.models.protocols import ModelTerms
from phq_data.pipeline.model_set import load_rig, load_terms
from phq_data.pipeline.whole import behind, told
from phq_data.report import data as numbers
from phq_data.report import plots, provenance, quality, sheets, view
from phq_data.report import standing as stand
from phq_data.report.data import ReportData
from phq_data.report.standing import Standing
from phq_data.rig import PortraitRig
from phq_data.text import duration, printable, shown_name
from phq_data.workspace import Workspace, WorkspaceError

SHEETS = ("portraits.png", "overlays.png", "masks.png", "rejected.png", "cameras.png")
"""The sheets that lie beside the page; a sheet of nothing is not written."""

MAX_KEPT, MAX_REJECTED, MAX_CLUSTERS, MAX_MEMBERS = 96, 48, 24, 6
SHEET_TILES = 48
KEPT_BYTES, REJECTED_BYTES, CLUSTER_BYTES = 8_000_000, 2_500_000, 1_500_000
"""Base64 characters of a page's images: it stays below 15 MB whatever the photos look like."""


def write_report(
    workspace: Workspace,
    out: str | Path | None = None,
    on_faults: Callable[[list[str]], object] = list,
    *,
    standing: Standing = Standing(),  # noqa: B008 (frozen)
    yaw_target: int = 0,
    review: str = "",
) -> str:
    """Write the page and its sheets; returns where the page is.

    `out` is a folder (the page becomes `index.html` in it) or the name of an `.html` file, here or at an
    fsspec URL; default: the folder `report` in the workspace. `on_faults` is told which parts are not what
    the settings make of the photos (`pipeline.whole`), none where the workspace is finished; the page says
    it, too. `standing` is what is known of reviews and of a release made now (`release.preview`),
    `yaw_target` how many portraits each sector of yaw should have, `review` the address that portraits are
    linked to (`links.review_address`), if there is one. Raises `WorkspaceError` for damaged parts
    or an unwritable place.
    """
    page = _place(workspace, out)
    faults = told(behind(workspace))
    on_faults(faults)
    data = numbers.gather(workspace)
    rig = load_rig(workspace)
    kept_ids = sheets.sample(data.kept.index, MAX_KEPT)
    rejected_ids = sheets.sample_by_reason(data.rejected, MAX_REJECTED)
    clusters = data.clusters[:MAX_CLUSTERS]
    members = [m for cluster in clusters for m in cluster.members[:MAX_MEMBERS]]
    kept = sheets.kept_cards(workspace, data.portraits, kept_ids, rig, sheets.Budget(KEPT_BYTES))
    rejected = sheets.rejected_cards(workspace, data.portraits, rejected_ids, sheets.Budget(REJECTED_BYTES))
    small = sheets.small_images(workspace, data.portraits, members, sheets.Budget(CLUSTER_BYTES))
    # In order of yaw a sheet reads as a walk around the subject, and gaps in it can be seen.
    yaw = data.portraits["yaw"].to_dict()
    kept.sort(key=lambda card: yaw[card.portrait_id])
    evidence = sheets.evidence(workspace, data.portraits, {card.portrait_id for card in rejected})

    folder = page.rpartition("/")[0]
    html = _html(
        data, faults, rig, load_terms(workspace), kept, rejected, small, evidence, standing, yaw_target,
        review,
    )  # fmt: skip
    _write(page, html.encode())
    for name, content in _sheets(data, kept, rejected).items():
        if content is None:
            fs, path = file_system(f"{folder}/{name}")
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(path)
        else:
            _write(f"{folder}/{name}", content)
    return page


def report_images(page: str) -> list[str]:
    """The sheets that lie beside a page."""
    fs, path = file_system(page)
    folder, inside = page.rpartition("/")[0], path.rpartition("/")[0]
    return [f"{folder}/{name}" for name in SHEETS if fs.isfile(f"{inside}/{name}")]


# ---- the page --------------------------------------------------------------------------------------------


def _html(
    data: ReportData,
    faults: list[str],
    rig: PortraitRig | None,
    terms: Mapping[str, ModelTerms],
    kept: list[sheets.Card],
    rejected: list[sheets.Card],
    small: dict[str, str],
    evidence: dict[str, dict[str, Any]],
    standing: Standing,
    yaw_target: int,
    review: str,
) -> str:
    shown = {card.portrait_id for card in (*kept, *rejected)}
    folder = resources.files("phq_data") / "report"
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"page": (folder / "page.html.j2").read_text(encoding="utf-8")}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = lambda value: printable(str(value))
    environment.filters["number"] = view.count
    environment.filters["seconds"] = duration
    environment.filters["rate"] = lambda value: "–" if not np.isfinite(value) else f"{value:.3g}"
    environment.filters["percent"] = lambda value: "–" if not np.isfinite(value) else f"{100 * value:.0f} %"
    troubles, trouble_count = view.troubles(data)
    clusters = data.clusters[:MAX_CLUSTERS]
    settings = sorted(data.settings.items())
    rights = stand.rights(data)
    return environment.get_template("page").render(
        filters=_filters(sorted({reason for card in rejected for reason in _reasons(data, card)})),
        yaw_target=yaw_target,
        review=review,
        css=(folder / "page.css").read_text(encoding="utf-8"),
        version=__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        data=data,
        title=shown_name(str(data.url)),
        faults=faults,
        facts=view.facts(data),
        lead=view.lead(data),
        stage_titles=view.STAGE_TITLES,
        stage_items=view.STAGE_ITEMS,
        camera=plots.camera_plot(data.kept, data.rejected, shown),
        views=view.views(data),
        yaw=view.yaw(data),
        angles=view.angles(data),
        poses=view.poses(data),
        kept=[view.shown_card(data, card, {}, standing, rights) for card in kept],
        rejected=[
            view.shown_card(data, card, evidence.get(card.portrait_id, {}), standing, rights)
            for card in rejected
        ],
        shown_reasons=sorted({reason for card in rejected for reason in _reasons(data, card)}),
        standing=standing,
        reviews=stand.reviews(data, standing),
        rights=rights,
        ages=stand.ages(data),
        distributions=quality.distributions(data),
        coverage=quality.coverage(data, yaw_target),
        people_a_photo=view.people_a_photo(data),
        rig=rig,
        troubles=troubles,
        trouble_count=trouble_count,
        clusters=[c for c in clusters if any(m in small for m in c.members)],
        small=small,
        shown=shown,
        max_members=MAX_MEMBERS,
        models=provenance.models(data, rig, terms),
        sources=provenance.sources(data),
        authors=provenance.authors(data).head(50),
        settings=settings,
    )


def _filters(reasons: list[str]) -> str:
    """The style that hides cards by what is chosen above them: no script is needed."""
    choices = {
        "view": ("front", "side", "rear"), "rejected-view": ("front", "side", "rear"),
        "verdict": ("accepted", "rejected", "disputed", "undecided"),
        "rights": ("stated", "nobody", "barred"),
        "reason": tuple(one for one in reasons if re.fullmatch(r"[a-z_]+", one)),
    }  # fmt: skip
    return "".join(
        f"section:has(input[name={group}][value={value}]:checked) "
        f".card:not(.{group.removeprefix('rejected-')}-{value}){{display:none}}\n"
        for group, values in choices.items()
        for value in values
    )


def _reasons(data: ReportData, card: sheets.Card) -> list[str]:
    found: Any = data.portraits.loc[card.portrait_id, "reasons"]
    return [str(reason) for reason in found]


# ---- sheets and files ------------------------------------------------------------------------------------


def _sheets(
    data: ReportData, kept: list[sheets.Card], rejected: list[sheets.Card]
) -> dict[str, bytes | None]:
    def tiles(cards: Iterable[sheets.Card], kind: str) -> list[tuple[str, ImageArray]]:
        found = []
        for card in cards:
            if kind in card.tiles:
                row = data.portraits.loc[card.portrait_id]
                words = ", ".join(row["reasons"]) if row["state"] == "rejected" else ""
                words = words or f"yaw {round(float(np.degrees(row['yaw'])))}°"
                found.append((f"{card.portrait_id[:8]}  {words}", card.tiles[kind]))
        return found

    def sheet(cards: list[sheets.Card], kind: str, title: str) -> bytes | None:
        found = tiles(cards, kind)
        if len(found) > SHEET_TILES:
            found = [found[i] for i in np.linspace(0, len(found) - 1, SHEET_TILES).round().astype(int)]
        return sheets.contact_sheet(found, f"{title} ({len(found)} shown)") if found else None

    return {
        "portraits.png": sheet(kept, "portrait", f"{view.count(len(data.kept))} kept portraits, by yaw"),
        "overlays.png": sheet(kept, "overlay", "Posed rig over kept portraits, by yaw"),
        "masks.png": sheet(kept, "mask", "Masks of kept portraits, by yaw"),
        "rejected.png": sheet(rejected, "overlay", f"{view.count(len(data.rejected))} rejected portraits"),
        "cameras.png": plots.cameras_png(data.kept, data.rejected) if len(data.portraits) else None,
    }


def _place(workspace: Workspace, out: str | Path | None) -> str:
    place = workspace.shown("report") if out is None else str(out)
    if "://" not in place:
        place = str(Path(place).absolute())
    return place if place.lower().endswith((".html", ".htm")) else f"{place.rstrip('/')}/index.html"


def _write(place: str, content: bytes) -> None:
    try:
        write_at(place, content)
    except OutputError as error:
        raise WorkspaceError(f"the report is not written: {error}") from error

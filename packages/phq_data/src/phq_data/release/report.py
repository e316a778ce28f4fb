"""`report.html` of a release: one self-contained page with the cameras and some of the portraits."""

from __future__ import annotations

import base64
import html
from io import BytesIO
from pathlib import Path

import numpy as np

from phq_data import parquet, parquet_limits
from phq_data.release import datasheet_text
from phq_data.release.manifest import Manifest
from phq_data.release.stats import PITCH_STEP, YAW_STEP, Summary

_THUMBNAILS, _SIDE = 60, 96

_STYLE = """
:root{--ink:#1c1e21;--soft:#5d646d;--line:#d9dde2;--paper:#fff;--blue:#1f6feb}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--soft:#9aa3ad;--line:#333a42;--paper:#14171a;
--blue:#6ea8fe}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1060px;
margin:2rem auto;padding:0 1rem}
h1{margin:0 0 .2rem}h2{margin:2.2rem 0 .6rem}.soft{color:var(--soft)}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.2rem .9rem .2rem 0;text-align:left;
border-bottom:1px solid var(--line)}td.n{text-align:right;font-variant-numeric:tabular-nums}
.row{display:flex;gap:2.5rem;flex-wrap:wrap;align-items:flex-start}.sheet{display:flex;flex-wrap:wrap;gap:3px}
.sheet img{width:96px;height:96px}.warn{border-left:4px solid #d29922;padding:.4rem .8rem}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
"""


def write(folder: Path, manifest: Manifest, summary: Summary) -> None:
    """Write report.html into `folder`. The shards must be there already."""
    (folder / "report.html").write_text(page(folder, manifest, summary), encoding="utf-8")


def page(folder: Path, manifest: Manifest, summary: Summary) -> str:
    """The page."""
    title = html.escape(f"{manifest.name} {manifest.version}")
    warning = "" if manifest.reviewed else '<p class="warn">Not reviewed by people: labels may be wrong.</p>'
    changes = manifest.about["changes"]
    parent = (manifest.parent or {}).get("version")
    since = _table(f"since {parent}", {k.replace("_", " "): v for k, v in changes.items()}) if changes else ""
    left_out = {k.replace("_", " "): v for k, v in manifest.about["counts"]["left_out"].items()}
    elevation = (
        f"Elevation: {_spread(summary.pitch_degrees)} degrees. Roll: {_spread(summary.roll_degrees)} "
        f"degrees. Photo pixels per image pixel: {_spread(summary.effective_resolution)}. (5 %, median, "
        "95 %)"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
<p class="soft">{manifest.created} · made with phq-data {manifest.about["code_version"]}</p>
<p>{html.escape(datasheet_text.summary_sentence(manifest, summary))}</p>{warning}
<h2>Cameras</h2>
<p>Where the camera stands around the person: yaw across (0 = in front, 90 = on the person's left), elevation
up. The stronger the color, the more portraits.</p>
{heat_map(summary)}
<p class="soft">{elevation}</p>
<h2>Portraits</h2>
<div class="sheet">{_sheet(folder, manifest)}</div>
<h2>Counts</h2>
<div class="row">{_table("split", summary.splits)}{_table("seen from", summary.octants)}
{_table("provider", summary.providers)}{_table("license", summary.licenses)}
{_table("consent", summary.consent)}{_table("screen for minors", summary.ages)}
{_table("body", summary.bodies)}
{_table("image side", summary.sizes)}{_table("codec", summary.codecs)}{since}
{_table("left out", left_out)}</div>
</body></html>
"""


def heat_map(summary: Summary) -> str:
    """Yaw by elevation as SVG: one cell of 10 x 10 degrees, shaded by the square root of its count."""
    cells = summary.cells
    width, height, left, top = 900.0, 300.0, 46.0, 10.0
    step_x, step_y = width / cells.shape[0], height / cells.shape[1]
    most = max(1, int(cells.max(initial=0)))
    parts = []
    for i, j in np.argwhere(cells > 0).tolist():
        count = int(cells[i, j])
        shade = 0.12 + 0.88 * (count / most) ** 0.5
        yaw, pitch = -180 + i * YAW_STEP, -90 + j * PITCH_STEP
        parts.append(
            f'<rect x="{left + i * step_x:.1f}" y="{top + height - (j + 1) * step_y:.1f}" '
            f'width="{step_x:.1f}" height="{step_y:.1f}" fill="var(--blue)" fill-opacity="{shade:.2f}">'
            f"<title>yaw {yaw} to {yaw + YAW_STEP}, elevation {pitch} to {pitch + PITCH_STEP}: "
            f"{count:,}</title></rect>"
        )
    for yaw in range(-180, 181, 45):
        x = left + (yaw + 180) / 360 * width
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" stroke="var(--line)"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + height + 16}" text-anchor="middle">{yaw}°</text>')
    for pitch in range(-90, 91, 30):
        y = top + height - (pitch + 90) / 180 * height
        parts.append(
            f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="var(--line)"/>'
        )
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{pitch}°</text>')
    return (
        f'<svg viewBox="0 0 {width + left + 24:.0f} {height + top + 26:.0f}" role="img" width="100%" '
        f'aria-label="Cameras by yaw and elevation">{"".join(parts)}</svg>'
    )


def _sheet(folder: Path, manifest: Manifest) -> str:
    if manifest.images == "none":
        return "<p>The images are not part of this release.</p>"
    from PIL import Image

    # A few row groups spread over all shards: ids are digests, so any row is as good as another.
    groups = [
        (shard.path, group)
        for shard in manifest.shards
        for group in range(parquet.opened(folder / shard.path).num_row_groups)
    ]
    chosen = groups[:: max(1, len(groups) // 20)]
    each = -(-_THUMBNAILS // len(chosen))
    found: list[str] = []
    for path, group in chosen:
        table = parquet_limits.read(
            parquet.opened(folder / path), ["portrait_id", "image", "yaw"], group=group
        )
        for row in table.slice(0, each).to_pylist():
            image = Image.open(BytesIO(row["image"]["bytes"])).convert("RGB")
            buffer = BytesIO()
            image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=80)
            data = base64.b64encode(buffer.getvalue()).decode()
            title = f"{row['portrait_id'][:12]}, yaw {np.degrees(row['yaw']):.0f} degrees"
            found.append(f'<img alt="portrait" title="{title}" src="data:image/jpeg;base64,{data}">')
    return "".join(found[:_THUMBNAILS])


def _table(title: str, counts: dict[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(str(name))}</td><td class="n">{count:,}</td></tr>'
        for name, count in counts.items()
    )
    return f"<table><tr><th>{html.escape(title)}</th><th></th></tr>{rows}</table>" if rows else ""


def _spread(values: dict[str, float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values.values()) or "-"

"""The documents of a release: dataset card, datasheet, licenses, attribution and change log."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from phq_data import parquet_limits
from phq_data.release import columns, rights
from phq_data.release import datasheet_text as wording
from phq_data.release.manifest import Manifest
from phq_data.release.stats import Summary
from phq_data.sources import is_web_address
from phq_data.text import markdown, spreadsheet_cell

_ATTRIBUTION = (
    "portrait_id",
    "photo_id",
    "title",
    "author",
    "author_url",
    "page_url",
    "license",
    "license_url",
)


def write(folder: Path, manifest: Manifest, summary: Summary, changelog: str) -> None:
    """Write README.md, DATASHEET.md, LICENSES.md, attribution.csv and CHANGELOG.md into `folder`.

    `changelog` is the parent's. The shards must be there already.
    """
    (folder / "README.md").write_text(readme(manifest, summary))
    (folder / "DATASHEET.md").write_text(datasheet(manifest, summary))
    (folder / "LICENSES.md").write_text(licenses(manifest, summary))
    (folder / "CHANGELOG.md").write_text(change_log(manifest, summary, changelog))
    _attribution(folder, manifest)


def readme(manifest: Manifest, summary: Summary) -> str:
    """The dataset card with Hugging Face's front matter."""
    license = wording.license_name(summary)
    configs = [{"split": split, "path": f"data/{split}-*.parquet"} for split in manifest.counts()]
    front: dict[str, Any] = {
        "pretty_name": manifest.name,
        "license": license,
        **({"license_name": "per-picture", "license_link": "LICENSES.md"} if license == "other" else {}),
        "size_categories": [_size_category(summary.rows)],
        "task_categories": ["unconditional-image-generation", "image-to-3d"],
        "tags": ["portrait", "3d", "head-pose", "camera-pose", "phq"],
        "configs": [{"config_name": "default", "data_files": configs}],
    }
    splits = "".join(f"| {name} | {rows:,} |\n" for name, rows in summary.splits.items())
    octants = "".join(f"| {name} | {count:,} |\n" for name, count in summary.octants.items())
    warning = "" if manifest.reviewed else "> **Not reviewed by people.** Labels may be wrong.\n\n"
    images = (
        "Images are left out because they may not be published; `phq release fill` fetches them again "
        "for whoever may.\n\n"
        if manifest.images == "none"
        else ""
    )
    return f"""---
{_yaml(front)}---

# {markdown(manifest.name)} {manifest.version}

{wording.summary_sentence(manifest, summary)}

{warning}{images}`report.html` shows the cameras, `DATASHEET.md` says what is behind the data.

## Use

```python
from phq_data.release import reader

release = reader.open("path or URL of this folder")
row = release.split("train")[0]     # image, mask, camera (25), pose (6), ...
release.rig()                       # the mesh that the labels refer to
```

```python
from datasets import load_dataset

load_dataset("parquet", data_files="data/train-*.parquet", split="train")[0]["image"]
```

Of images that were taken down after this release was published, `datasets` reads empty rows once it
was pushed again; the PHQ reader leaves them out at once.

| split | portraits |
| --- | ---: |
{splits}
| seen from | portraits |
| --- | ---: |
{octants}
## Labels

`camera` is a row-major 4x4 camera-to-world matrix (OpenCV axes; metres; the subject faces +z, the neck joint
is the origin) and row-major 3x3 intrinsics in image widths. `pose` is neck and head axis-angle in radians.
`window` is where the image was cut from the upright photo: x, y, side in pixels.
{_corrected_sentence(summary)}

## Columns

Angles are radians, lengths metres, shares 0 to 1, positions pixels with x right and y down; a type with `?`
may be null. `pixels` and `mask_pixels` hold no pixels: they are the sha256 of the decoded image and mask, by
which the same image is known again however it is stored.

{columns.markdown_table("release")}
## License

{_license_sentence(summary)} See `LICENSES.md` and `attribution.csv`.

## The people shown

{wording.consent_sentence(summary)} {wording.age_sentence(manifest, summary)}

## Taking something down

Whoever is shown in an image or made it can ask for its removal; it is then listed in `tombstones.json`, left
out by every PHQ reader at once, and missing from the next version. Please delete your copies of it.

## Citation

{markdown(manifest.name)} {manifest.version} ({manifest.created}), {markdown(manifest.about["creator"])}.
`manifest.json` has the sha256 of every file; cite its digest to name these bytes.
"""


def _corrected_sentence(summary: Summary) -> str:
    if not summary.corrected:
        return "No label was corrected by people."
    have = "portraits have labels" if summary.corrected > 1 else "portrait has a label"
    return (
        f"{summary.corrected:,} {have} corrected by people: there `corrected_from` names the portrait that "
        "had the former label."
    )


def datasheet(manifest: Manifest, summary: Summary) -> str:
    """Questions of "Datasheets for Datasets" (Gebru et al.), answered from what the release knows."""
    said = wording.rai(manifest, summary)

    def text(*names: str) -> str:
        parts: list[str] = []
        for name in names:
            value = said[name]
            parts += [value] if isinstance(value, str) else value
        return "\n\n".join(map(markdown, parts))

    left_out = manifest.about["counts"]["left_out"]
    dropped = (
        "\n".join(f"- {reason.replace('_', ' ')}: {count:,}" for reason, count in left_out.items())
        or "- none"
    )
    permissions = manifest.about["permissions"]
    stated = (
        f"Permissions were stated:\n\n```json\n{json.dumps(permissions, indent=1)}\n```\n"
        if permissions
        else "No permission was stated."
    )
    return f"""# Datasheet: {markdown(manifest.name)} {manifest.version}

## Motivation

{text("dataUseCases")} Released by {markdown(manifest.about["creator"])} on {manifest.created}.

## Composition

{wording.summary_sentence(manifest, summary)} {text("dataCollectionRawData", "dataCollectionMissingData")}

Left out of this release:

{dropped}

{text("personalSensitiveInformation", "dataBiases")}

## Collection

{text("dataCollection")}

{stated} Rights were checked {_range(summary.checked)}; photos were taken {_range(summary.days)}.

## Preprocessing and labelling

{text("dataPreprocessingProtocol", "dataManipulationProtocol", "dataImputationProtocol")}

{text("dataAnnotationProtocol", "dataAnnotationAnalysis")}

Annotators: {text("annotatorDemographics")} Tools: {markdown(", ".join(said["machineAnnotationTools"]))}.

## Uses

{text("dataLimitations", "dataSocialImpact")}

## Distribution

{_license_sentence(summary)} Every row names its provider, page, author and license.

## Maintenance

{text("dataReleaseMaintenancePlan")}
"""


def licenses(manifest: Manifest, summary: Summary) -> str:
    """The table of licenses."""
    lines = "".join(
        f"| {markdown(name)} | {count:,} | {rights.license_url(name) or '-'} |\n"
        for name, count in summary.licenses.items()
    )
    providers = "".join(f"| {markdown(name)} | {count:,} |\n" for name, count in summary.providers.items())
    permissions = manifest.about["permissions"]
    stated = (
        "\nFor rows whose license alone does not allow their use, these permissions were "
        f"stated:\n\n```json\n{json.dumps(permissions, indent=1)}\n```\n"
        if permissions
        else ""
    )
    return f"""# Licenses of {markdown(manifest.name)} {manifest.version}

Every image has its own license, named in the column `license` of its row; `attribution.csv` names authors.

| license | portraits | page |
| --- | ---: | --- |
{lines}
| provider | portraits |
| --- | ---: |
{providers}{stated}
Images under CC BY and CC BY-SA were changed: cut and resampled. What is derived from CC BY-SA images and
shared must be shared under the same license. Labels and masks were made by PHQ and add no rights.
"""


def change_log(manifest: Manifest, summary: Summary, before: str) -> str:
    """The parent's change log with this version on top."""
    changes = manifest.about["changes"]
    if changes is None:
        what = f"- First release: {summary.rows:,} portraits."
    else:
        parent = (manifest.parent or {}).get("version")
        what = (
            f"- Since {parent}: {changes['added']:,} portraits added, {changes['removed']:,} removed "
            f"({changes['taken_down']:,} of them taken down), {changes['changed']:,} changed.\n- "
            f"{changes['shards_copied']:,} shards are those of {parent}, {changes['shards_written']:,} "
            "were written."
        )
    title = f"# Changes of {markdown(manifest.name)}\n"
    rest = before.removeprefix(before.split("\n## ", 1)[0]).lstrip("\n") if "\n## " in before else ""
    return f"{title}\n## {manifest.version} ({manifest.created})\n\n{what}\n" + (f"\n{rest}" if rest else "")


def _attribution(folder: Path, manifest: Manifest) -> None:
    with (folder / "attribution.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_ATTRIBUTION, "changes"])
        for shard in manifest.shards:
            for row in parquet_limits.read_all(folder / shard.path, [*_ATTRIBUTION, "file_url"]).to_pylist():
                if not row["page_url"] and is_web_address(row["file_url"]):
                    row["page_url"] = row["file_url"]  # nothing else to point at
                row["license_url"] = row["license_url"] or rights.license_url(row["license"])
                said = (" ".join((row[name] or "").split()) for name in _ATTRIBUTION)
                writer.writerow([*map(spreadsheet_cell, said), "cut and resampled"])


def _license_sentence(summary: Summary) -> str:
    names = ", ".join(f"{markdown(name)} ({count:,})" for name, count in summary.licenses.items())
    return f"Every image keeps its own license: {names}."


def _range(days: tuple[str, str] | None) -> str:
    if days is None:
        return "on unknown days"
    return f"on {days[0]}" if days[0] == days[1] else f"from {days[0]} to {days[1]}"


def _size_category(rows: int) -> str:
    limits = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next(
        (name for limit, name in limits if rows < limit), "1M<n<10M" if rows < 10_000_000 else "10M<n<100M"
    )


def _yaml(values: dict[str, Any]) -> str:
    """Front matter: every value as JSON, which YAML contains."""
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())

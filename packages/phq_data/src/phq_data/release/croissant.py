"""`croissant.json`: the release described in Croissant 1.1 JSON-LD with the RAI 1.0 fields.

Croissant lets a machine load the rows without knowing PHQ: files with their sha256, and every column with its
type and where it lies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from phq_data import schema
from phq_data.release import columns, datasheet_text, rights
from phq_data.release.manifest import Manifest
from phq_data.release.stats import Summary

CROISSANT = "http://mlcommons.org/croissant/1.1"
RAI = "http://mlcommons.org/croissant/RAI/1.0"
REQUIRED: tuple[str, ...] = (
    "@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished",
    "distribution",
)  # fmt: skip
"""What the specification demands of a dataset."""

_TERMS = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty",
    "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
    "separator", "source", "subField", "transform",
)  # fmt: skip
_TYPES = {
    pa.string(): "sc:Text",
    pa.float32(): "cr:Float32",
    pa.float64(): "cr:Float64",
    pa.int32(): "cr:Int32",
    pa.uint64(): "cr:UInt64",
}


def write(folder: Path, manifest: Manifest, summary: Summary) -> None:
    """Write croissant.json into `folder`. `manifest` lists the other files."""
    text = json.dumps(document(manifest, summary), indent=1, ensure_ascii=False)
    (folder / "croissant.json").write_text(text + "\n", encoding="utf-8")


def document(manifest: Manifest, summary: Summary) -> dict[str, Any]:
    """The JSON-LD document."""
    url = manifest.about["url"] or f"urn:phq:{manifest.name}:{manifest.version}"
    licenses = datasheet_text.license_urls(summary)
    others = [name for name in summary.licenses if rights.license_url(name) is None]
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": [CROISSANT, RAI],
        "name": manifest.name,
        "description": datasheet_text.summary_sentence(manifest, summary),
        "version": manifest.version,
        "datePublished": manifest.created,
        "creator": {"@type": "sc:Organization", "name": manifest.about["creator"]},
        "url": url,
        "license": [*licenses, *others],
        "citeAs": f"{manifest.name} {manifest.version} ({manifest.created}), {manifest.about['creator']}",
        "keywords": ["portrait", "3D-aware generation", "camera pose", "head pose"],
        "isLiveDataset": False,
        "distribution": _distribution(manifest),
        "recordSet": [_splits(manifest), _portraits(manifest)],
        **{f"rai:{name}": value for name, value in datasheet_text.rai(manifest, summary).items()},
    }


def _context() -> dict[str, Any]:
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "conformsTo": "dct:conformsTo",
        **{term: f"cr:{term}" for term in _TERMS},
        "name": {"@container": "@language"},
        "description": {"@container": "@language"},
        "data": {"@id": "cr:data", "@type": "@json"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    }


def _distribution(manifest: Manifest) -> list[dict[str, Any]]:
    kinds = {
        ".parquet": "application/x-parquet",
        ".json": "application/json",
        ".csv": "text/csv",
        ".html": "text/html",
        ".md": "text/markdown",
    }
    files = [
        {
            "@type": "cr:FileObject",
            "@id": entry.path,
            "name": entry.path,
            "contentUrl": entry.path,
            "contentSize": f"{entry.bytes} B",
            "encodingFormat": kinds.get(Path(entry.path).suffix, "application/octet-stream"),
            "sha256": entry.sha256,
        }
        for entry in manifest.entries
    ]
    sets = {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "description": "All shards; a shard's name starts with its split.",
        "encodingFormat": "application/x-parquet",
        "includes": "data/*.parquet",
    }
    return [*files, sets]


def _splits(manifest: Manifest) -> dict[str, Any]:
    meaning = {
        "train": "cr:TrainingSplit",
        "validation": "cr:ValidationSplit",
        "test": "cr:TestSplit",
    }
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "No photo, near-duplicate, author and day, or session lies in two of them.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": ["sc:URL", "wd:Q3985153"]},
        ],
        "data": [{"splits/name": name, "splits/url": meaning[name]} for name in manifest.counts()],
    }


def _portraits(manifest: Manifest) -> dict[str, Any]:
    meanings = {column.name: column.meaning for column in columns.columns("release")}
    fields = [
        _field(field, meanings[field.name])
        for field in schema.RELEASE
        if field.name != "image" or manifest.images == "all"
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "portraits",
        "name": "portraits",
        "description": "One record a portrait.",
        "key": {"@id": "portraits/portrait_id"},
        "field": fields,
    }


def _field(field: pa.Field, description: str) -> dict[str, Any]:
    extract: dict[str, Any] = {"extract": {"column": field.name}}
    shape: dict[str, Any] = {}
    kind = field.type
    if kind == schema.IMAGE:
        type_name = "sc:ImageObject"
        extract["transform"] = {"jsonPath": "bytes"}
    elif pa.types.is_fixed_size_list(kind):
        type_name = _TYPES[kind.value_type]
        shape = {"isArray": True, "arrayShape": str(kind.list_size)}
    else:
        type_name = _TYPES[kind]
    found: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"portraits/{field.name}",
        "name": field.name,
        "description": description,
        "dataType": type_name,
        **shape,
        "source": {"fileSet": {"@id": "shards"}, **extract},
    }
    if field.name == "split":
        found["references"] = {"field": {"@id": "splits/name"}}
    return found

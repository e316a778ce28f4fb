"""Where the photos come from, what one may do with them, and which models made the portraits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from phq_data.models import onnx
from phq_data.models.protocols import ModelTerms
from phq_data.report.data import ReportData
from phq_data.rig import PortraitRig


@dataclass(frozen=True)
class SourceCount:
    """Photos of one provider under one license."""

    provider: str
    license: str  # "" = unknown
    license_url: str  # only http(s); "" otherwise
    photos: int
    kept: int  # portraits made of them that the screen kept
    authors: int  # different ones that are named


@dataclass(frozen=True)
class ModelUse:
    """A model (or body) that made something here."""

    role: str  # person detector, body fitter, segmenter, rig
    name: str  # as recorded in the rows
    portraits: int
    origin: str
    license: str


_ROLES = {
    "detector": "people and key points",
    "fitter": "body fit",
    "segmenter": "mask",
    "rig": "body mesh",
    "body": "body mesh",
}
_NETWORKS = {"movenet": ("movenet-multipose", "movenet-thunder"), "selfie": ("selfie",)}
"""Which shipped networks stand behind a model's name."""
_OWN = {
    name: ("fits the body mesh to the key points; no network", "Apache-2.0")
    for name in ("smplify", "smplify2")
}
"""Models that are code of PHQ."""


def sources(data: ReportData) -> tuple[SourceCount, ...]:
    """Photos and kept portraits by provider and license, most photos first."""
    photos = data.photos.assign(
        license=data.photos["license"].fillna(""), provider=data.photos["provider"].fillna("")
    )
    kept = data.kept["photo_id"].value_counts()
    counts = []
    for (provider, license), group in photos.groupby(["provider", "license"], sort=True):
        urls = [url for url in group["license_url"].dropna().unique() if web_address(url)]
        counts.append(
            SourceCount(
                provider=str(provider),
                license=str(license),
                license_url=urls[0] if urls else "",
                photos=len(group),
                kept=int(kept.reindex(group.index).fillna(0).sum()),
                authors=int(group["author"].dropna().nunique()),
            )
        )
    return tuple(sorted(counts, key=lambda c: (-c.photos, c.provider, c.license)))


def models(
    data: ReportData, rig: PortraitRig | None, terms: Mapping[str, ModelTerms]
) -> tuple[ModelUse, ...]:
    """The models that the portraits record, with origin and license of those that ship with PHQ.

    `terms` are those of other models, by fingerprint.
    """
    used: Counter[tuple[str, str]] = Counter()
    for text, count in data.portraits["models"].value_counts().items():
        try:
            named = json.loads(str(text))
        except json.JSONDecodeError:
            continue
        if isinstance(named, dict):
            for role, name in named.items():
                used[(str(role), str(name))] += int(count)
    shipped = {model.name: model for model in onnx.embedded_models()}
    found = []
    for (role, name), count in sorted(used.items()):
        networks = [
            shipped[file]
            for key, files in _NETWORKS.items()
            if name.lower().startswith(key)
            for file in files
            if file in shipped
        ]
        origin = "; ".join(network.title for network in networks)
        license = ", ".join(sorted({network.license for network in networks}))
        for key, own in _OWN.items():
            if name.lower().startswith(key):
                origin, license = own
        if name in terms:
            one = terms[name]
            origin, license = ", ".join(filter(None, (one.title, one.source))), one.license
        if role in ("rig", "body") and rig is not None:
            origin = rig.metadata.get("origin", "") or rig.metadata.get("source", "") or rig.body
            license = rig.metadata.get("license", "")
        found.append(ModelUse(_ROLES.get(role, role), name, count, origin, license))
    return tuple(found)


def web_address(text: object) -> bool:
    """May `text` be the target of a link? Only http and https are."""
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))


def authors(data: ReportData) -> pd.Series:
    """How many photos each named author has, most first."""
    return data.photos["author"].dropna().value_counts()

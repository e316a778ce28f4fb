"""C2PA: what the active manifest of a photo asserts of data mining, training and its source.

Read with c2pa-python (extra `c2pa`) where it is installed; nothing is fetched: no remote manifest, no
revocation list. Whether the signer is trusted is not asked: who forbids something need not prove a name.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from typing import Any

from phq_data.images.formats import Bytes, stream_of

_FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WebP": "image/webp",
    "TIFF": "image/tiff",
    "HEIC": "image/heic",
    "AVIF": "image/avif",
}
_MARKS = (b"jumb", b"c2pa")  # in every embedded manifest
_USES = ("data_mining", "ai_training", "ai_generative_training")
_LABELS = ("c2pa.training-mining", "cawg.training-mining")
_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}


def read(data: Bytes, kind: str, problems: list[str]) -> dict[str, str]:
    """`data_mining` where a use of ours is not allowed, and `source_type`; `problems` gets what fails."""
    if kind not in _FORMATS or not all(data.find(mark) >= 0 for mark in _MARKS):
        return {}
    if importlib.util.find_spec("c2pa") is None:
        problems.append("it has C2PA claims; pip install 'phq-data[c2pa]' reads them")
        return {}
    try:
        document = json.loads(_manifest(data, _FORMATS[kind]))
        active = document["manifests"][document["active_manifest"]]
        return dict(_said(active["assertions"]))
    except Exception as error:  # the library has an error of its own for each damage
        problems.append(f"its C2PA claims cannot be read: {str(error)[:200] or type(error).__name__}")
        return {}


def _manifest(data: Bytes, kind: str) -> str:
    import c2pa

    with (
        c2pa.Context.from_dict(_SETTINGS) as context,
        c2pa.Reader(kind, stream_of(data), None, context) as reader,
    ):
        return str(reader.json())


def _said(assertions: Any) -> Iterator[tuple[str, str]]:
    for assertion in assertions:
        label, content = str(assertion["label"]).split("__")[0], assertion["data"]
        if label in _LABELS:
            forbidden = [use for use in _USES if _forbids(content["entries"], use)]
            if forbidden:
                yield "data_mining", f"C2PA {label}: {', '.join(forbidden)} not allowed"
        if label.startswith("c2pa.actions"):
            kinds = [action.get("digitalSourceType") for action in content["actions"]]
            if found := [str(one) for one in kinds if one]:
                yield "source_type", found[0][:1000]


def _forbids(entries: Mapping[str, Any], use: str) -> bool:
    """Is a use not allowed, or only under constraints that nobody has met? Labels begin with c2pa or cawg."""
    stated = [value for name, value in entries.items() if name.rpartition(".")[2] == use]
    return any(isinstance(one, dict) and one.get("use") in ("notAllowed", "constrained") for one in stated)

"""Which portraits a run was trained on, in `RUN/seen.json`: for those who are asked later.

    {"format": 1, "data": [{"release": digest, "name": ..., "version": ..., "url": ..., "split": "train",
                            "images": 0, "weights": "", "portraits": [ids]}, ...]}

One entry for each release (or choice of its portraits) that the run went on with; `images` is where the run
was then, `weights` the folder of the weights that a new run began from. `phq release trace` reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phq_data.files import write_text
from phq_data.foreign import parse_json
from portraitgan.data.dataset import PortraitData

FILE, FORMAT = "seen.json", 1


def record(folder: Path, data: PortraitData, images: int, weights: Path | None) -> None:
    """Add what the run is trained on from `images` on, unless the last entry says it."""
    entries = _read(folder / FILE)
    manifest = data.release.manifest
    entry = {
        "release": manifest.digest, "name": manifest.name, "version": manifest.version,
        "url": data.release.url, "split": data.split, "images": images,
        "weights": "" if weights is None or entries else str(weights.absolute()),
        "portraits": data.used(),
    }  # fmt: skip
    told = ("release", "split", "portraits")
    if not entries or any(entries[-1].get(name) != entry[name] for name in told):
        write_text(folder / FILE, json.dumps({"format": FORMAT, "data": [*entries, entry]}) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    """The entries so far; of a file that is damaged none, and it is kept beside the new one."""
    try:
        found = parse_json(path.read_bytes())
        return [dict(entry) for entry in found["data"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        path.replace(path.with_name(f"damaged-{FILE}"))
        return []

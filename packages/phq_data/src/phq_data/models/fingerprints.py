"""The fingerprint of a model: a digest of all that its results depend on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from phq_data.compatibility import first_names

_SPEED = frozenset({"batch", "device"})
"""Settings that change how fast a result comes, not the result."""


def fingerprint(name: str, version: int, config: Any = None, **facts: Any) -> str:
    """`name-xxxxxxxxxxxx`: digest of the code's version, a config (a dataclass) and JSON-able facts.

    A setting that was renamed enters under its first name, and those of speed alone not at all.
    """
    told: dict[str, Any] = {"version": version, **facts}
    if config is not None:
        told["config"] = {k: value for k, value in first_names(config).items() if k not in _SPEED}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:12]}"

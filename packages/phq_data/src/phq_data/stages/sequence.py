"""The stages of a build, in order. A new one is a module with a `STAGE`, and a line here."""

from __future__ import annotations

from typing import Any

from phq_data.stages import align_crop, detect, fit, ingest, screen
from phq_data.stages.base import Stage

STAGES: tuple[Stage[Any], ...] = (ingest.STAGE, detect.STAGE, fit.STAGE, align_crop.STAGE, screen.STAGE)
STAGE_NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)

"""What can go wrong while using a model, in words for its user."""

from __future__ import annotations

import importlib.util

from phq_data.camera import CameraError
from phq_data.release.version import ReleaseError
from phq_data.rig import RigError
from phq_data.workspace import WorkspaceError
from portraitgan.checkpoints.checkpoint import CheckpointError
from portraitgan.checkpoints.weights import WeightsError
from portraitgan.deformation.errors import DeformationError
from portraitgan.strict_json import ConfigError


class InferenceError(ValueError):
    """A request that cannot be met; the message says what was wrong and what to do."""


KNOWN: tuple[type[Exception], ...] = (
    InferenceError,
    CameraError,
    CheckpointError,
    ConfigError,
    DeformationError,
    ReleaseError,
    RigError,
    WeightsError,
    WorkspaceError,
)
"""Errors whose message is meant for the user; anything else is a bug and keeps its traceback."""


def need(module: str, extra: str) -> None:
    """Raise `InferenceError` unless an optional dependency is installed."""
    if importlib.util.find_spec(module) is None:
        raise InferenceError(f"this needs '{module}', which is not installed: install portraitgan[{extra}]")

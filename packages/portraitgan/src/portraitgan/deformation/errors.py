"""What can be wrong with a rig, a pose or a search."""

from __future__ import annotations

from phq_data.errors import PhqError


class DeformationError(PhqError, ValueError):
    """A rig, pose or search backend that cannot be used; the message says which and what to do."""

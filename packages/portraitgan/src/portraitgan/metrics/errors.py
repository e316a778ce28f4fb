"""What can go wrong while measuring, in words for the user."""

from __future__ import annotations

from phq_data.errors import PhqError


class MetricError(PhqError, ValueError):
    """Something that cannot be measured; the message says what is wrong and what to do."""

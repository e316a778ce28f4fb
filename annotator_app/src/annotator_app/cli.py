"""`phq review`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add `review` to the phq program."""

"""Where things lie in a workspace."""

from __future__ import annotations

from phq_data import compatibility


def former(folder: str) -> str:
    """What the ledger of a stage was called before; "" where nothing was."""
    first, _, name = folder.partition("/")
    old = compatibility.first_stage_name(name)
    return f"{first}/{old}" if first == "ledger" and old != name else ""


def part_key(folder: str, index: int) -> str:
    """Where part `index` of a folder lies."""
    return f"{folder}/part-{index:05d}.parquet"

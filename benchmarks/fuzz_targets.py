"""Every reader of foreign files for `benchmarks.fuzz`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fuzz_networks import networks
from benchmarks.fuzz_photos import photos
from benchmarks.fuzz_tables import imports, tables
from benchmarks.fuzz_target import Target
from benchmarks.fuzz_texts import texts


def targets(folder: Path) -> list[Target]:
    """All kinds, with whole files of each that are made in `folder`."""
    return [*photos(), *texts(), *tables(folder), *imports(), *networks(folder)]

"""The files that `phq accuracy` and `phq consistency` leave: tables, numbers, plots and every error."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from phq_data import files, parquet
from phq_data.evaluation import accuracy, plots, tables
from phq_data.evaluation.accuracy import PersonError
from phq_data.evaluation.equivariance import Change
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace


def write_accuracy(
    workspace: Workspace, truth_path: Path, truth: pa.Table, errors: list[PersonError], rig: PortraitRig
) -> list[str]:
    """Write table, plots and the sheet of the worst into the workspace's folder `accuracy`; their keys.

    Raises `WorkspaceError` when they cannot be written.
    """
    sink = io.BytesIO()
    parquet.write(pa.Table.from_pylist([{**dataclasses.asdict(e), "octant": e.octant} for e in errors]), sink)
    numbers = {"truth": str(truth_path), **accuracy.summary(errors)}
    written = {
        "accuracy/errors.parquet": sink.getvalue(),
        "accuracy/summary.json": json.dumps(numbers, indent=2).encode(),
        "accuracy/table.txt": tables.accuracy_table(errors).encode(),
        "accuracy/conditions.txt": tables.conditions(errors, truth).encode(),
        "accuracy/octants.png": plots.octants(errors),
        "accuracy/curves.png": plots.curves(errors),
        "accuracy/reliability.png": plots.reliability(errors),
        "accuracy/worst.jpg": plots.worst_sheet(
            workspace, accuracy.worst(errors), plots.rendered_truth(truth, rig), rig
        ),
    }
    for key, data in written.items():
        workspace.write_bytes(key, data)
    return list(written)


def write_equivariance(out: Path, changes: Sequence[Change], numbers: dict[str, Any]) -> list[Path]:
    """Write table.txt, summary.json and changes.parquet into the folder `out`; their paths.

    Raises `OutputError` when they cannot be written.
    """
    names = [field.name for field in dataclasses.fields(Change)]
    columns = {name: [getattr(change, name) for change in changes] for name in names}
    files.write_text(out / "table.txt", tables.equivariance_table(numbers) + "\n")
    files.write_text(out / "summary.json", json.dumps(numbers, indent=2))
    with files.writing(out / "changes.parquet") as path:
        parquet.write(pa.table(columns), path)
    return [out / name for name in ("table.txt", "summary.json", "changes.parquet")]

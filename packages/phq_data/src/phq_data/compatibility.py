"""What version 1 called things: renames as data, and reading what it wrote under the names of today.

Version 2 of the schema gave columns, settings, stages and options the field's words, and every angle in a
column radians. What version 1 wrote is adapted where it is read: tables in `workspace`, releases in
`release.reader`, settings in `config`, command lines in `upgrade_command_line`. Digests (ids, fingerprints of
parts and models, digests of released rows) are made from the first names (`first_names`), so that a renaming
changes no id and makes no part be done again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from phq_data import schema

FOOTER = b"phq"
"""Key of a Parquet file's metadata: JSON with the `schema_version` that it was written with."""

Renames = Mapping[str, str]
"""Old name -> new name."""

PROVENANCE: Renames = {"licence": "license", "licence_url": "license_url"}
_LABEL: Renames = {
    "source_pixels": "effective_resolution",
    "residual": "landmark_error",
    "shoulder_residual": "shoulder_error",
}
_SCREENED: Renames = {**_LABEL, "doubt": "error_probability", "yaw_error": "expected_yaw_error"}

COLUMNS: Mapping[str, Renames] = {
    "plan": PROVENANCE,
    "photos": {**PROVENANCE, "colour": "color"},
    "fits": {"alternatives": "hypotheses", "yaw_deviation": "yaw_std", "view_guess": "orientation_prior"},
    "portraits": _LABEL,
    "screened": _SCREENED,
    "release": {**PROVENANCE, **_LABEL, "doubt": "error_probability"},
}
"""Columns by table."""

EVIDENCE: Mapping[str, Renames] = {"ingest": PROVENANCE, "screen": _SCREENED}
"""Keys of the ledger's evidence, by stage."""

_DEGREES = frozenset({"expected_yaw_error"})
"""Angles that version 1 wrote in degrees, by their new name."""

STAGES: Renames = {"portray": "align_crop"}

REASONS: Renames = {
    f"licence_{what}": f"license_{what}" for what in ("nc", "nd", "nonfree", "unknown", "unclear")
}
"""Why a photo was refused."""

SETTINGS: Renames = {
    "detect.mirror": "detect.flip_tta",
    "detect.search": "detect.second_pass",
    "fit.starts": "fit.initializations",
    "fit.view": "fit.orientation_prior",
    "crop.as_published": "crop.published_center_formula",
    "mask.everybody": "mask.include_bystanders",
    "screen.min_source_pixels": "screen.min_effective_resolution",
    "screen.max_residual": "screen.max_landmark_error",
    "screen.max_shoulder_residual": "screen.max_shoulder_error",
    "screen.max_doubt": "screen.max_error_probability",
}

VALUES: Mapping[str, Renames] = {"fit.orientation_prior": {"picture": "image"}}
"""Values of settings, by the setting's new name."""

_NETWORKS: Mapping[str, Renames] = {}
"""Fields of the networks' own settings, by class: old name -> new name."""


class RenamedWarning(FutureWarning):
    """An old name that is still read; the text says the new one."""


# ---- settings ----------------------------------------------------------------------------------------------


def setting(name: str, value: Any) -> tuple[str, Any]:
    """A setting `group.name` and its value as they are called today."""
    current = SETTINGS.get(name, name)
    renamed = VALUES.get(current, {})
    return current, renamed.get(value, value) if isinstance(value, str) else value


def upgrade_settings(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Nested settings under today's names, and which old names (and values) they had: old -> new.

    An old name whose new one is there too stays, for the caller to refuse.
    """
    found: dict[str, Any] = {}
    renamed: dict[str, str] = {}
    for group, members in values.items():
        if not isinstance(members, Mapping):
            found[group] = members
            continue
        found[group] = {}
        for member, value in members.items():
            old = f"{group}.{member}"
            new, now = setting(old, value)
            name = new.partition(".")[2]
            if new != old and name in members:
                found[group][member] = value
                continue
            found[group][name] = now
            if (new, now) != (old, value):
                same = now is value or now == value
                renamed[old if same else f"{old}={value}"] = new if same else f"{new}={now}"
    return found, renamed


def notice(what: str, renamed: Renames) -> None:
    """Warn, in one line, of old names that were read (of `what`: "settings", "columns"); silent about "
    "none."""
    if renamed:
        said = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
        warnings.warn(f"{what} renamed: {said}. The old name is read until version 3", RenamedWarning, 3)


def print_notices() -> None:
    """From now on print every `RenamedWarning` as one line on standard error, once."""
    usual = warnings.showwarning

    def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, RenamedWarning):
            sys.stderr.write(f"note: {message}\n")
        else:
            usual(message, category, *rest, **more)

    warnings.showwarning = show


# ---- digests -----------------------------------------------------------------------------------------------


def first_names(value: Any) -> Any:
    """`value` with every dataclass in it as a dictionary under the names that its fields had first.

    What digests are made from: a setting that is called otherwise is the same setting.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value).__name__
        names = {new: old for old, new in _fields_of(kind).items()}
        return {
            names.get(field.name, field.name): _first_value(kind, field.name, getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: first_names(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [first_names(item) for item in value]
    return value


def first_text(value: Any) -> str:
    """`repr` of a config under the names that its fields had first; `str` of anything else."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return str(value)
    told = ", ".join(f"{name}={member!r}" for name, member in first_names(value).items())
    return f"{type(value).__qualname__}({told})"


def first_stage_name(name: str) -> str:
    """What a stage was called first: its name in fingerprints."""
    return next((old for old, new in STAGES.items() if new == name), name)


def first_columns(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row under the names that its columns had first."""
    names = {new: old for old, new in COLUMNS.get(table, {}).items()}
    return {names.get(name, name): value for name, value in row.items()}


def _fields_of(kind: str) -> Renames:
    group = kind.removesuffix("Config").lower()
    of_group = {
        old.partition(".")[2]: new.partition(".")[2]
        for old, new in SETTINGS.items()
        if old.partition(".")[0] == group and kind.endswith("Config")
    }
    return {**of_group, **_NETWORKS.get(kind, {})}


def _first_value(kind: str, name: str, value: Any) -> Any:
    setting_name = f"{kind.removesuffix('Config').lower()}.{name}"
    first = {new: old for old, new in VALUES.get(setting_name, {}).items()}
    return first.get(value, value) if isinstance(value, str) else first_names(value)


# ---- tables ------------------------------------------------------------------------------------------------


def old_columns(table: str, names: Iterable[str]) -> list[str]:
    """What version 1 called columns of a table; a part of a column (`image.path`) keeps its rest."""
    old = {new: name for name, new in COLUMNS.get(table, {}).items()}
    return [old.get(name, name) for name in names]


def upgrade_table(table: str, rows: pa.Table, stage: str = "") -> pa.Table:
    """Rows that version 1 wrote (some or all columns of them) under today's names and in today's units.

    `stage` (of either name) wrote these rows of the table "ledger".
    """
    renames = COLUMNS.get(table, {})
    rows = rows.rename_columns([renames.get(name, name) for name in rows.column_names])
    for name in _DEGREES & set(rows.column_names):
        radians = pc.multiply(rows[name].cast(pa.float64()), math.pi / 180.0)
        rows = _replaced(rows, name, radians.cast(rows.schema.field(name).type))
    words = {"plan": {"error": REASONS}, "ledger": {"stage": STAGES, "reason": REASONS}}
    for name, renamed in words.get(table, {}).items():
        if name in rows.column_names:
            values = [renamed.get(value, value) for value in rows[name].to_pylist()]
            rows = _replaced(rows, name, pa.array(values, pa.string()))
    if table == "ledger" and stage in EVIDENCE and "evidence" in rows.column_names:
        evidence = [_upgrade_evidence(stage, text) for text in rows["evidence"].to_pylist()]
        rows = _replaced(rows, "evidence", pa.array(evidence, pa.string()))
    return rows


def version_of(file: pq.ParquetFile) -> int:
    """The schema version that a part or a shard was written with; a file that says nothing is of today."""
    footer = (file.metadata.metadata or {}).get(FOOTER)
    try:
        return int(json.loads(footer)["schema_version"]) if footer else schema.SCHEMA_VERSION
    except (ValueError, KeyError, TypeError):
        return schema.SCHEMA_VERSION


def read(
    file: pq.ParquetFile,
    table: str,
    columns: Sequence[str] | None = None,
    *,
    stage: str = "",
    group: int | None = None,
    use_threads: bool = False,
) -> pa.Table:
    """Rows of a part or a shard (of one row group of it) as they are called today, whoever wrote them."""
    old = version_of(file) < schema.SCHEMA_VERSION
    names = None if columns is None else old_columns(table, columns) if old else list(columns)
    if group is None:
        rows = file.read(names, use_threads=use_threads)
    else:
        rows = file.read_row_group(group, names, use_threads=use_threads)
    return upgrade_table(table, rows, stage) if old else rows


def upgrade_schema(table: str, found: pa.Schema) -> pa.Schema:
    """A schema of version 1 with today's names."""
    renames = COLUMNS.get(table, {})
    fields = [field.with_name(renames.get(field.name, field.name)) for field in found]
    return pa.schema(fields, metadata=found.metadata)


def _upgrade_evidence(stage: str, text: str) -> str:
    found = {EVIDENCE[stage].get(name, name): value for name, value in json.loads(text).items()}
    for name in _DEGREES & set(found):
        if found[name] is not None:
            found[name] = round(math.radians(found[name]), 6)
    return json.dumps(found, sort_keys=True)


def _replaced(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), rows.schema.field(name), values)


# ---- command lines -----------------------------------------------------------------------------------------

COMMANDS: Mapping[str, Sequence[str]] = {"accuracy-compare": ("accuracy", "ablate")}
"""Commands of `phq`."""

OPTIONS: Mapping[str, Renames] = {
    "import": {
        "--as-published": "--published-center-formula",
        "--no-as-published": "--no-published-center-formula",
    },
    "review": {"--order=doubt": "--order=error_probability"},
}
"""Options of `phq` by command; `--option=value` renames a value."""


def upgrade_command_line(words: Sequence[str]) -> list[str]:
    """The words after `phq` with the commands and options of today; warns of old ones."""
    if not words:
        return []
    command, *rest = words
    renamed: dict[str, str] = {}
    found: list[str] = [command]
    if command in COMMANDS:
        found = list(COMMANDS[command])
        renamed[f"phq {command}"] = f"phq {' '.join(found)}"
    options = OPTIONS.get(command, {})
    for position, word in enumerate(rest):
        if word == "--":
            found += rest[position:]
            break
        joined = f"{found[-1]}={word}"
        if word in options:
            renamed[word] = options[word]
            found.append(options[word])
        elif joined in options:
            renamed[f"{found[-1]} {word}"] = options[joined].replace("=", " ")
            found.append(options[joined].partition("=")[2])
        else:
            found.append(word)
    notice("command line", renamed)
    return found

"""What version 1 called things: renames as data, and reading what it wrote under the names of today.

Version 2 of the schema gave columns, settings, stages and options the field's words, and every angle in a
column radians. What version 1 wrote is adapted where it is read: tables and releases by `old_schema`,
settings in `config`, command lines by `upgrade_command_line`. Digests (ids, fingerprints of
parts and models, digests of released rows) are made from the first names (`first_names`), so that a renaming
changes no id and makes no part be done again.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from phq_data.typed_json import ConfigError

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

LABEL_EVIDENCE: Renames = {"guess_open": "prior_std", "guess_apart": "prior_angle"}
"""Evidence that the error probability of a label is made from."""

DEGREES = frozenset({"expected_yaw_error"})
"""Angles that version 1 wrote in degrees, by their new name."""

STAGES: Renames = {"portray": "align_crop"}

REASONS: Renames = {
    **{f"licence_{what}": f"license_{what}" for what in ("nc", "nd", "nonfree", "unknown", "unclear")},
    "doubtful": "uncertain",
}
"""Why a photo was refused or a portrait rejected."""

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

REVIEW_ORDERS: Renames = {"doubt": "error_probability"}
"""Orders of the review queue: on command lines, in bookmarks and in open pages."""

REVIEW_SETTINGS: Renames = {"known_share": "gold_share"}
"""Settings of `phq review policy`; the store's own are renamed by its migration."""

_NETWORKS: Mapping[str, Renames] = {
    "MoveNetConfig": {
        "maximum_looks": "max_proposals",
        "searched": "second_pass_proposals",
        "search_scales": "second_pass_scales",
        "mirror": "flip_tta",
    },
    "SmplifyConfig": {
        "starts": "initializations",
        "view_picture": "orientation_prior_image",
        "view_trust": "orientation_prior_weight",
        "view_floor": "orientation_prior_floor",
    },
    "SelfieConfig": {"everybody": "include_bystanders"},
    "DeepLabConfig": {"everybody": "include_bystanders"},
}
"""Fields of the networks' own settings, by class: old name -> new name."""


_LATER: Mapping[str, Any] = {
    "FitConfig.calibration": "",
    "IngestConfig.generated": "reject",
    "ScreenConfig.age_model": "",
    "ScreenConfig.minor_below": 16.0,
    "ScreenConfig.adult_from": 25.0,
    "ScreenConfig.age_unseen": "review",
}
"""Settings that version 1 did not have: they enter digests only where they differ from their default."""


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

    Raises `ConfigError` for a setting that is there under both names.
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
                raise ConfigError(f"setting '{new}' is there twice, once as '{old}': keep one of them")
            found[group][name] = now
            renamed |= renaming((old, value), (new, now))
    return found, renamed


def with_later_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of a workspace, and those that version 1 did not have at their defaults."""
    found = {
        group: dict(members) if isinstance(members, Mapping) else members for group, members in values.items()
    }
    for name, default in _LATER.items():
        kind, _, member = name.partition(".")
        group = found.get(kind.removesuffix("Config").lower())
        if isinstance(group, dict):
            group.setdefault(member, default)
    return found


def renaming(old: tuple[str, Any], new: tuple[str, Any]) -> dict[str, str]:
    """What `notice` says of a setting and its value that are called otherwise now; empty if they are not."""
    if old[1] is new[1] or old[1] == new[1]:
        return {old[0]: new[0]} if old[0] != new[0] else {}
    return {f"{old[0]}={old[1]}": f"{new[0]}={new[1]}"}


def upgrade_provenance(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is stated of a photo's rights under today's names; an old name beside its new one stays."""
    renamed = {old: new for old, new in PROVENANCE.items() if new not in values}
    return {renamed.get(name, name): value for name, value in values.items()}


def notice(what: str, renamed: Renames) -> None:
    """Warn in one line of old names that were read (of `what`: "settings", ...); without any, be silent."""
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
            if getattr(value, field.name) != _LATER.get(f"{kind}.{field.name}", dataclasses.MISSING)
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


# ---- command lines -----------------------------------------------------------------------------------------

OPTIONS: Mapping[str, Renames] = {
    "import": {
        "--as-published": "--published-center-formula",
        "--no-as-published": "--no-published-center-formula",
    },
    "inspect": {"--picture": "--image", "--no-picture": "--no-image"},
}
"""Options of `phq`, by command."""

COMMANDS: Mapping[str, tuple[str, ...]] = {"accuracy-compare": ("accuracy", "ablate")}
"""Commands of `phq`."""


def upgrade_command_line(words: Sequence[str]) -> list[str]:
    """The words after `phq` with the command and the options of today; warns of old ones."""
    if words and words[0] in COMMANDS:
        command = COMMANDS[words[0]]
        notice("commands", {words[0]: " ".join(command)})
        words = [*command, *words[1:]]
    options = OPTIONS.get(words[0], {}) if words else {}
    end = list(words).index("--") if "--" in words else len(words)  # what follows are no options
    notice("options", {word: options[word] for word in words[:end] if word in options})
    return [*(options.get(word, word) for word in words[:end]), *words[end:]]

"""The user's own model files: added once by name, checked, kept in one folder, found again by every command.

The folder is `PHQ_MODELS`, or `phq/models` in the user's data folder. A model is a folder there with its
file and `record.json`, which comes last: a model is there whole or not at all, also after a kill, and one
that takes the place of another does so at once.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from phq_data.errors import ModelError
from phq_data.files import file_sha256
from phq_data.foreign import parse_json
from phq_data.weights.catalogue import KNOWN, KnownModel, known_model

VARIABLE = "PHQ_MODELS"
_RECORD = "record.json"
_STALE = 86_400.0  # seconds


@dataclass(frozen=True)
class Record:
    """A model that was added."""

    name: str
    file: str  # in the model's folder
    sha256: str  # of that file
    bytes: int
    source: str  # name of the file that it was made from, or its address
    source_sha256: str
    added: str  # when, UTC
    note: str = ""  # what of the source was left out
    license: str = ""  # of this file, where the catalogue cannot know it
    description: str = ""  # what has to be known beside the file: JSON, of models that need it


@dataclass(frozen=True)
class Written:
    """What is to be recorded of a file that was written."""

    note: str = ""
    license: str = ""
    description: str = ""


def root() -> Path:
    """Where the user's models lie."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "phq" / "models"


def record(name: str) -> Record | None:
    """What was added under a known name; None when nothing was."""
    path = root() / known_model(name).name / _RECORD
    try:
        return Record(**parse_json(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); add the model again") from error


def records() -> list[tuple[KnownModel, Record | None]]:
    """Every known model and what was added of it."""
    return [(model, record(model.name)) for model in KNOWN]


def keep(
    model: KnownModel, file: Path, write: Callable[[Path], Written], *, source: str = "", sha256: str = ""
) -> Record:
    """Add what `write` makes of a user's file: it writes the path it is given and says what to record.

    `sha256`: what the file's must be, or begin with; `source`: what the record says of its origin (default:
    the file's name). Raises `ModelError` and keeps nothing when the checksum is another or `write` fails.
    """
    found = file_sha256(file)
    for expected in (sha256.lower(), model.sha256):
        if not found.startswith(expected):
            raise ModelError(f"{file} is not the right file: its SHA-256 is {found}, expected {expected}")
    root().mkdir(parents=True, exist_ok=True)
    _sweep(model.name)
    folder = Path(tempfile.mkdtemp(prefix=f".{model.name}-", dir=root()))
    try:
        stored = folder / model.stored
        written = write(stored)
        sha256_stored = file_sha256(stored)
        made = Record(
            name=model.name,
            file=_free_name(root() / model.name, stored, sha256_stored),
            sha256=sha256_stored,
            bytes=stored.stat().st_size,
            source=source or file.name,
            source_sha256=found,
            added=datetime.now(UTC).isoformat(timespec="seconds"),
            **vars(written),
        )
        (folder / _RECORD).write_text(json.dumps(dataclasses.asdict(made), indent=2) + "\n")
        _put(stored, folder / _RECORD, root() / model.name, made.file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _verified.cache_clear()
    return made


def verify(name: str) -> Record:
    """Compare a model's file with its record. Raises `ModelError` when it is not there or has changed."""
    kept = _needed(name)
    path = root() / name / kept.file
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); add the model again") from error
    if found != kept.sha256:
        raise ModelError(
            f"{path} is damaged: its SHA-256 is {found}, expected {kept.sha256}; add the model again"
        )
    return kept


def remove(name: str) -> None:
    """Delete a model's files. Raises `ModelError` when there are none."""
    folder = root() / known_model(name).name
    if not folder.exists():
        raise ModelError(f"the model {name} is not here, so there is nothing to remove")
    (folder / _RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder)
    _verified.cache_clear()


def verified_file(name: str) -> tuple[Path, str]:
    """(path, SHA-256) of an added model, checked once a process. `ModelError` says how to add it."""
    return _verified(str(root()), name)


@functools.cache
def _verified(folder: str, name: str) -> tuple[Path, str]:
    kept = verify(name)
    return Path(folder) / name / kept.file, kept.sha256


def _needed(name: str) -> Record:
    kept = record(name)
    if kept is None:
        model = known_model(name)
        how = f"phq models add {name}" + ("" if model.url else " FILE")
        get = "" if model.url else f" (get {model.wanted} from {model.origin})"
        what = "it can be downloaded" if model.url else "name your file once"
        raise ModelError(f"the model {name} is not here; {what}: {how}{get}")
    return kept


def _free_name(place: Path, stored: Path, sha256: str) -> str:
    """The file's name in its model's folder: another than that of a file of other content there."""
    if not (place / stored.name).exists():
        return stored.name
    return f"{stored.stem}-{sha256[:12]}{stored.suffix}"


def _put(stored: Path, note: Path, place: Path, name: str) -> None:
    """Move a finished file to its model's folder. It counts from when the record, moved last, names it."""
    place.mkdir(exist_ok=True)
    stored.replace(place / name)
    note.replace(place / _RECORD)
    for old in place.iterdir():
        if old.name not in (name, _RECORD):
            old.unlink(missing_ok=True)


def _sweep(name: str) -> None:
    """Clear what an `add` that was killed left, at least a day ago."""
    for left in root().glob(f".{name}-*"):
        if left.is_dir() and time.time() - left.stat().st_mtime > _STALE:
            shutil.rmtree(left, ignore_errors=True)

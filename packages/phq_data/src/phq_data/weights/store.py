"""The user's own model files: added once by name, checked, kept in one folder, found again by every command.

The folder is `PHQ_MODELS`, or `phq/models` in the user's data folder. A model is a folder there with its
file and `record.json`, which comes last: a model is there whole or not at all, also after a kill, and one
that takes the place of another does so at once.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from phq_data.models.registry import ModelError
from phq_data.weights.catalogue import KNOWN, KnownModel, known_model
from phq_data.weights.download import Progress, fetch, file_sha256, no_progress

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
        return Record(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); add the model again") from error


def records() -> list[tuple[KnownModel, Record | None]]:
    """Every known model and what was added of it."""
    return [(model, record(model.name)) for model in KNOWN]


def add(
    name: str, file: str | Path, *, sha256: str = "", vposer: str | Path | None = None, source: str = ""
) -> Record:
    """Check a user's file, convert it where that makes it safe, and keep it.

    `sha256`: what the file must have, or begin with, for users who were told. `vposer`: a VPoser snapshot,
    for a 3DCrowdNet checkpoint without it. `source`: what the record says (default: the file's name).
    Raises `ModelError` and keeps nothing when the file is missing, has another checksum or is another model.
    """
    model = known_model(name)
    path = Path(file).expanduser()
    if not path.is_file():
        what = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise ModelError(f"{what}; {name} wants {model.wanted}")
    found = file_sha256(path)
    for expected in (sha256.lower(), model.sha256):
        if not found.startswith(expected):
            raise ModelError(f"{path} is not the right file: its SHA-256 is {found}, expected {expected}")
    root().mkdir(parents=True, exist_ok=True)
    _sweep(name)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root()))
    try:
        stored = folder / model.stored
        note = _convert(model, path, stored, vposer)
        sha256_stored = file_sha256(stored)
        made = Record(
            name=name,
            file=_free_name(root() / name, stored, sha256_stored),
            sha256=sha256_stored,
            bytes=stored.stat().st_size,
            source=source or path.name,
            source_sha256=found,
            added=datetime.now(UTC).isoformat(timespec="seconds"),
            note=note,
        )
        (folder / _RECORD).write_text(json.dumps(dataclasses.asdict(made), indent=2) + "\n")
        _put(stored, folder / _RECORD, root() / name, made.file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _verified.cache_clear()
    return made


def download(name: str, *, progress: Progress = no_progress, url: str = "", sha256: str = "") -> Record:
    """Bring a model that may be downloaded, and add it. A stopped download goes on when called again.

    `url` and `sha256` replace those of the catalogue, for mirrors. Models whose license wants a registration
    raise `ModelError`: they come by the user's own hands.
    """
    model = known_model(name)
    address = download_address(model, url)
    target = root() / ".downloads" / model.stored
    fetch(address, target, sha256 or model.sha256, progress)
    try:
        return add(name, target, sha256=sha256, source=address)
    finally:
        target.unlink(missing_ok=True)


def download_address(model: KnownModel, url: str = "") -> str:
    """Where a model comes from, `url` if given; `ModelError` for one that comes by the user's own hands."""
    if not (url or model.url):
        raise ModelError(
            f"{model.name} cannot be downloaded for you: get it from {model.origin}, then "
            f"phq models add {model.name} FILE"
        )
    return url or model.url


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


def _convert(model: KnownModel, path: Path, stored: Path, vposer: str | Path | None) -> str:
    """Write the checked content of `path` to `stored`; say what of it is left out."""
    if vposer is not None and model.kind != "3dcrowdnet":
        raise ModelError(f"a VPoser snapshot belongs to 3dcrowdnet, not to {model.name}")
    if model.kind == "smpl":
        from phq_data.bodies.smpl_pickle import read_smpl_pickle

        read_smpl_pickle(path).save(stored, source=path.name)
    elif model.kind == "3dcrowdnet":
        _need_torch(model)
        from phq_data.models.crowdnet import checkpoint

        official = checkpoint.read_official(path, vposer)
        checkpoint.save(official, stored, source=path.name)
        return official.note
    else:
        if model.kind == "deeplab":
            _need_torch(model)
            from phq_data.models.deeplab import read_weights

            read_weights(path)
        shutil.copyfile(path, stored)
        if model.kind == "yolo":
            _check_yolo(path, stored)
    return ""


def _check_yolo(path: Path, stored: Path) -> None:
    """Half a file, or no weights at all, is told without ultralytics; another network needs it to be told."""
    try:
        with zipfile.ZipFile(stored) as archive:
            whole = any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        whole = False
    if not whole:
        raise ModelError(f"{path} is damaged or holds no weights of PyTorch")
    if importlib.util.find_spec("ultralytics") is not None:
        from phq_data.models.yolo import open_weights

        try:
            open_weights(stored)  # which has the ending that the library wants
        except ModelError as error:
            raise ModelError(str(error).replace(str(stored), str(path))) from error


def _need_torch(model: KnownModel) -> None:
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{model.name} needs the extra 'paper': pip install 'phq-data[paper]'") from error


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

"""How a model that a user brings or asks for gets into the folder of models: checked, converted if needed."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from pathlib import Path

from phq_data.errors import ModelError
from phq_data.files import file_sha256
from phq_data.models.user_network import Description
from phq_data.weights import store
from phq_data.weights.catalogue import KnownModel, known_model
from phq_data.weights.download import Progress, fetch, no_progress
from phq_data.weights.store import Record, Written


def add(
    name: str,
    file: str | Path,
    *,
    sha256: str = "",
    vposer: str | Path | None = None,
    license: str = "",
    source: str = "",
) -> Record:
    """Check a user's file, convert it where that makes it safe, and keep it.

    `sha256`: what the file must have, or begin with, for users who were told. `vposer`: a VPoser snapshot,
    for a 3DCrowdNet checkpoint without it. `license`: of a pose or age network. `source`: what the record
    says (default: the file's name).
    Raises `ModelError` and keeps nothing when the file is missing, has another checksum or is another model.
    """
    model = known_model(name)
    path = Path(file).expanduser()
    if not path.is_file():
        what = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise ModelError(f"{what}; {name} wants {model.wanted}")
    if vposer is not None and model.kind != "3dcrowdnet":
        raise ModelError(f"a VPoser snapshot belongs to 3dcrowdnet, not to {model.name}")
    if license and model.kind not in ("pose", "age"):
        raise ModelError(
            f"the license of {model.name} is known: {model.license}; --license is for pose and age"
        )

    def write(stored: Path) -> Written:
        if model.kind in ("pose", "age"):
            return _keep_network(model.kind, path, stored, license)
        return Written(note=_convert(model, path, stored, vposer))

    return store.keep(model, path, write, source=source, sha256=sha256)


def download(
    name: str, *, progress: Progress = no_progress, url: str = "", sha256: str = "", license: str = ""
) -> Record:
    """Bring a model that may be downloaded, and add it. A stopped download goes on when called again.

    `url` and `sha256` replace those of the catalogue, for mirrors. Models whose license wants a registration
    raise `ModelError`: they come by the user's own hands.
    """
    model = known_model(name)
    address = download_address(model, url)
    target = store.root() / ".downloads" / model.stored
    fetch(address, target, sha256 or model.sha256, progress)
    try:
        return add(name, target, sha256=sha256, license=license, source=address)
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


def _convert(model: KnownModel, path: Path, stored: Path, vposer: str | Path | None) -> str:
    """Write the checked content of `path` to `stored`; say what of it is left out."""
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


def _keep_network(kind: str, path: Path, stored: Path, license: str) -> Written:
    """Copy a user's network as it is, with its description, completed, and what of it was assumed."""
    shutil.copyfile(path, stored)
    sha256 = file_sha256(stored)
    told: Description
    if kind == "age":
        from phq_data.models.age import network as age

        told, assumed = age.complete(path, sha256, age.AgeDescription.read_beside(path).licensed(license))
    else:
        from phq_data.models.pose import description, network

        given = description.PoseDescription.read_beside(path)
        told, assumed = network.complete(path, sha256, given.licensed(license))
    note = f"assumed: {'; '.join(assumed)}" if assumed else ""
    return Written(note=note, license=told.license, description=told.to_json())


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

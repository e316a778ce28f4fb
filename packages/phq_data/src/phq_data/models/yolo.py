"""ultralytics YOLO pose as person detector. Optional, and AGPL-3.0: said at first use and by `phq doctor`.

The library likes to write settings files, look for newer versions and fetch weights by itself. Here it does
none of these: its settings go to a temporary folder that is removed again, its network functions are off, and
weights come from a file.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phq_data.errors import ModelError
from phq_data.files import file_sha256
from phq_data.foreign import check_stored
from phq_data.models.device import torch_device
from phq_data.models.fingerprints import fingerprint
from phq_data.models.protocols import COCO_KEYPOINTS, DetectedPerson, ModelTerms

CODE_VERSION = 1  # raise it when the same config would give other people
LICENSE_NOTE = (
    "YOLO pose comes from ultralytics under the AGPL-3.0: what you offer to others with it, also over a "
    "network, must come with its source, unless you have a license from Ultralytics."
)
DEFAULT_WEIGHTS = "yolo11m-pose"


@dataclass(frozen=True)
class YoloConfig:
    """Settings of the detector."""

    min_score: float = 0.25  # of a person
    overlap: float = 0.7  # of boxes beyond which two are one person
    size: int = 640  # pixels that a photo's long side is scaled to
    max_people: int = 50
    batch: int = 8  # photos a pass
    device: str = "cpu"


class YoloDetector:
    """A `PersonDetector` on a pose network of ultralytics."""

    def __init__(self, model: Any, weights_sha256: str, config: YoloConfig | None = None) -> None:
        """`model`: an `ultralytics.YOLO`, see `open_weights`. `weights_sha256` enters the fingerprint."""
        self.config = config or YoloConfig()
        self._model = model
        self._lock = threading.Lock()
        self.terms = ModelTerms("YOLO pose", "AGPL-3.0", "ultralytics")
        self.fingerprint = fingerprint("yolo", CODE_VERSION, self.config, weights=weights_sha256)

    @classmethod
    def open(
        cls, weights: str = "", config: YoloConfig | None = None, *, device: str = "auto"
    ) -> YoloDetector:
        """The detector with weights by name (`phq models list`) or path; "" takes what was added.

        Raises `ModelError` with one sentence when they are not there or are no pose network.
        """
        path, sha256 = find_weights(weights)
        if config is None:
            quiet_library()
            config = YoloConfig(device=torch_device(device))
        return cls(open_weights(path), sha256, config)

    @property
    def batch(self) -> int:
        """Photos a pass."""
        return self.config.batch

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedPerson]:
        """People of one upright sRGB photo [H, W, 3], ordered left to right."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[list[DetectedPerson]]:
        """People of many photos [H, W, 3], which share passes of the network where their sizes allow it."""
        found: list[list[DetectedPerson]] = []
        for start in range(0, len(images), self.config.batch):
            # The library wants OpenCV's channel order.
            chosen = images[start : start + self.config.batch]
            chunk = [np.ascontiguousarray(image[..., ::-1]) for image in chosen]
            with self._lock:  # the library keeps its state of a pass in the model
                answers = self._model.predict(
                    chunk,
                    conf=self.config.min_score,
                    iou=self.config.overlap,
                    imgsz=self.config.size,
                    max_det=self.config.max_people,
                    rect=False,  # else a photo's padding, and so its people, depend on the others of the pass
                    device=self.config.device,
                    verbose=False,
                    save=False,
                )
            found.extend(_people(answer) for answer in answers)
        return found


def find_weights(weights: str) -> tuple[Path, str]:
    """(file, SHA-256) of weights by name or path; "" takes the user's own, then the default, then any."""
    from phq_data.weights import store
    from phq_data.weights.catalogue import KNOWN

    names = [model.name for model in KNOWN if model.kind == "yolo"]
    if weights in names:
        return store.verified_file(weights)
    if weights:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise ModelError(
                f"there are no YOLO weights {weights}; give a .pt file or one of: {', '.join(names)}"
            )
        return path, file_sha256(path)
    for name in ("yolo-own", DEFAULT_WEIGHTS, *names):
        if store.record(name) is not None:
            return store.verified_file(name)
    return store.verified_file(DEFAULT_WEIGHTS)  # says how to add it


def open_weights(path: Path | str) -> Any:
    """The library's model from a weights file, or from one of its `.yaml` descriptions (random numbers)."""
    _say_license()
    library = quiet_library()
    try:
        if Path(path).is_file():
            check_stored(path)
        model = library.YOLO(str(path), task="pose", verbose=False)
    except Exception as error:
        # The library raises anything from TypeError to AssertionError for a file that is not its own.
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        plain = text.removeprefix("ERROR ").lstrip("\u274c\ufe0f ").split(". ")[0]
        raise ModelError(f"{path} holds no YOLO pose network ({plain[:160]})") from error
    network = model.model
    points = getattr(network, "kpt_shape", None) or (network.yaml.get("kpt_shape") if network else None)
    if getattr(network, "task", model.task) != "pose" or not points or points[0] != len(COCO_KEYPOINTS):
        raise ModelError(
            f"{path} is no pose network with COCO's {len(COCO_KEYPOINTS)} keypoints; give one such as "
            f"{DEFAULT_WEIGHTS}"
        )
    if any(not bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise ModelError(f"{path} is damaged: it holds numbers that are not finite")
    return model


@cache
def quiet_library() -> Any:
    """The module `ultralytics`, imported so that it stays offline and leaves no files behind."""
    quiet = {
        "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false",
        "ULTRALYTICS_SAFE_LOAD": "true",  # weights files may hold its own classes and nothing else
    }  # fmt: skip
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="phq-yolo-")
        os.environ["YOLO_CONFIG_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    try:
        with _others_untouched():
            import ultralytics
            from ultralytics.nn import tasks
    except ImportError as error:
        raise ModelError(
            f"YOLO needs the extra 'yolo': pip install 'phq-data[yolo]'. {LICENSE_NOTE}"
        ) from error
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    if not hasattr(tasks, "SAFE_LOAD"):
        raise ModelError(
            f"ultralytics {ultralytics.__version__} would run what is in a weights file; "
            "pip install 'phq-data[yolo]' brings one that does not"
        )
    tasks.SAFE_LOAD = True  # also where somebody imported the library before us
    return ultralytics


@contextmanager
def _others_untouched() -> Iterator[None]:
    """Put back what the library changes of others when it is imported.

    It replaces `PIL.Image.open` by one that installs packages when an image is broken and `torch.save` by
    one of its own, sets how numpy and torch print, and takes OpenCV's threads away.
    """
    import cv2
    import torch
    from PIL import Image

    kept = [(Image, "open"), (torch, "save"), (cv2, "imread"), (cv2, "imwrite"), (cv2, "imshow")]
    before = [(module, name, getattr(module, name)) for module, name in kept if hasattr(module, name)]
    threads = cv2.getNumThreads()
    shown = vars(torch._tensor_str.PRINT_OPTS).copy()
    try:
        with np.printoptions():
            yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        cv2.setNumThreads(threads)
        vars(torch._tensor_str.PRINT_OPTS).update(shown)


@cache
def _say_license() -> None:
    sys.stderr.write(f"phq: {LICENSE_NOTE}\n")


def _people(answer: Any) -> list[DetectedPerson]:
    """The people of one photo from the library's result."""
    if answer.boxes is None or answer.keypoints is None or len(answer.boxes) == 0:
        return []
    boxes = answer.boxes.xyxy.cpu().numpy().astype(np.float64)
    scores = answer.boxes.conf.cpu().numpy().astype(np.float64)
    points = answer.keypoints.data.cpu().numpy().astype(np.float64)
    if points.shape[2] == 2:  # a network that does not say how sure it is
        points = np.concatenate([points, np.ones_like(points[..., :1])], axis=2)
    people = [
        DetectedPerson(box=box, keypoints=rows, score=float(score))
        for box, rows, score in zip(boxes, points, scores, strict=True)
    ]
    return sorted(people, key=lambda person: float(person.box[0] + person.box[2]))

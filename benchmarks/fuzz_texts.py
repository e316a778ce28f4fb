"""Texts that people and programs write, for `benchmarks.fuzz`: rights, settings, lists, keypoints."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.fuzz_target import Target, file_reader, json_or_bytes, sealed


def texts() -> list[Target]:
    """JSON, TOML and CSV."""
    from phq_data.config import PipelineConfig, paper
    from phq_data.foreign import parse_json
    from phq_data.models.keypoint_file import KeypointFileDetector
    from phq_data.models.reference_inputs import HeadBoxFile
    from phq_data.release.tombstones import Tombstone, Tombstones
    from phq_data.release.tombstones import _sealed as seal_of_list
    from phq_data.sources.rights import read_rights
    from phq_data.sources.terms import Permission
    from phq_data.sources.urls import UrlList
    from phq_data.sources.web import settings as web_settings
    from phq_data.sources.web.robots import parse_tdmrep
    from portraitgan import config as model_config
    from portraitgan import presets
    from portraitgan.inference.views import camera_from_text
    from portraitgan.training.config import PRESETS as TRAINING
    from portraitgan.training.config import TrainConfig

    def people(path: Path) -> object:
        detector = KeypointFileDetector(path)
        return [detector.detect_named(name, (640, 480), 6) for name in ("a.jpg", "b.jpg")]

    def web(path: Path) -> object:
        path.chmod(0o600)
        return web_settings.load({"PHQ_SETTINGS": str(path)})

    def addresses(path: Path) -> object:
        return UrlList(path).search("", "")

    rights = {
        "license": "CC BY 4.0", "author": "Ada", "permission": {"who": "Ada"},
        "rights_checked_at": "2026-03-01",
        "files": {"studio/*.jpg": {"author": "Bo"}, "p.png": {"license": "CC0-1.0", "title": "A"}},
    }  # fmt: skip
    toml = b'license = "CC0-1.0"\nrights_checked_at = 2026-03-01\n[files."a/*.jpg"]\nauthor = "Bo"\n'
    points = {"a.jpg": [[[1.5, 2.0, 0.5]] * 17], "b.jpg": []}
    listed = io.StringIO()
    csv.writer(listed).writerows([["url", "license", "author"], ["https://a.example/1.jpg", "CC0", "Ö"]] * 3)
    stones = Tombstones((Tombstone("id", "ab", "2026-01-01", "asked", ("ab",), ("cd",)),)).to_bytes()
    permission = {
        "who": "Ada", "scope": ["collect"], "date": "2026-01-01", "reference": "x", "provider": "wikimedia",
    }  # fmt: skip
    tdm = [{"location": "/a/*", "tdm-reservation": 1}]

    def as_json(value: object) -> tuple[bytes]:
        return (json.dumps(value).encode(),)

    def settings(data: bytes, folder: Path) -> object:
        return PipelineConfig.from_dict(parse_json(data))

    def model(data: bytes, folder: Path) -> object:
        return model_config.ModelConfig.from_json(data.decode("utf-8", "replace"))

    def training(data: bytes, folder: Path) -> object:
        return TrainConfig.from_json(data.decode("utf-8", "replace"))

    run = next(iter(TRAINING.values()))()
    return [
        Target(
            "rights.json",
            as_json(rights),
            file_reader("rights.json", lambda p: read_rights(p.parent)),
            json_or_bytes,
        ),
        Target("rights.toml", (toml,), file_reader("rights.toml", lambda p: read_rights(p.parent))),
        Target("settings", as_json(asdict(paper())), settings, json_or_bytes),
        Target(
            "web settings",
            (b'contact = "a@b.example"\nrobots = true\nminimum_side = 300\n',),
            file_reader("s.toml", web),
        ),
        Target("model config", (presets.tiny().to_json().encode(),), model, json_or_bytes),
        Target("training config", (run.to_json().encode(),), training, json_or_bytes),
        Target("keypoints", as_json(points), file_reader("k.json", people), json_or_bytes),
        Target(
            "head boxes",
            as_json({"a.jpg": [{"bbox": [1, 2, 3, 4]}, {"bbox": []}]}),
            file_reader("h.json", HeadBoxFile),
            json_or_bytes,
        ),
        Target("permission", as_json(permission), file_reader("p.json", Permission.load), json_or_bytes),
        Target(
            "camera",
            as_json({"camera": list(np.eye(5).ravel())}),
            file_reader("c.json", lambda p: camera_from_text(str(p))),
            json_or_bytes,
        ),
        Target("list.csv", (listed.getvalue().encode(),), file_reader("l.csv", addresses)),
        Target(
            "tombstones",
            (stones,),
            lambda data, _: Tombstones.from_bytes(data, "t").hides("a", "b"),
            sealed(seal_of_list),
        ),
        Target("reservations", as_json(tdm), lambda data, _: parse_tdmrep(data), json_or_bytes),
    ]

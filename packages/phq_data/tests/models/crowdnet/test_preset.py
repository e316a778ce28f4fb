"""The preset `paper`: what it asks for, and a build on SMPL with made-up weights from end to end."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from phq_data import build, config
from phq_data.loading import models_for
from phq_data.models import store
from phq_data.models.registry import ModelError
from phq_data.rig import PortraitRig
from phq_data.runner import run_inline
from phq_data.sources.resolve import resolve
from phq_data.workspace import Workspace

_SPEC = importlib.util.spec_from_file_location("smpl_files", Path(__file__).parents[1] / "smpl_files.py")
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))
    models_for.cache_clear()
    from phq_data.bodies import smpl

    smpl.default_rig.cache_clear()
    yield
    models_for.cache_clear()
    smpl.default_rig.cache_clear()


def test_the_preset_names_the_papers_models_and_survives_its_json():
    chosen = config.PRESETS["paper"]()
    assert (chosen.detect.model, chosen.fit.model, chosen.mask.model) == ("yolo", "3dcrowdnet", "deeplab")
    assert chosen.align.joints == chosen.crop.mode == "reference" and chosen.mask.everybody
    assert config.PipelineConfig.from_dict(json.loads(chosen.to_json())) == chosen


def test_a_build_without_the_files_stops_at_once_and_says_what_to_add(tmp_path):
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    with pytest.raises(ModelError, match="phq models add 3dcrowdnet FILE"):
        build.prepare(workspace, config.paper())


@pytest.mark.slow
def test_a_build_with_3dcrowdnet_and_smpl_accounts_for_everybody(tmp_path, official_state):
    torch.save({"epoch": 1, "network": official_state}, tmp_path / "snapshot.pth.tar")
    store.add("3dcrowdnet", tmp_path / "snapshot.pth.tar")
    (tmp_path / "smpl.pkl").write_bytes(files.python2_pickle(files.body_values()))
    store.add("smpl", tmp_path / "smpl.pkl")
    # The free detector and masks: those of the paper have no weights here.
    chosen = dataclasses.replace(
        config.paper(),
        detect=config.DetectConfig(),
        mask=config.MaskConfig(),
        crop=config.CropConfig(mode="reference", size=128, min_window=1.0),
    )
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    report = run_inline(workspace, chosen, [resolve("samples")], workers=1)
    assert not report.errors
    people = workspace.table("people").to_pylist()
    fits = workspace.table("fits").to_pylist()
    assert people and len(fits) == len(people)
    assert {row["body"] for row in fits} == {"smpl"} and {row["focal"] for row in fits} == {5000.0}
    assert report.count("fit", "failed") == report.count("portray", "failed") == 0
    assert report.count("portray", "items") == len(fits)
    assert PortraitRig.load(workspace.path("rig.safetensors")).body == "smpl"

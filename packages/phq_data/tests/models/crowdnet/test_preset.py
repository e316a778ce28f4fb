"""The preset `paper`: what it asks for, and a build on SMPL with made-up weights from end to end."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import smpl_files as files
import torch

from phq_data import camera, config
from phq_data.errors import ModelError
from phq_data.images.codecs import decode_struct, encode_image, image_struct
from phq_data.interchange import first_crop
from phq_data.interchange.portrait import ExchangeError
from phq_data.models import importers
from phq_data.pipeline import whole
from phq_data.pipeline.local import run_inline
from phq_data.pipeline.model_set import models_for
from phq_data.rig import PortraitRig
from phq_data.sources.resolve import resolve
from phq_data.stages.crop import CANVAS_FOCAL
from phq_data.stages.realign import HEAD_HEIGHT, MOST
from phq_data.workspace import Workspace


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
    assert chosen.align.joints == chosen.crop.mode == "reference" and chosen.mask.include_bystanders
    assert config.PipelineConfig.from_dict(json.loads(chosen.to_json())) == chosen


def test_a_build_without_the_files_stops_at_once_and_says_what_to_add(tmp_path):
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    with pytest.raises(ModelError, match="phq models add 3dcrowdnet FILE"):
        whole.prepare(workspace, config.paper())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("detect.model=yolo", "phq models add yolo11m-pose"),
        ("detect.model=yolo:nothing.pt", "there are no YOLO weights"),
        ("detect.model=keypoints:nothing.json", "there is no keypoint file"),
        ("mask.model=deeplab", "phq models add deeplabv3-resnet101"),
    ],
)
def test_every_model_that_is_not_there_is_told_before_photos_are_read(tmp_path, setting, message):
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    with pytest.raises(ModelError, match=message):
        whole.prepare(workspace, config.default().replace_setting(setting))
    assert not workspace.exists("config.json")


@pytest.fixture
def added_models(tmp_path, official_state):
    torch.save({"epoch": 1, "network": official_state}, tmp_path / "snapshot.pth.tar")
    importers.add("3dcrowdnet", tmp_path / "snapshot.pth.tar")
    (tmp_path / "smpl.pkl").write_bytes(files.python2_pickle(files.body_values()))
    importers.add("smpl", tmp_path / "smpl.pkl")


def small_crops(**crop):
    """The preset with the free detector and masks, as the paper's have no weights here."""
    return dataclasses.replace(
        config.paper(),
        detect=config.DetectConfig(),
        mask=config.MaskConfig(),
        crop=config.CropConfig(mode="reference", size=128, min_window=1.0, **crop),
    )


@pytest.mark.slow
def test_the_preset_takes_given_keypoints_head_boxes_and_vertex_maps(tmp_path, added_models):
    photo = next(file for file in resolve("samples").files() if file.uri.endswith("zidane.jpg"))
    (tmp_path / "photos").mkdir()
    with resolve("samples").open(photo) as stream:
        (tmp_path / "photos" / "two men.jpg").write_bytes(stream.read())
    keypoints = tmp_path / "2d_pose_result_hrnet.json"
    rows = np.full((2, 17, 5), 0.9)
    rows[0, :, :2] = np.random.default_rng(0).uniform((100, 100), (400, 600), (17, 2))
    rows[1, :, :2] = rows[0, :, :2] + [400, 0]
    keypoints.write_text(json.dumps({"two men.jpg": rows[::-1].tolist()}))
    heads = tmp_path / "heads.json"
    heads.write_text(json.dumps({"two men.jpg": [{"bbox": [600, 100, 90, 100]}, {"bbox": []}]}))
    chosen = small_crops(head_boxes=str(heads))
    chosen = dataclasses.replace(chosen, detect=config.DetectConfig(model=f"keypoints:{keypoints}"))
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    report = run_inline(workspace, chosen, [resolve(str(tmp_path / "photos"))])
    assert not report.errors and report.count("align_crop", "kept") == 2
    first, second = windows(workspace)
    assert first[2] == pytest.approx(0.75 * 2.6 * 90, abs=1e-3) and second[2] != first[2]

    maps = tmp_path / "maps"
    maps.mkdir()
    assert first_crop.write(workspace, maps) == 2
    pictures = sorted(maps.iterdir())
    assert [path.name for path in pictures] == ["two men_0.png", "two men_1.png"]
    assert decode_struct(image_struct(pictures[0].read_bytes(), "")).shape == (1024, 1024, 3)
    # A map that shows the head far smaller than the label asks for the largest scale.
    head = np.flatnonzero(models_for(chosen).rig.vertices[:, 1] > HEAD_HEIGHT)
    row = workspace.table("portraits").to_pylist()[0]
    K = np.array([[CANVAS_FOCAL, 0, 0.5], [0, CANVAS_FOCAL, 0.5], [0, 0, 1]])
    posed = models_for(chosen).rig.posed(row["pose"])[head]
    at = camera.project(posed, camera.from_label(row["camera"])[0], K)[0] * 1024
    x, y = np.clip(np.rint(at.mean(axis=0) + (at - at.mean(axis=0)) / 5), 0, 1023).astype(int).T
    pixels = np.full((1024, 1024, 3), 255, np.uint8)
    pixels[y, x] = np.stack([0 * head, head % 255, head // 255], axis=1)
    pictures[0].with_name("two men_0_seg0.png").write_bytes(encode_image(pixels, "png")[0])
    chosen = dataclasses.replace(
        chosen, crop=dataclasses.replace(chosen.crop, vertex_maps=str(maps), size=128)
    )
    again = run_inline(workspace, chosen, [resolve(str(tmp_path / "photos"))])
    assert {report.stage: report.skipped for report in again.reports} == {
        "ingest": True, "detect": True, "fit": True, "align_crop": False, "screen": False,
    }  # fmt: skip
    moved, kept = windows(workspace)
    assert moved[2] == pytest.approx(first[2] / MOST, rel=1e-5)
    assert kept == second
    with pytest.raises(ExchangeError, match=r"without crop\.vertex_maps"):
        first_crop.write(workspace, maps)


def windows(workspace):
    """The portraits' windows, in the order of the keypoint file's people."""
    order = {row["person_id"]: row["order"] for row in workspace.table("people").to_pylist()}
    rows = workspace.table("portraits").to_pylist()
    return [row["window"] for row in sorted(rows, key=lambda row: order[row["person_id"]])]


@pytest.mark.slow
def test_a_build_with_3dcrowdnet_and_smpl_accounts_for_everybody(tmp_path, added_models):
    chosen = small_crops()
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    report = run_inline(workspace, chosen, [resolve("samples")], workers=1)
    assert not report.errors
    people = workspace.table("people").to_pylist()
    fits = workspace.table("fits").to_pylist()
    assert people and len(fits) == len(people)
    assert {row["body"] for row in fits} == {"smpl"} and {row["focal"] for row in fits} == {5000.0}
    assert report.count("fit", "failed") == report.count("align_crop", "failed") == 0
    assert report.count("align_crop", "items") == len(fits)
    assert PortraitRig.load(workspace.path("rig.safetensors")).body == "smpl"

"""Zip pairs and reference folders: read, brought into tables, written again, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import zipfile

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from phq_data import camera
from phq_data.bodies import JOINT_NAMES
from phq_data.images.codecs import decode_struct, encode_image, image_struct
from phq_data.interchange import eg3d, reference, tables
from phq_data.interchange.portrait import ExchangeError, ReferencePortrait
from phq_data.workspace import Workspace

SIZE = 64


@pytest.fixture(autouse=True)
def no_models(tmp_path, monkeypatch):
    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "no-models"))


def portraits(count=5):
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        image = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[10:, 20 : 30 + number] = 255
        label = camera.to_label(camera.from_angles(rng.uniform(-3, 3), rng.uniform(-0.4, 0.4), 0.1))
        pose = rng.normal(0, 0.2, 6).astype(np.float32)
        data = encode_image(image, "png")[0], encode_image(mask, "png")[0]
        made.append(ReferencePortrait(f"{number}.png", *data, label, pose))
    return made


def same(found, wanted):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.image == b.image and a.mask == b.mask
        np.testing.assert_array_equal(a.camera, b.camera)
        np.testing.assert_array_equal(a.pose, b.pose)


def test_a_zip_pair_through_the_tables_and_out_loses_nothing(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    made = portraits(70)  # more than one part
    assert eg3d.write_pair(made, first / "dataset.zip", first / "seg_dataset.zip") == 70
    same(list(reference.read(first)), made)
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    assert tables.into_workspace(reference.read(first), workspace, "first") == 70
    eg3d.write_pair(tables.kept_portraits(workspace), second / "dataset.zip", second / "seg_dataset.zip")
    for name in ("dataset.zip", "seg_dataset.zip"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_pair_is_what_the_reference_loader_expects(tmp_path):
    made = portraits(3)
    eg3d.write_pair(made, tmp_path / "a.zip", tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as images, zipfile.ZipFile(tmp_path / "b.zip") as masks:
        names = [f"0000000000/000000000{i}.png" for i in range(3)]
        assert images.namelist() == masks.namelist() == [*names, "dataset.json"]
        assert {entry.compress_type for entry in images.infolist()} == {zipfile.ZIP_STORED}
        labels = dict(json.loads(images.read("dataset.json"))["labels"])
        assert decode_struct(image_struct(masks.read(names[0]), "")).shape == (SIZE, SIZE)
    numbers = np.array(labels[names[1]])
    np.testing.assert_allclose(numbers[:16].reshape(4, 4), camera.from_label(made[1].camera)[0])
    np.testing.assert_allclose(numbers[16:25], [6.5104165, 0, 0.5, 0, 6.5104165, 0.5, 0, 0, 1])
    np.testing.assert_array_equal(numbers[25:].astype(np.float32), made[1].pose)


def test_mirrored_rows_follow_the_specification(tmp_path):
    made = portraits(2)
    assert eg3d.write_pair(made, tmp_path / "a.zip", tmp_path / "b.zip", mirror=True) == 4
    one, twin = list(eg3d.read_pair(tmp_path / "a.zip", tmp_path / "b.zip"))[:2]
    signs = np.ones(25)
    signs[[1, 2, 3, 4, 8]] = -1
    np.testing.assert_allclose(twin.camera, one.camera * signs, atol=1e-7)
    np.testing.assert_allclose(twin.pose, one.pose * [1, -1, -1, 1, -1, -1])
    pixels = [decode_struct(image_struct(p.image, "")) for p in (one, twin)]
    np.testing.assert_array_equal(pixels[0][:, ::-1], pixels[1])


def test_an_imported_fit_is_what_the_label_says(tmp_path):
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    made = portraits(3)
    tables.into_workspace(made, workspace, "test")
    for row, portrait in zip(workspace.table("fits").to_pylist(), made, strict=True):
        joints = np.array(row["joints"]).reshape(13, 3)
        world = camera.from_label(portrait.camera)[0]
        neck = joints[JOINT_NAMES.index("neck")]
        np.testing.assert_allclose(world[:3, :3] @ neck + world[:3, 3], 0, atol=1e-5)
        np.testing.assert_allclose(
            Rotation.from_rotvec(row["root_orient"]).as_matrix(), world[:3, :3].T, atol=1e-5
        )
        nose = joints[JOINT_NAMES.index("nose")]
        seen = row["focal"] * nose[:2] / nose[2] + row["principal"]
        back = world[:3, :3] @ nose + world[:3, 3]
        expected, _ = camera.project(back[None], world)
        np.testing.assert_allclose(seen / SIZE, expected[0], atol=1e-4)


@pytest.fixture
def authors_folder(tmp_path):
    """`samples_new_crop` beside `samples/images`, as the authors' tools leave them."""
    made = portraits(3)
    folder = tmp_path / "samples_new_crop"
    raw = tmp_path / "samples" / "images"
    for place in (folder / "aligned_images", folder / "mask", raw):
        place.mkdir(parents=True)
    photo = np.random.default_rng(5).integers(0, 255, (120, 200, 3), np.uint8)
    (raw / "two.png").write_bytes(encode_image(photo, "png")[0])
    entries = {}
    for number, portrait in enumerate(made):
        (folder / "aligned_images" / portrait.name).write_bytes(portrait.image)
        (folder / "mask" / portrait.name).write_bytes(portrait.mask)
        pose = np.zeros((1, 72))
        pose[0, 36:39], pose[0, 45:48] = portrait.pose[:3], portrait.pose[3:]
        entries[portrait.name] = {
            "bbox": [10.0, 20.0, 90.0, 90.0],
            "camera_pose": camera.from_label(portrait.camera)[0].tolist(),
            "smpl_pose": pose.tolist(),
            "raw_image_name": "gone.png" if number == 0 else "two.png",
        }
    (folder / "result.json").write_text(json.dumps(entries))
    return folder, made, entries


def test_the_authors_folder_becomes_tables(authors_folder, tmp_path):
    folder, made, _ = authors_folder
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    assert tables.into_workspace(reference.read(folder), workspace, "samples") == 3
    same(list(tables.kept_portraits(workspace)), made)
    photos = workspace.table("photos").to_pylist()
    assert [(p["width"], p["height"]) for p in photos] == [(SIZE, SIZE), (200, 120)]
    windows = [row["window"] for row in workspace.table("portraits").to_pylist()]
    assert windows == [[0, 0, SIZE], [10, 20, 90], [10, 20, 90]]
    assert all(photo["license"] is None for photo in photos)  # nothing is known of rights
    with pytest.raises(ExchangeError, match="holds photos already"):
        tables.into_workspace(made, workspace, "again")


def test_an_import_that_breaks_off_can_be_done_again(authors_folder, tmp_path, monkeypatch):
    folder, made, _ = authors_folder
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    monkeypatch.setattr(tables, "PART", 1)
    spoilt = dataclasses.replace(made[2], image=b"no picture")
    with pytest.raises(ExchangeError, match="cannot be read"):
        tables.into_workspace([*made[:2], spoilt], workspace, "samples")
    assert not workspace.parts("tables/photos") and not workspace.exists("photos")
    with monkeypatch.context() as patched:
        patched.setattr(tables, "_clear", lambda workspace: None)  # a kill leaves what is there
        with pytest.raises(ExchangeError):
            tables.into_workspace([*made[:2], spoilt], workspace, "samples")
    assert len(workspace.parts("tables/photos")) == 2
    assert tables.into_workspace(reference.read(folder), workspace, "samples") == 3
    same(list(tables.kept_portraits(workspace)), made)
    with pytest.raises(ExchangeError, match="holds photos already"):
        tables.into_workspace(made, workspace, "again")


def test_what_is_not_whole_is_named(authors_folder, tmp_path):
    folder, _, entries = authors_folder

    def refused(change, message):
        altered = json.loads(json.dumps(entries))
        change(altered["1.png"])
        (folder / "result.json").write_text(json.dumps(altered))
        with pytest.raises(ExchangeError, match=message):
            list(reference.read(folder))

    refused(lambda e: e.pop("bbox"), "entry of 1.png is not whole")
    refused(lambda e: e.update(smpl_pose=[0.0] * 10), "smpl_pose has 10 numbers")
    refused(lambda e: e["camera_pose"][0].__setitem__(3, 9.0), "label of 1.png: the camera centre")
    refused(lambda e: e.update(intrisics=[]), "first crop")
    (folder / "result.json").write_text(json.dumps(entries))
    (folder / "mask" / "1.png").unlink()
    with pytest.raises(ExchangeError, match=r"there is no file .*mask/1\.png"):
        list(reference.read(folder))
    with pytest.raises(ExchangeError, match=r"neither result\.json nor dataset\.zip"):
        list(reference.read(tmp_path))


def test_zips_that_do_not_belong_together_are_refused(tmp_path):
    made = portraits(3)
    eg3d.write_pair(made, tmp_path / "a.zip", tmp_path / "b.zip")
    eg3d.write_pair(made[:2], tmp_path / "c.zip", tmp_path / "d.zip")
    with pytest.raises(ExchangeError, match=r"0000000002\.png has no mask"):
        list(eg3d.read_pair(tmp_path / "a.zip", tmp_path / "d.zip"))
    (tmp_path / "half.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:500])
    with pytest.raises(ExchangeError, match="no readable zip"):
        list(eg3d.read_pair(tmp_path / "half.zip", tmp_path / "b.zip"))
    with zipfile.ZipFile(tmp_path / "null.zip", "w") as archive:
        archive.writestr("x.png", b"")
        archive.writestr("dataset.json", json.dumps({"labels": None}))
    with pytest.raises(ExchangeError, match="has no labels"):
        list(eg3d.read_pair(tmp_path / "null.zip", tmp_path / "b.zip"))
    with pytest.raises(ExchangeError, match="no portrait to write"):
        eg3d.write_pair([], tmp_path / "e.zip", tmp_path / "f.zip")
    assert not (tmp_path / "e.zip").exists() and not list(tmp_path.glob(".*"))


def test_the_commands(make_workspace, tmp_path):
    from typer.testing import CliRunner

    from phq_data.cli.main import make_app

    made = make_workspace()
    out, again = tmp_path / "out", tmp_path / "again"
    done = CliRunner().invoke(make_app(), ["export", "-w", made.workspace.url, "--mirror", str(out)])
    assert done.exit_code == 0, done.output
    kept = sum(row["kept"] for row in made.screened) - 1  # one is another's near-duplicate
    assert f"{2 * kept} images" in done.output
    done = CliRunner().invoke(make_app(), ["import", str(out), "-w", str(again)])
    assert done.exit_code == 0 and f"{2 * kept} portraits" in done.output
    new = tmp_path / "new"
    done = CliRunner().invoke(make_app(), ["import", str(tmp_path / "nothing"), "-w", str(new)])
    assert isinstance(done.exception, ExchangeError) and not new.exists()
    done = CliRunner().invoke(make_app(), ["export", "-w", str(again), str(out / "dataset.zip")])
    assert isinstance(done.exception, ExchangeError)

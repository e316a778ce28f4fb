"""Rigs of MHR and SOMA files: they move as the body in them does, and labels are carried over to them."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from body_files import NAMES, parts, write_mhr, write_soma_npz, write_soma_usd
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner
from workspace_fixtures import small_workspace

from phq_data import camera
from phq_data.bodies import mhr, soma
from phq_data.bodies.anny import RELAXED_ARMS, BodyError, default_rig, load_body
from phq_data.cli.main import make_app
from phq_data.errors import PhqError
from phq_data.interchange.convert_labels import convert
from phq_data.rendering import renderer
from phq_data.rig import PortraitRig

FORMATS = {"mhr": (mhr, write_mhr), "soma-npz": (soma, write_soma_npz), "soma-usd": (soma, write_soma_usd)}


@pytest.fixture(params=FORMATS)
def read(request, tmp_path):
    """The rig of parts that went through files of one format."""
    if request.param == "soma-usd":
        pytest.importorskip("pxr")
    module, write = FORMATS[request.param]
    return lambda made: module.load_rig(write(tmp_path, made))


def test_a_rig_moves_as_the_body_in_the_file_does(read):
    body, rig = load_body(), read(parts())
    used = np.unique(body.rig_faces)
    poses = np.random.default_rng(0).normal(0, 0.3, (4, 6))
    poses[0] = 0
    for pose in poses:
        wanted = body.posed(np.zeros(1), body.pose(pose))[used]
        assert np.abs(rig.posed(pose) - wanted).max() < 2e-5  # around the neck, in metres
    assert len(rig.faces) == len(body.rig_faces)
    corners = rig.vertices[rig.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outwards = corners.mean(axis=1)[:, 2] * normals[:, 2]
    assert (outwards > 0).mean() > 0.6  # seen from outside, counter-clockwise
    assert rig.metadata["license"] == "Apache-2.0"


def test_landmarks_lie_where_the_body_has_them(read):
    body, rig = load_body(), read(parts())
    known = default_rig()
    for name in ("left_eye", "right_eye", "nose"):
        found, wanted = (
            one.posed_landmarks([0.1, 0.2, 0, 0.1, 0, 0.1])[one.landmark(name)] for one in (rig, known)
        )
        assert np.abs(found - wanted).max() < (0.012 if name == "nose" else 2e-4)
    for name in ("left_shoulder", "right_hip"):
        assert np.abs(rig.landmarks[rig.landmark(name)] - body.joints[body.joint(name)]).max() < 1e-5
    assert "head" not in rig.landmark_names


def covered(rig: PortraitRig, label, pose):
    drawn = renderer.render_mesh(
        rig.posed(pose),
        rig.faces,
        *camera.from_label(np.asarray(label, np.float64)),
        96,
        backend="software",
        shaded=False,
    )
    return drawn.silhouette


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def test_labels_carried_over_cover_the_same_pixels(read):
    """The file's body stands turned and bows its head; its labels say so, and both bodies look alike."""
    arms = {name: tuple(np.degrees(value)) for name, value in RELAXED_ARMS.items()}  # as the other's hang
    stance = arms | {"head": (11, 0, 0), "neck": (6, 5, 0)}
    source, target = default_rig(), read(parts(stance, turned=(3, 8, -4)))
    random = np.random.default_rng(0)
    labels = camera.to_label(camera.from_angles(*random.uniform((-3, -0.3, -0.1), (3, 0.3, 0.1), (8, 3)).T))
    poses = random.uniform(-0.2, 0.2, (8, 6))
    made = convert(labels, poses, source, target)
    before, after = [], []
    for index, (label, pose) in enumerate(zip(labels, poses, strict=True)):
        wanted = covered(source, label, pose)
        before.append(overlap(wanted, covered(target, label, pose)))
        after.append(overlap(wanted, covered(target, made.cameras[index], made.poses[index])))
    assert np.median(before) < 0.9 and np.median(after) > 0.97 and min(after) > 0.93
    assert made.error.max() < 0.005 < made.error_before.min()
    assert "nose" not in target.landmark_names  # its foremost point is the brow


def test_the_commands(tmp_path):
    made = small_workspace(tmp_path / "workspace", 8)
    file = write_mhr(tmp_path, parts())
    run = CliRunner()
    rig, out = tmp_path / "mhr.safetensors", tmp_path / "labels.parquet"
    build = ["rig", "build", "--body", "mhr", str(rig)]
    with pytest.raises(PhqError, match=r"--body mhr needs --model: give a lodN.npz"):
        run.invoke(make_app(), build, catch_exceptions=False)
    done = run.invoke(make_app(), [*build, "--model", str(file)], catch_exceptions=False)
    assert done.exit_code == 0 and "vertices, digest" in done.output
    assert PortraitRig.load(rig).body == "mhr"
    default_rig().save(tmp_path / "from.safetensors")
    command = ["labels", "convert", made.workspace.url, str(out), "--to", str(rig)]
    done = run.invoke(
        make_app(), [*command, "--from", str(tmp_path / "from.safetensors")], catch_exceptions=False
    )
    assert "labels of anny as labels of mhr" in done.output
    assert pq.read_table(out).schema.metadata[b"body"] == b"mhr"


def test_a_body_of_another_frame_or_unit_is_refused(tmp_path):
    made = parts()
    lying = Rotation.from_euler("x", 90, degrees=True)
    for change, said in (
        ({"scale": 0.01}, r"its left shoulder lies \+x of its right one by 0.00"),
        ({"turn": lying}, "its head joint lies above its neck joint by"),
        ({"turn": Rotation.from_euler("y", 180, degrees=True)}, r"its left shoulder lies \+x"),
    ):
        scale, turn = change.get("scale", 1.0), change.get("turn", Rotation.identity())
        moved = type(made)(
            turn.apply(made.vertices) * scale, made.faces, made.names, made.parents,
            turn.apply(made.joints) * scale, made.weights,
        )  # fmt: skip
        with pytest.raises(BodyError, match=said):
            mhr.load_rig(write_mhr(tmp_path, moved))


def test_files_that_hold_something_else_say_what_is_expected(tmp_path):
    made = parts()
    file = write_mhr(tmp_path, made, schema_version=np.array(2))
    with pytest.raises(BodyError, match=r"rig.npz is of schema version 2, and 1 is known: give a lodN.npz"):
        mhr.load_rig(file)
    names = np.array([NAMES[one][1] for one in made.names])
    with pytest.raises(BodyError, match="mhr has no joint 'c_neck' here"):
        mhr.load_rig(write_mhr(tmp_path, made, joint_names=names))
    with pytest.raises(BodyError, match=r"rig.npz is damaged"):  # Python objects, which would be unpickled
        mhr.load_rig(write_mhr(tmp_path, made, joint_names=np.array([{"a": 1}], object)))
    alone = tmp_path / "alone" / file.name
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    with pytest.raises(BodyError, match=r"alone/rig.npz: give a lodN.npz"):
        mhr.load_rig(alone)
    (tmp_path / "mhr_model.pt").write_bytes(b"PK")
    with pytest.raises(BodyError, match="does not hold a mesh of MHR's"):
        mhr.load_rig(tmp_path / "mhr_model.pt")
    np.savez(tmp_path / "slim.npz", mean=np.zeros(3))
    with pytest.raises(BodyError, match=r"lacks joint_names.* in its USD file now"):
        soma.load_rig(tmp_path / "slim.npz")


def test_usd_files_that_hold_something_else_say_what_is_expected(tmp_path):
    pytest.importorskip("pxr")
    with pytest.raises(BodyError, match=r"1 skeletons, meshes c_other, c_skin_strange, not a skeleton"):
        soma.load_rig(write_soma_usd(tmp_path, parts(), "c_skin_strange"))
    (tmp_path / "pointer.usda").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(BodyError, match=r"pointer.usda is no USD file: give SOMA_template_rig.usda"):
        soma.load_rig(tmp_path / "pointer.usda")

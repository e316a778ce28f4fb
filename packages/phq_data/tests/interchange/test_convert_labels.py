"""Labels carried to another body: both, rendered, cover the same pixels; the same body changes nothing."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner
from workspace_fixtures import small_workspace

from benchmarks.body import bust
from phq_data import camera
from phq_data.cli.main import make_app
from phq_data.interchange.convert_labels import convert
from phq_data.rendering import renderer
from phq_data.rig import PortraitRig, RigError

LANDMARKS = {
    "neck": (0, 0, 0), "left_shoulder": (0.17, -0.06, 0), "right_shoulder": (-0.17, -0.06, 0),
    "nose": (0, 0.133, 0.12), "left_ear": (0.075, 0.135, 0.02), "right_ear": (-0.075, 0.135, 0.02),
}  # fmt: skip


def rig(**changes) -> PortraitRig:
    made = bust(24, 16)
    on_head = [name in ("nose", "left_ear", "right_ear") for name in LANDMARKS]
    return dataclasses.replace(
        made, landmarks=np.array(list(LANDMARKS.values()), np.float32), landmark_names=tuple(LANDMARKS),
        landmark_weights=np.array([[0, float(one)] for one in on_head], np.float32), **changes,
    )  # fmt: skip


def leaning(turn=(14.0, 9.0, -6.0), nod=12.0) -> PortraitRig:
    """Another body: it stands turned about the neck when nothing is posed, and its head is bowed."""
    made = rig(body="other")
    whole = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    head = Rotation.from_euler("x", nod, degrees=True).as_matrix()

    def moved(points, weights):
        bowed = (points - made.head_joint) @ head.T + made.head_joint
        share = weights[:, 1:]
        return (((1 - share) * points + share * bowed) @ whole.T).astype(np.float32)

    return dataclasses.replace(
        made,
        vertices=moved(made.vertices, made.weights),
        landmarks=moved(made.landmarks, made.landmark_weights),
        head_joint=(made.head_joint @ whole.T).astype(np.float32),
    )


@pytest.fixture
def labels():
    random = np.random.default_rng(0)
    angles = random.uniform((-3, -0.4, -0.2), (3, 0.4, 0.2), (12, 3))
    return camera.to_label(camera.from_angles(*angles.T)), random.uniform(-0.25, 0.25, (12, 6))


def covered(body, label, pose):
    drawn = renderer.render_mesh(
        body.posed(pose), body.faces, *camera.from_label(label), 128, backend="software", shaded=False
    )
    return drawn.silhouette


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def test_both_bodies_cover_the_same_pixels(labels):
    source, target = rig(), leaning()
    made = convert(labels[0], labels[1], source, target)
    before, after = [], []
    for index, (label, pose) in enumerate(zip(*labels, strict=True)):
        wanted = covered(source, label, pose)
        before.append(overlap(wanted, covered(target, label, pose)))
        after.append(overlap(wanted, covered(target, made.cameras[index], made.poses[index])))
    assert np.median(before) < 0.9 and min(after) > 0.9 and np.median(after) > 0.95
    assert all(b > a for a, b in zip(before, after, strict=True))
    assert made.error.max() < 0.012 and (made.error < 0.4 * made.error_before).all()
    for label in made.cameras:
        camera.check_label(label)


def test_the_same_body_changes_nothing(labels):
    made = convert(labels[0], labels[1], rig(), rig())
    assert np.allclose(made.cameras, labels[0], atol=1e-4)
    assert np.allclose(made.poses, labels[1], atol=1e-4)
    assert made.error.max() < 1e-5


def test_there_and_back_is_where_it_was(labels):
    source, target = rig(), leaning(turn=(4.0, 5.0, 3.0), nod=5.0)
    there = convert(labels[0], labels[1], source, target)
    back = convert(there.cameras, there.poses, target, source)
    turned = [
        np.degrees(np.arccos(np.clip((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2, -1, 1)))
        for a, b in zip(
            camera.from_label(back.cameras)[0], camera.from_label(labels[0])[0], strict=True
        )
    ]  # fmt: skip
    assert max(turned) < 1.5


def test_bodies_of_other_sizes_keep_an_error_that_is_told(labels):
    small = rig(body="small")
    small = dataclasses.replace(
        small, vertices=small.vertices * 0.8, landmarks=small.landmarks * np.float32(0.8),
        head_joint=small.head_joint * np.float32(0.8),
    )  # fmt: skip
    made = convert(labels[0], labels[1], rig(), small)
    assert (made.error > 0.01).all() and (made.error <= made.error_before + 1e-12).all()


def test_rigs_that_share_too_little_are_refused(labels):
    few = dataclasses.replace(rig(), landmark_names=("a", "b", "c", "nose", "left_ear", "right_ear"))
    with pytest.raises(RigError, match=r"share 3 landmarks \(nose, left_ear, right_ear\)"):
        convert(labels[0], labels[1], rig(), few)
    line = dataclasses.replace(rig(), landmarks=np.outer(np.arange(6), [0, 0.1, 0]).astype(np.float32))
    with pytest.raises(RigError, match="lie on a line"):
        convert(labels[0], labels[1], line, rig())
    nothing = convert(np.zeros((0, 25)), np.zeros((0, 6)), rig(), rig())
    assert nothing.cameras.shape == (0, 25)


def test_the_command_writes_labels_with_their_errors(labels, tmp_path):
    made = small_workspace(tmp_path / "workspace", 8)
    rig().save(tmp_path / "from.safetensors")
    leaning().save(tmp_path / "to.safetensors")
    out = tmp_path / "labels.parquet"
    command = ["labels", "convert", made.workspace.url, str(out), "--to", str(tmp_path / "to.safetensors")]
    with pytest.raises(RigError, match="share"):  # the workspace's own rig has two landmarks
        CliRunner().invoke(make_app(), command, catch_exceptions=False)
    assert not out.exists()
    command += ["--from", str(tmp_path / "from.safetensors")]
    result = CliRunner().invoke(make_app(), command, catch_exceptions=False)
    table = pq.read_table(out)
    assert f"{table.num_rows} labels" in result.output and table.num_rows == len(made.portraits)
    assert table.schema.metadata[b"rig"].decode() == leaning().digest
    rows = {row["portrait_id"]: row for row in table.to_pylist()}
    own = made.portraits[2]
    wanted = convert([own["camera"]], [own["pose"]], rig(), leaning())
    assert rows[own["portrait_id"]]["camera"] == pytest.approx(wanted.cameras[0].tolist(), abs=1e-6)
    assert rows[own["portrait_id"]]["error"] == pytest.approx(float(wanted.error[0]), abs=1e-6)

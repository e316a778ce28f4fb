"""The two renderers draw what `camera.project` says, and the same thing."""

import numpy as np
import pytest

from phq_data import camera
from phq_data.rendering import renderer
from phq_data.rendering.rasterizer import rasterise
from phq_data.rig import PortraitRig

BOX_FACES = np.array(
    [[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7], [0, 1, 5], [0, 5, 4],
     [3, 6, 2], [3, 7, 6], [0, 7, 3], [0, 4, 7], [1, 2, 6], [1, 6, 5]], np.int32,
)  # fmt: skip


def box(size, centre) -> np.ndarray:
    below = [[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1]]
    corners = np.array(below + [[x, y, 1] for x, y, _ in below], float)
    return corners * np.asarray(size) / 2 + np.asarray(centre)


def sphere(rings=40, radius=0.1, centre=(0.0, 0.12, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    polar = np.linspace(1e-4, np.pi - 1e-4, rings)
    around = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    points = np.stack([np.sin(p) * np.sin(a), np.cos(p), np.sin(p) * np.cos(a)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(2 * rings), indexing="ij")
    here, right = i * 2 * rings + j, i * 2 * rings + (j + 1) % (2 * rings)
    below, across = here + 2 * rings, right + 2 * rings
    faces = np.stack([here, below, right, right, below, across], -1).reshape(-1, 3)
    return points * radius + np.asarray(centre), faces.astype(np.int32)


def symmetric_rig() -> PortraitRig:
    """A head ball on a shoulder bolster, its right half the mirror image of the left."""
    head, faces = sphere()
    body = (head - [0, 0.12, 0]) * (1.8, 0.6, 0.7) - [0, 0.1, 0]
    half = faces[(head[faces, 0] > -1e-6).all(axis=1)]
    left, triangles = np.concatenate([head, body]), np.concatenate([half, half + len(head)])
    weights = np.zeros((2 * len(left), 2), np.float32)
    weights[: len(head), 1] = weights[len(left) : len(left) + len(head), 1] = 1
    return PortraitRig(
        vertices=np.concatenate([left, left * (-1, 1, 1)]).astype(np.float32),
        faces=np.concatenate([triangles, triangles[:, ::-1] + len(left)]).astype(np.int32),
        weights=weights,
        head_joint=np.array([0, 0.065, 0.03], np.float32),
        landmarks=np.zeros((1, 3), np.float32),
        landmark_weights=np.zeros((1, 2), np.float32),
        landmark_names=("neck",),
    )


def test_rasterised_points_project_onto_their_own_pixels():
    points, faces = sphere()
    pose = camera.from_angles(0.7, 0.3, 0.2)
    size = 300
    at, depth = camera.project(points, pose)
    seen = rasterise(at * size, depth, faces, (size, size))
    hit = seen.interpolate(points, faces)
    again, distance = camera.project(hit, pose)
    centres = np.stack([seen.pixel % size + 0.5, seen.pixel // size + 0.5], 1)
    assert len(hit) > 5000
    assert np.abs(again * size - centres).max() < 0.01
    assert np.abs(distance - seen.depth).max() < 1e-5
    # The nearest surface was chosen: all visible points lie on the half that faces the camera.
    towards = pose[:3, 3] - hit
    outward = hit - [0, 0.12, 0]
    assert ((towards * outward).sum(axis=1) > -2e-3).all()


def test_neighbouring_triangles_leave_no_gap_and_share_no_pixel():
    random = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1) * 8
    grid[1:-1, 1:-1] += random.uniform(-3, 3, (7, 7, 2))
    points = grid.reshape(-1, 2)
    i, j = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    corner = i * 9 + j
    faces = np.stack([corner, corner + 1, corner + 10, corner, corner + 10, corner + 9], -1).reshape(-1, 3)
    seen = rasterise(points, np.ones(81), faces, (64, 64))
    assert len(seen.pixel) == 64 * 64
    alone = [len(rasterise(points, np.ones(81), face[None], (64, 64)).pixel) for face in faces]
    assert sum(alone) == 64 * 64


def test_nearer_triangle_hides_the_farther_whatever_the_order():
    points = np.array([[0, 0], [40, 0], [0, 40], [0, 0], [40, 0], [0, 40]], float)
    depth = np.array([2.0, 2, 2, 1, 1, 1])
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        seen = rasterise(points, depth, np.array(faces), (20, 20))
        assert np.allclose(seen.depth, 1.0)


def test_faces_behind_the_camera_are_left_out():
    vertices = box((0.2, 0.2, 0.2), (0, 0, 10.0))
    drawn = renderer.render_mesh(vertices, BOX_FACES, camera.from_angles(0, 0), camera.INTRINSICS, 64)
    assert drawn.rgba[..., 3].max() == 0
    assert np.isinf(drawn.depth).all()


@pytest.mark.parametrize("yaw", [0.0, np.pi / 2, np.pi])
def test_cube_is_drawn_where_the_camera_projects_it(yaw):
    size = 256
    vertices = box((0.2, 0.1, 0.2), (0, 0.0649, 0))
    pose = camera.from_angles(yaw, 0.0)
    drawn = renderer.render_mesh(vertices, BOX_FACES, pose, camera.INTRINSICS, size)
    at, depth = camera.project(vertices, pose)
    rows, columns = np.nonzero(drawn.silhouette)
    expected = [*at.min(axis=0) * size, *at.max(axis=0) * size]
    assert (
        np.abs(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) - expected).max() < 1
    )
    assert abs(drawn.depth.min() - depth.min()) < 1e-3


def test_silhouettes_colors_and_depths_of_both_backends_agree():
    if renderer._gl().problem is not None:
        pytest.skip(f"no OpenGL here: {renderer._gl().problem}")
    rig = symmetric_rig()
    vertices = rig.posed([0.1, 0.3, 0, 0, 0.2, 0.1])
    colors = np.random.default_rng(0).uniform(0.2, 1, (len(rig.vertices), 3))
    for yaw, pitch, roll in ((0.5, 0.3, 0.1), (2.5, -0.4, -0.2)):
        pose = camera.from_angles(yaw, pitch, roll)
        ours, theirs = (
            renderer.render_mesh(
                vertices, rig.faces, pose, camera.INTRINSICS, 256, colors, backend=name
            )
            for name in ("software", "pyrender")
        )  # fmt: skip
        both, either = ours.silhouette & theirs.silhouette, ours.silhouette | theirs.silhouette
        assert both.sum() / either.sum() > 0.98
        inside = (ours.rgba[..., 3] == 255) & (theirs.rgba[..., 3] == 255)
        difference = np.abs(ours.rgba[..., :3].astype(int) - theirs.rgba[..., :3])[inside]
        assert np.median(difference) <= 2
        solid = inside & np.isfinite(ours.depth) & np.isfinite(theirs.depth)
        assert np.median(np.abs(ours.depth[solid] - theirs.depth[solid])) < 1e-3


def test_mirrored_overlay_is_the_overlay_of_the_mirrored_label():
    rig = symmetric_rig()
    image = np.random.default_rng(1).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    label = camera.to_label(camera.from_angles(1.9, -0.3, 0.2))
    pose = np.array([0.1, 0.3, -0.2, 0.05, 0.4, 0.1])
    here = renderer.overlay(image, rig, label, pose)
    there = renderer.overlay(
        camera.mirror_image(image), rig, camera.mirror_label(label), camera.mirror_pose(pose)
    )
    difference = np.abs(camera.mirror_image(here).astype(int) - there)
    # Half-open pixels may change sides at exact ties; nothing else may differ.
    assert (difference > 3).mean() < 1e-3
    assert (np.abs(here.astype(int) - image) > 20).mean() > 0.1


def test_overlay_leaves_the_picture_alone_where_there_is_no_mesh_and_refuses_other_shapes():
    rig = symmetric_rig()
    image = np.full((96, 96, 3), 200, np.uint8)
    label = camera.to_label(camera.from_angles(0, 0))
    drawn = renderer.overlay(image, rig, label, np.zeros(6))
    assert (drawn[:5] == 200).all()
    assert np.abs(drawn[48, 48].astype(int) - 200).max() > 10
    assert (renderer.overlay(image, rig, label, np.zeros(6), opacity=0.0) == image).all()
    with pytest.raises(renderer.RenderError, match="square RGB"):
        renderer.overlay(image[:50], rig, label, np.zeros(6))


def test_unknown_backend_is_refused_by_name_and_the_note_says_how_to_get_the_other(monkeypatch):
    monkeypatch.setenv(renderer.VARIABLE, "vulkan")
    with pytest.raises(renderer.RenderError, match="vulkan"):
        renderer.backend()
    monkeypatch.delenv(renderer.VARIABLE)
    assert renderer.backend().name == "software"
    assert renderer.VARIABLE in renderer.backend().note

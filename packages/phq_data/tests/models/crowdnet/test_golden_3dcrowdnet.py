"""golden_3dcrowdnet.npz: what the official network computed on a CPU, met block by block."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phq_data.models.crowdnet import placement, rotations
from phq_data.models.crowdnet.checkpoint import expected_tensors, unused_reason
from phq_data.models.crowdnet.fast import FastCrowdNet
from phq_data.models.crowdnet.layout import FOCAL, HEATMAP_SIZE, INPUT_SIZE, graph_adjacency
from phq_data.models.crowdnet.smpl_layer import SmplLayer

TOLERANCE = 2e-5  # relative to a block's largest number
BLOCKS = (
    "joint_heatmap", "early_img_feat", "pose_img_feat", "pose_guided_img_feat", "position_logits",
    "joint_coord", "joint_score", "graph_input", "graph_block0", "graph_block1", "graph_block2",
    "graph_block3", "graph_block4",
)  # fmt: skip


def close(found: torch.Tensor | np.ndarray, wanted: np.ndarray, name: str) -> None:
    found = np.asarray(found)
    assert found.shape == wanted.shape, name
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert error < TOLERANCE, f"{name}: {error:.2e}"


@pytest.fixture(scope="module", params=["plain", "fast"])
def run(request, network, golden_inputs):
    """(every block by name, the regression, the network's decoder) of both forms."""
    form = network if request.param == "plain" else FastCrowdNet(network)
    image, joints, mask, _ = golden_inputs
    blocks: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        result = form(image, joints, mask, lambda name, value: blocks.update({name: value.numpy().copy()}))
        decoded = form.decode(result.latent)
    return blocks, result, decoded


def test_golden_3dcrowdnet_weights_are_those_of_the_file(golden, official_state):
    for key, (total, size, first, last) in zip(
        golden["weight_check_keys"], golden["weight_check_sum_abs_first_last"], strict=True
    ):
        value = official_state["module." + str(key).removeprefix("module.")].double().flatten()
        found = [value.sum(), value.abs().sum(), value[0], value[-1]]
        np.testing.assert_allclose(found, [total, size, first, last], rtol=1e-5, atol=1e-5, err_msg=str(key))


@pytest.mark.parametrize("name", BLOCKS)
def test_golden_3dcrowdnet_blocks(golden, run, name):
    close(run[0][name], golden[f"out_{name}"], name)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_golden_3dcrowdnet_backbone_layers(golden, run, layer):
    found = run[0][f"backbone_layer{layer}"].mean(axis=(2, 3))
    close(found, golden[f"out_backbone_layer{layer}_mean_hw"], f"layer{layer}")


def test_golden_3dcrowdnet_heads_and_pose(golden, run):
    _, result, decoded = run
    close(result.root_6d, golden["out_root_pose_6d"], "root")
    close(result.latent, golden["out_vposer_latent"], "latent")
    close(result.shape, golden["out_shape"], "shape")
    close(result.shape, golden["out_smpl_shape"], "smpl shape")
    close(result.camera, golden["out_cam_param"], "camera")
    close(result.joint_coord * 8, golden["out_joint_img"], "joint_img")
    close(decoded, golden["out_vposer_6d"], "vposer")
    close(rotations.from_6d(decoded.reshape(2, 21, 6)), golden["out_vposer_rotmat"], "matrices")
    close(rotations.body_pose(result.root_6d, decoded), golden["out_smpl_pose_aa"], "pose")


def to_heatmap(points):
    """Heat-map pixels [B, N, 2] of points [B, N, 3] in front of the patch's camera."""
    pixels = FOCAL * points[..., :2] / (points[..., 2:] + 1e-4) + INPUT_SIZE / 2
    return pixels * HEATMAP_SIZE / INPUT_SIZE


def test_golden_3dcrowdnet_body_and_camera(golden, golden_inputs, golden_body, run):
    _, result, decoded = run
    arrays, regressor = golden_body
    boxes = golden_inputs[3]
    crop = placement.crop_translation(result.camera)
    photo = placement.photo_translation(result.camera, boxes)
    close(crop, golden["out_cam_trans_crop"], "crop translation")
    close(photo, golden["out_cam_trans_full"], "photo translation")
    layer = SmplLayer(arrays, regressor)
    pose = rotations.body_pose(result.root_6d, decoded)
    near, far = layer(pose, result.shape, crop), layer(pose, result.shape, photo)
    pelvis = near.joints[:, :1]
    close(near.joints - pelvis, golden["out_joint_cam_rel"], "joints")
    close(far.joints - far.joints[:, :1], golden["out_joint_cam_rel"], "joints, whatever the translation")
    close(near.vertices[:, :64] - pelvis, golden["out_synth_mesh_cam_rel_head64"], "mesh")
    close(far.vertices[:, :64], golden["out_synth_mesh_render_head64"], "placed mesh")
    close(to_heatmap(near.joints), golden["out_joint_proj_crop"], "projection")
    close(to_heatmap(far.joints), golden["out_joint_proj_full"], "projection, far")


def test_golden_3dcrowdnet_adjacency(golden):
    np.testing.assert_allclose(graph_adjacency(), golden["out_graph_adj"], atol=1e-6)


def test_golden_3dcrowdnet_official_state_dict_key_by_key(official_table):
    """Every official key is one of ours with its shape, or named as unused; none of ours is new."""
    ours = {key: tuple(tensor.shape) for key, tensor in expected_tensors().items()}
    official = {row["key"].removeprefix("module."): tuple(row["shape"]) for row in official_table}
    assert set(ours) <= set(official)
    assert {key: official[key] for key in ours} == ours
    rest = sorted(set(official) - set(ours))
    assert all(unused_reason(key) for key in rest), rest
    assert {key.split(".")[0] for key in rest} == {"human_model_layer", "vposer"}

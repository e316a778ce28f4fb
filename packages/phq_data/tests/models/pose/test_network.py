"""What is told of a pose network's file and of its description, and how bad ones are refused."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pose_networks as made
import pytest
from onnx import TensorProto, helper

from phq_data.errors import ModelError
from phq_data.files import file_sha256
from phq_data.models import onnx as sessions
from phq_data.models.pose.description import PoseDescription
from phq_data.models.pose.network import complete, open_network
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.models.user_network import beside


def completed(path, **described):
    return complete(path, file_sha256(path), PoseDescription(**described))


@pytest.mark.parametrize(
    ("head", "options", "expected"),
    [
        ("simcc", {}, {"layout": "coco17", "head": "simcc", "outputs": ("simcc_x", "simcc_y")}),
        ("simcc", {"names": ("b", "a")}, {"head": "simcc", "outputs": ("b", "a")}),
        ("simcc", {"count": 26}, {"layout": "halpe26"}),
        ("simcc", {"count": 133, "size": (64, 96)}, {"layout": "wholebody133", "input_size": (64, 96)}),
        ("heatmap", {}, {"layout": "coco17", "head": "heatmap", "outputs": ("heatmap",), "udp": True}),
    ],
)
def test_what_the_file_says_is_not_asked(tmp_path, head, options, expected):
    path = made.write(tmp_path / "net.onnx", head, **options)
    told, assumed = completed(path)
    assert {name: getattr(told, name) for name in expected} == expected
    assert told.title == "net" and told.license == "unknown" and told.input_size is not None
    assert any(str(told.layout) in sentence for sentence in assumed)
    assert any("unbiased" in sentence for sentence in assumed) == (head == "heatmap")
    # What was found out is a description that says the same.
    again, still = complete(path, file_sha256(path), PoseDescription.read(told.to_json(), "it"))
    assert again == told and not any(str(told.layout) in sentence for sentence in still)


def test_the_outputs_may_come_in_either_order(tmp_path):
    """By their lengths: what belongs to the height is y."""
    model = made.network(names=("first", "second"))
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(outputs[::-1])
    onnx.save(model, tmp_path / "net.onnx")
    assert completed(tmp_path / "net.onnx")[0].outputs == ("first", "second")


def test_other_outputs_do_not_matter(tmp_path):
    model = made.network()
    model.graph.node.append(helper.make_node("Shape", ["image"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.INT64, None))
    onnx.save(model, tmp_path / "net.onnx")
    assert completed(tmp_path / "net.onnx")[0].head == "simcc"


def test_any_size_of_image_needs_one_that_is_said(tmp_path):
    path = made.write(tmp_path / "net.onnx", shape=["batch", 3, "height", "width"])
    with pytest.raises(ModelError, match=r'takes images of any size: .*\{"input_size": \[192, 256\]\}'):
        completed(path)
    assert completed(path, input_size=made.SIZE)[0].input_size == made.SIZE
    with pytest.raises(ModelError, match=r"net\.onnx is 96 x 128 pixels, not as 'input_size' says"):
        completed(made.write(tmp_path / "net.onnx"), input_size=(192, 256))


def small(inputs, outputs, nodes=(), constants=()):
    """A graph with those inputs and outputs: (name, type, shape)."""
    values = [[helper.make_tensor_value_info(*one) for one in some] for some in (inputs, outputs)]
    graph = helper.make_graph(list(nodes), "g", values[0], values[1], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


IMAGE = ("image", TensorProto.FLOAT, [1, 3, 128, 96])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            made.network(dtype=TensorProto.FLOAT16),
            r"wants tensor\(float16\) as input: export it with 32-bit",
        ),
        (made.network(dtype=TensorProto.UINT8), r"wants tensor\(uint8\) as input: export it with 32-bit"),
        (made.network(shape=[8, 3, 128, 96]), r"takes 8 images at a time: export it for one"),
        (made.network(poison=True), r"numbers that are not finite \(simcc_x\): its weights are damaged"),
        (made.network(count=21), r"finds 21 keypoints, which is no known layout: name all its keypoints"),
        (
            small([IMAGE], [("y", TensorProto.FLOAT, None)], [helper.make_node("Relu", ["image"], ["y"])]),
            r"finds 3 keypoints, which is no known layout",
        ),
        (
            small([IMAGE, ("more", *IMAGE[1:])], [("y", TensorProto.FLOAT, None)],
                  [helper.make_node("Add", ["image", "more"], ["y"])]),
            r"wants 2 inputs \(image, more\); a pose network has one",
        ),
        (
            small([IMAGE], [("y", TensorProto.FLOAT, None)],
                  [helper.make_node("GlobalMaxPool", ["image"], ["y"])]),
            r"the outputs of .* \(y \[1, 3, 1, 1\]\) for an input of 96 x 128 pixels are neither a SimCC",
        ),
        (
            small([("image", TensorProto.FLOAT, [1, 4, 128, 96])], [("y", TensorProto.FLOAT, None)],
                  [helper.make_node("Relu", ["image"], ["y"])]),
            r"is \[1, 4, 128, 96\], not an image \[batch, 3, height, width\]",
        ),
        (
            small([IMAGE], [("y", TensorProto.INT64, None)], [helper.make_node("ArgMax", ["image"], ["y"])]),
            r"the output y of .* is no array of 32-bit",
        ),
        (
            small([IMAGE], [("y", TensorProto.FLOAT, None)], [helper.make_node("Grow", ["image"], ["y"])]),
            r"is no network that ONNX Runtime can run \(.*Grow",
        ),
    ],
)  # fmt: skip
def test_files_that_are_no_pose_network_are_refused_in_one_sentence(tmp_path, model, message):
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=rf"net\.onnx.*{message}|{message}") as refused:
        completed(tmp_path / "net.onnx")
    assert "net.onnx" in str(refused.value) and "\n" not in str(refused.value)


def test_the_runtime_writes_nothing_beside_the_sentence(tmp_path, capfd):
    model = made.network()
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "mode":
                attribute.s = b"sharp"
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"net\.onnx is no network that ONNX Runtime can run \(.*sharp"):
        completed(tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", [b"", b"no network", made.network().SerializeToString()[:-500]])
def test_damaged_files_are_refused(tmp_path, data):
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"net\.onnx is no network that ONNX Runtime can run"):
        completed(tmp_path / "net.onnx")


def test_weights_in_another_file_are_refused_wherever_it_lies(tmp_path, monkeypatch):
    onnx.save(made.network(), tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin",
              size_threshold=1000)  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(ModelError, match=r"net\.onnx keeps its weights in another file: put all into one"):
        completed(tmp_path / "net.onnx")
    whole = onnx.load(tmp_path / "net.onnx")
    onnx.save(whole, tmp_path / "whole.onnx")  # as the sentence says
    assert completed(tmp_path / "whole.onnx")[0].head == "simcc"


def test_a_file_that_changes_during_a_build_is_told(tmp_path):
    path = made.write(tmp_path / "net.onnx")
    network = open_network(path, PoseDescription())
    made.write(path, scale=2.0)
    sessions.open_file.cache_clear()  # as in another process
    with pytest.raises(ModelError, match=r"net\.onnx has changed since it was looked at; start again"):
        network.keypoints(np.zeros((1, *made.SIZE[::-1], 3), np.uint8))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"layout": "mpii16"}, r"'layout' is one of coco17, wholebody133, halpe26"),
        ({"layuot": "coco17"}, r"no setting 'layuot'; did you mean 'layout'\?"),
        ({"keypoints": ["nose", "left_eye"]}, r"'keypoints' lacks right_eye, .*right_ankle: the"),
        ({"layout": "coco17", "keypoints": ["nose"]}, r"'layout' and 'keypoints' say the same thing"),
        ({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, r"'mean' and 'std' are of pixels"),
        ({"std": [1.0, 0.0, 1.0]}, r"no 'std' is 0 or less"),
        ({"padding": 0.0}, r"'padding' \(at most 4\) and 'score_scale' are more than 0"),
        ({"input_size": [192]}, r"input_size"),
        ([1, 2], r"a JSON object"),
    ],
)  # fmt: skip
def test_wrong_descriptions_are_refused_by_name(tmp_path, entries, message):
    path = made.write(tmp_path / "net.onnx")
    beside(path).write_text(json.dumps(entries))
    with pytest.raises(ModelError, match=rf"net\.json is to describe a pose network: .*{message}"):
        PoseDescription.read_beside(path)


def test_descriptions_that_do_not_agree_with_the_file_are_refused(tmp_path):
    path = made.write(tmp_path / "net.onnx")
    for described, message in (
        ({"layout": "wholebody133"}, "finds 17 keypoints, and its description says 133"),
        ({"head": "heatmap"}, "neither a SimCC"),
        ({"outputs": ("simcc_x", "z")}, "has no output 'z'; it has simcc_x, simcc_y"),
        ({"outputs": ("simcc_y", "simcc_x")}, "neither a SimCC"),
    ):
        with pytest.raises(ModelError, match=message):
            completed(path, **described)


@pytest.mark.parametrize("name", ["LShoulder", "left shoulder", "Left-Shoulder", " l_shoulder"])
def test_names_of_keypoints_may_be_written_as_usual(name):
    names = list(COCO_KEYPOINTS)
    names[names.index("left_shoulder")] = name
    assert PoseDescription(keypoints=tuple(names)).order[5] == names.index(name)

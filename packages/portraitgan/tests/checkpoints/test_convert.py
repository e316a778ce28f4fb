"""Converting official checkpoints: pickles built here in the official format, and hostile ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phq_data.rig import PortraitRig
from portraitgan.checkpoints.convert import ConvertError, convert, plane_axes
from portraitgan.checkpoints.official_pickle import PickleRefusedError, read_pickle
from portraitgan.checkpoints.weights import WeightsError, load_discriminator, load_generator
from portraitgan.commands.main import main
from portraitgan.config import EG3D_AXES, TRI_GRID_AXES, DeformationConfig, ModelConfig
from portraitgan.presets import official, tiny, without_pose

MakeBust = Callable[..., PortraitRig]
RAN: list[str] = []


def same(config: ModelConfig) -> ModelConfig:
    """What a conversion can know: names and search settings are ours."""
    generator = replace(
        config.generator,
        deformation=DeformationConfig(mode=config.generator.deformation.mode),
        render=replace(config.generator.render, max_points=2**21),
    )
    return replace(official(config), name="converted", generator=generator)


@pytest.mark.parametrize("cuda", [False, True])
def test_official_checkpoint(official_pickle: Any, tmp_path: Path, cuda: bool) -> None:
    """Weights, config and the face selection arrive; tensors that lay on a GPU arrive on the CPU."""
    path, generator, discriminator, rig = official_pickle(tiny(), cuda=cuda)
    if cuda:
        assert b"cuda:0" in path.read_bytes()
    converted = convert(path, tmp_path / "out", rig)
    assert converted.config == same(tiny())
    assert converted.face_selection == "matches"
    assert converted.dropped == 2 * (3 + 2) + 2 * 1
    for ours, theirs in (
        (load_generator(tmp_path / "out"), generator),
        (load_generator(tmp_path / "out", ema=False), generator),
        (load_discriminator(tmp_path / "out"), discriminator),
    ):
        expected = theirs.state_dict()
        assert ours.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    facts = json.loads((tmp_path / "out" / "converted.json").read_text())
    assert facts["rig_faces"] == len(rig.faces)
    written = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert b"v_template" not in written


def test_panohead_like_checkpoint(official_pickle: Any, tmp_path: Path) -> None:
    config = without_pose(tiny())
    path, *_ = official_pickle(config)
    converted = convert(path, tmp_path / "out")
    assert converted.face_selection == "none"
    assert converted.config == same(config)


def test_another_body_is_noticed(official_pickle: Any, tmp_path: Path, make_bust: MakeBust) -> None:
    path, _, _, rig = official_pickle(tiny())
    with pytest.raises(ConvertError, match="the rig has"):
        convert(path, tmp_path / "out", make_bust(rings=9, around=6))
    moved = replace(rig, vertices=rig.vertices + np.array([0.3, 0, 0], np.float32))
    with pytest.raises(ConvertError, match="only one of checkpoint and rig"):
        convert(path, tmp_path / "out", moved)
    assert not (tmp_path / "out").exists()


def test_unknown_rendering_options_are_refused(official_pickle: Any, tmp_path: Path) -> None:
    path, *_ = official_pickle(tiny(), options={"c_scale": 0.5})
    with pytest.raises(ConvertError, match=r"c_scale is 0\.5: a scaled condition"):
        convert(path, tmp_path / "out")
    path, *_ = official_pickle(
        tiny(), options={"c_scale": 1.0, "clamp_mode": "softplus", "white_back": False}
    )
    assert convert(path, tmp_path / "out").config == same(tiny())


class Hostile:
    """Pickles into a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("numbers", [13 * 10**8, 10**12])
def test_a_tensor_larger_than_its_memory_is_refused(tmp_path: Path, numbers: int) -> None:
    """Of stride 0: a few bytes that become GiBs as soon as they are copied."""
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.UntypedStorage(2), dtype=torch.float16, _internal=True
    )
    rebuild = Hostile(torch._utils._rebuild_tensor_v2, storage, 0, (numbers,), (0,), False, OrderedDict())
    module = {"_parameters": {}, "_buffers": {"extra": rebuild}, "_modules": {}}
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps({"G_ema": module}))
    with pytest.raises(PickleRefusedError, match="more numbers than its memory"):
        convert(path, tmp_path / "out")


def test_a_graph_of_countless_paths_is_refused(tmp_path: Path) -> None:
    module: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    for _ in range(30):  # 2**30 paths to the innermost
        module = {"_parameters": {}, "_buffers": {}, "_modules": {"a": module, "b": module}}
    path = tmp_path / "graph.pkl"
    path.write_bytes(pickle.dumps({"G_ema": module}))
    started = time.monotonic()
    with pytest.raises(PickleRefusedError, match=r"graph\.pkl: its modules have more than"):
        convert(path, tmp_path / "out")
    assert time.monotonic() - started < 5


def test_a_module_that_contains_itself_is_refused(tmp_path: Path) -> None:
    module: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    module["_modules"]["again"] = module
    path = tmp_path / "loop.pkl"
    path.write_bytes(pickle.dumps({"G_ema": module}))
    with pytest.raises(PickleRefusedError, match="contains itself"):
        convert(path, tmp_path / "out")


def _note(text: str) -> None:
    RAN.append(text)


@pytest.mark.parametrize(
    "content",
    [
        Hostile(os.system, "touch /tmp/portraitgan-was-here"),
        Hostile(eval, "1 + 1"),
        Hostile(exec, "import os"),
        Hostile(__import__, "os"),
        Hostile(open, "/etc/passwd"),
        Hostile(pickle.loads, pickle.dumps(1)),
        Hostile(_note, "a function of this test"),
    ],
)
def test_hostile_pickles_are_refused(content: Hostile, tmp_path: Path) -> None:
    RAN.clear()
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps({"G_ema": content}))
    with pytest.raises(PickleRefusedError, match="nothing was run"):
        convert(path, tmp_path / "out")
    assert RAN == [] and not (tmp_path / "out").exists()


def test_calls_of_known_libraries_do_nothing(tmp_path: Path) -> None:
    """A name of torch or numpy becomes an empty object, whatever it is called with."""
    written = tmp_path / "written.pt"
    path = tmp_path / "call.pkl"
    calls = {"x": Hostile(torch.serialization.save, 1, str(written)), "y": Hostile(np.save, "z", 1)}
    path.write_bytes(pickle.dumps(calls))
    content = read_pickle(path)
    assert set(content) == {"x", "y"} and not written.exists() and not (tmp_path / "z.npy").exists()


def test_hostile_memory_of_a_tensor(tmp_path: Path) -> None:
    """The bytes of a tensor are a pickle of their own; they get torch's loader that knows only tensors."""
    RAN.clear()
    inner = io.BytesIO()
    torch.save(Hostile(_note, "inside a tensor"), inner)
    path = tmp_path / "inner.pkl"
    path.write_bytes(pickle.dumps({"G_ema": Hostile(torch.storage._load_from_bytes, inner.getvalue())}))
    with pytest.raises(PickleRefusedError):
        convert(path, tmp_path / "out")
    assert RAN == []


def one_hash(count: int) -> bytes:
    """A pickle of a table whose keys are different numbers with the hash 0."""
    numbers = (pickle.encode_long(k * sys.hash_info.modulus) for k in range(1, count + 1))
    return b"\x80\x02}(" + b"".join(b"\x8a" + bytes([len(one)]) + one + b"N" for one in numbers) + b"u."


def test_a_checkpoint_of_something_else_is_told_in_few_words(tmp_path: Path) -> None:
    """However many things are in it."""
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps({f"{k} " + "long " * 100: None for k in range(1000)}))
    with pytest.raises(ConvertError, match="and 995 more") as caught:
        convert(path, tmp_path / "out")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.", "keys are neither texts nor numbers"),
        (one_hash(60_000), "keys are neither texts nor numbers"),
        (b"\x80\x02}(G" + struct.pack(">d", 0.5) + b"Nu.", "keys are neither texts nor numbers"),
        (b"\x80\x02]p99999999999\n.", "under no number"),
        (b"\x80\x02}K\x01b.", "tries to change what reads it"),
        (b"\x80\x02Q.", "not a readable pickle"),
        (b"\x80\x02K\x01Q.", "outside the file"),
        (b"\x80\x02\x82\x01.", "operation b'\\\\x82'"),
    ],
)
def test_a_pickle_cannot_keep_its_reader_busy_or_change_it(data: bytes, message: str, tmp_path: Path) -> None:
    """A key whose hash takes 2**60 steps, a state for a table, references to elsewhere, an extension code."""
    path = tmp_path / "made.pkl"
    path.write_bytes(data)
    with pytest.raises(PickleRefusedError, match=message):
        read_pickle(path)


def test_tensors_take_no_more_memory_than_the_file_has(tmp_path: Path) -> None:
    """The same bytes, remembered once and loaded again and again."""
    inner = io.BytesIO()
    torch.save(torch.zeros(100)._typed_storage(), inner)
    path = tmp_path / "made.pkl"
    twice = Hostile(torch.storage._load_from_bytes, inner.getvalue())
    path.write_bytes(pickle.dumps({"a": twice}))
    assert set(read_pickle(path)) == {"a"}
    again = Hostile(torch.storage._load_from_bytes, twice.call[1][0])
    path.write_bytes(pickle.dumps({"a": twice, "b": again}))
    with pytest.raises(PickleRefusedError, match="more memory than the file"):
        read_pickle(path)


def test_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.pkl"
    text.write_text("this is no pickle")
    empty = tmp_path / "empty.pkl"
    empty.write_bytes(pickle.dumps({"weights": torch.ones(3)}))
    with pytest.raises(PickleRefusedError, match="not a readable pickle"):
        convert(text, tmp_path / "out")
    with pytest.raises(ConvertError, match="no generator 'G_ema'"):
        convert(empty, tmp_path / "out")
    with pytest.raises(PickleRefusedError, match="no file"):
        convert(tmp_path / "missing.pkl", tmp_path / "out")
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_generator(tmp_path)
    assert main(["convert", str(empty), str(tmp_path / "out")]) == 1
    assert "no generator" in capsys.readouterr().err


def test_command(official_pickle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _, _, rig = official_pickle(tiny())
    rig.save(tmp_path / "rig.safetensors")
    out = tmp_path / "out"
    assert main(["convert", str(path), str(out), "--rig", str(tmp_path / "rig.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert "generator_ema" in printed and "are the checkpoint's" in printed


def test_damaged_weights_are_named(official_pickle: Any, tmp_path: Path) -> None:
    path, *_ = official_pickle(tiny())
    convert(path, tmp_path / "out")
    config = (tmp_path / "out" / "config.json").read_text()
    changed = json.loads(config)
    changed["generator"]["decoder"]["hidden"] = 24
    (tmp_path / "out" / "config.json").write_text(json.dumps(changed))
    with pytest.raises(WeightsError, match=r"decoder\.net\.0\.weight is \(16, 8\), expected \(24, 8\)"):
        load_generator(tmp_path / "out")


def test_planes_of_the_checkpoint() -> None:
    """EG3D's plane matrices (columns of their inverses are the world axes of a plane) give its axes."""
    first = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    second = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    eg3d_third, our_third = [[0, 0, 1], [1, 0, 0], [0, 1, 0]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]

    def attributes(third: list[list[int]]) -> dict[str, Any]:
        matrices = torch.tensor([first, second, third], dtype=torch.float32)
        return {"_modules": {"renderer": {"plane_axes": matrices}}}

    assert plane_axes(attributes(eg3d_third)) == EG3D_AXES
    assert plane_axes(attributes(our_third)) == TRI_GRID_AXES
    assert plane_axes({}) == TRI_GRID_AXES
    with pytest.raises(ConvertError, match="world axes"):
        plane_axes(attributes([[1, 1, 0], [0, 1, 0], [0, 0, 1]]))

"""Checkpoints: the official format loads key by key, everything else is refused with one sentence."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from phq_data.errors import ModelError
from phq_data.models.crowdnet import checkpoint


@pytest.fixture
def write(tmp_path, official_state):
    """Write a checkpoint after `change` has had its way with the state dict."""

    def make(change=None, **content):
        state = {key: value.clone() for key, value in official_state.items()}
        if change is not None:
            change(state)
        path = tmp_path / "snapshot.pth.tar"
        optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
        torch.save({"epoch": 6, "network": state, "optimizer": optimizer, **content}, path)
        return path

    return make


def test_the_official_format_loads_and_names_what_it_does_not_use(write, official_state, tmp_path):
    def with_smpl(state):
        state["module.human_model_layer.th_weights"] = torch.zeros(6890, 24)

    loaded = checkpoint.read_official(write(with_smpl))
    assert loaded.epoch == 6
    assert "human_model_layer.th_weights" in loaded.unused
    assert "vposer.vposer.bodyprior_enc_mu.weight" in loaded.unused
    assert "human_model_layer.* (1 tensors, SMPL's arrays" in loaded.note and "bodyprior_enc_*" in loaded.note
    used = {"module." + key for key in loaded.state} | {"module." + key for key in loaded.unused}
    assert used == set(official_state) | {"module.human_model_layer.th_weights"}
    checkpoint.save(loaded, tmp_path / "weights.safetensors")
    network = checkpoint.load(tmp_path / "weights.safetensors")
    key = "rotation_net.graph_block.3.graph_block2.fcbn_list.14.0.weight"
    assert torch.equal(network.state_dict()[key], official_state["module." + key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("module.position_net.conv.0.bias"), "another network: it lacks 'position_net"),
        (lambda s: s.update({"module.more": torch.zeros(1)}), "unknown key 'more'"),
        (lambda s: s.update({"plain.key": torch.zeros(1)}), "does not begin with 'module.'"),
        (
            lambda s: s.update({"module.position_net.conv.0.bias": torch.zeros(80)}),
            r"'position_net.conv.0.bias' is \[80\], not \[120\]",
        ),
        (
            lambda s: s.update({"module.position_net.conv.0.bias": torch.full((120,), torch.nan)}),
            "not finite",
        ),
        (
            lambda s: s.update(
                {"module.position_net.conv.0.bias": torch.full((120,), 1e300, dtype=torch.float64)}
            ),
            "not finite",  # in float32
        ),
        (lambda s: s.update({"module.position_net.conv.0.bias": "text"}), "is str, not"),
        (
            lambda s: s.update({"module.position_net.conv.0.bias": torch.zeros(120, dtype=torch.int64)}),
            "numbers of another kind",
        ),
        (
            lambda s: s.update({"module.position_net.conv.0.bias": torch.zeros(120).to_sparse()}),
            "_rebuild_sparse_tensor",
        ),
        (lambda s: s["module.backbone.bn1.running_var"].neg_(), "negative variances"),
        (
            lambda s: [s.pop(key) for key in list(s) if ".vposer." in key],
            "does not hold VPoser's weights",
        ),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(write, change, message):
    with pytest.raises(ModelError, match=message):
        checkpoint.read_official(write(change))


def test_vposers_own_snapshot_fills_in(write, official_state, tmp_path):
    start = "module.vposer.vposer."
    vposer = {k.removeprefix(start): v for k, v in official_state.items() if k.startswith(start)}
    torch.save(vposer, tmp_path / "vposer.pt")
    path = write(lambda s: [s.pop(key) for key in list(s) if ".vposer." in key])
    loaded = checkpoint.read_official(path, tmp_path / "vposer.pt")
    key = "bodyprior_dec_out.weight"
    assert torch.equal(loaded.state["vposer.vposer." + key], vposer[key])


def test_files_that_are_no_checkpoint_are_refused(tmp_path, write):
    with pytest.raises(ModelError, match="there is no file"):
        checkpoint.read_official(tmp_path / "nothing")
    text = tmp_path / "text"
    text.write_text("not a checkpoint")
    with pytest.raises(ModelError, match="text"):
        checkpoint.read_official(text)
    torch.save({"weights": 1}, tmp_path / "other")
    with pytest.raises(ModelError, match="no entry 'network'"):
        checkpoint.read_official(tmp_path / "other")
    whole = write()
    half = tmp_path / "half"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ModelError, match="half is damaged"):
        checkpoint.read_official(half)


def test_damage_anywhere_is_one_sentence(tmp_path):
    small = {"network": {"module.x": torch.arange(40.0)}, "epoch": 3}
    rng = torch.Generator().manual_seed(5)
    for zipped in (True, False):
        torch.save(small, tmp_path / "small", _use_new_zipfile_serialization=zipped)
        whole = (tmp_path / "small").read_bytes()
        for _ in range(150):
            end, place, value = (int(torch.randint(n, (), generator=rng)) for n in (len(whole), 10**6, 256))
            data = bytearray(whole[: end + 1])
            data[place % len(data)] = value
            (tmp_path / "changed").write_bytes(data)
            with pytest.raises(ModelError, match="changed"):
                checkpoint.read_official(tmp_path / "changed")


class _Hostile:
    def __reduce__(self):
        return os.mkdir, (os.environ["HOSTILE"],)


def test_nothing_in_a_checkpoint_is_executed(tmp_path, monkeypatch):
    target = tmp_path / "made"
    monkeypatch.setenv("HOSTILE", str(target))
    torch.save({"network": {"module.x": _Hostile()}}, tmp_path / "zip.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"network": _Hostile()}))
    for name in ("zip.pth", "bare.pth"):
        with pytest.raises(ModelError, match="refused"):
            checkpoint.read_official(tmp_path / name)
        assert not target.exists()

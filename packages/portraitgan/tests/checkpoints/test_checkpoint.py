"""Checkpoints are there whole or not at all, say what is wrong with them, and fall back."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from phq_data.files import write_text
from portraitgan import presets
from portraitgan.checkpoints import checkpoint
from portraitgan.checkpoints.checkpoint import Checkpoint, CheckpointError, State
from portraitgan.checkpoints.weights import (
    WeightsError,
    load_discriminator,
    load_generator,
    make_discriminator,
    make_generator,
)

DEFAULT = presets.tiny()


def made(images: int, value: float = 0.5) -> Checkpoint:
    networks = {}
    for name, make in (("generator", make_generator), ("discriminator", make_discriminator)):
        torch.manual_seed(images)
        state = make(DEFAULT).state_dict()
        networks[name] = state
        networks[f"{name}_ema"] = {key: tensor * value for key, tensor in state.items()}
    return Checkpoint(
        DEFAULT, State(images, images // 8, "1", "abc", {"position": images}), networks, {"x": torch.ones(2)}
    )


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    written = made(12_344)
    folder = checkpoint.save(tmp_path, written)
    assert folder == tmp_path / "checkpoints" / "kimg-000012.344"
    assert checkpoint.latest(tmp_path) == folder
    read = checkpoint.load(folder)
    assert (read.config, read.state) == (written.config, written.state)
    for name in checkpoint.NETWORKS:
        assert set(read.networks[name]) == set(written.networks[name])
        assert all(torch.equal(read.networks[name][k], v) for k, v in written.networks[name].items())
    assert torch.equal(read.optimiser["x"], torch.ones(2))


def test_a_checkpoint_is_what_inference_loads(tmp_path: Path) -> None:
    """Like a converted official checkpoint: the EMA unless asked otherwise."""
    written = made(1000)
    folder = checkpoint.save(tmp_path, written)
    averaged = load_generator(folder).state_dict()
    assert all(torch.equal(averaged[k], v) for k, v in written.networks["generator_ema"].items())
    judge = load_discriminator(folder, ema=False).state_dict()
    assert all(torch.equal(judge[k], v) for k, v in written.networks["discriminator"].items())


def shorten(folder: Path) -> None:
    file = folder / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flip(folder: Path) -> None:
    file = folder / "optimiser.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def lose(folder: Path) -> None:
    (folder / "discriminator_ema.safetensors").unlink()


def garble(folder: Path) -> None:
    (folder / "state.json").write_text("{")


def no_format(folder: Path) -> None:
    (folder / "state.json").write_text("{}")


def other_sampler(folder: Path) -> None:
    file = folder / "state.json"
    text = file.read_text()
    assert '"position": 2000' in text
    file.write_text(text.replace('"position": 2000', '"position": 2001'))


def no_files(folder: Path) -> None:
    """Somebody who edits with care: the digest fits, the checks of the files are gone."""
    file = folder / "state.json"
    state = {**json.loads(file.read_text()), "files": {}}
    del state["digest"]
    text = json.dumps(state, sort_keys=True, separators=(",", ":"))
    file.write_text(json.dumps({**state, "digest": hashlib.sha256(text.encode()).hexdigest()}))


def no_digest(folder: Path) -> None:
    file = folder / "state.json"
    state = json.loads(file.read_text())
    del state["digest"]
    file.write_text(json.dumps(state))


def not_a_number(folder: Path) -> None:
    file = folder / "state.json"
    file.write_text(file.read_text().replace('"position": 2000', '"position": NaN'))


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (shorten, "generator.safetensors is damaged"),
        (flip, "optimiser.safetensors is damaged"),
        (lose, "lacks discriminator_ema"),
        (garble, "state.json is damaged"),
        (no_format, "names no format"),
        (other_sampler, "does not match its digest"),
        (no_digest, "does not match its digest"),
        (no_files, "does not list config.json"),
        (not_a_number, "holds NaN"),
    ],
)
def test_a_damaged_latest_falls_back_and_says_so(
    damage: Callable[[Path], None], word: str, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, made(1000))
    damage(checkpoint.save(tmp_path, made(2000)))
    said: list[str] = []
    found = checkpoint.recover(tmp_path, said.append)
    assert found is not None and found.state.images == 1000
    assert len(said) == 1 and word in said[0] and "falling back" in said[0]
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["kimg-000001"]
    assert (tmp_path / "checkpoints" / "damaged-kimg-000002").is_dir()


def test_every_flipped_bit_of_the_state_is_found(tmp_path: Path) -> None:
    """27 of 400 went by when the file had no digest: another place of the sampler, another stage."""
    folder = checkpoint.save(tmp_path, made(1000))
    file = folder / "state.json"
    data = file.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(data)), 300):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        try:
            assert checkpoint.read_state(folder) == made(1000).state, bit  # white space may change
        except CheckpointError:
            continue


def test_a_checkpoint_of_the_format_before_is_read_and_told(tmp_path: Path) -> None:
    file = checkpoint.save(tmp_path, made(1000)) / "state.json"
    state = json.loads(file.read_text())
    del state["digest"]
    file.write_text(json.dumps({**state, "format": 1}, indent=2) + "\n")
    said: list[str] = []
    found = checkpoint.recover(tmp_path, said.append)
    assert found is not None and found.state.images == 1000
    assert len(said) == 1 and "state.json has no digest of itself" in said[0]


def test_weights_that_are_not_finite_are_told_by_name(tmp_path: Path) -> None:
    written = made(1000)
    key = next(iter(written.networks["generator_ema"]))
    written.networks["generator_ema"][key].view(-1)[0] = float("nan")
    folder = checkpoint.save(tmp_path, written)
    with pytest.raises(
        WeightsError, match=f"generator_ema.safetensors holds numbers that are not finite in {key}"
    ):
        load_generator(folder)


def test_a_config_of_other_shapes_is_told_before_they_take_memory(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, made(1000))
    path = folder / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"z_dim": 32', '"z_dim": 8192').replace('"w_dim": 32', '"w_dim": 8192'))
    assert path.read_text() != text
    with pytest.raises(WeightsError, match="does not fit the config"):
        load_generator(folder)


def test_a_checkpoint_of_a_newer_version_stays_where_it_is(tmp_path: Path) -> None:
    """It is whole: falling back would lose what it holds."""
    checkpoint.save(tmp_path, made(1000))
    file = checkpoint.save(tmp_path, made(2000)) / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match=r"format 99, this portraitgan reads 2: .* or update this one"):
        checkpoint.recover(tmp_path, lambda _: None)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["kimg-000001", "kimg-000002"]


def test_no_whole_checkpoint_is_an_error_and_no_new_start(tmp_path: Path) -> None:
    lose(checkpoint.save(tmp_path, made(1000)))
    with pytest.raises(CheckpointError, match="no checkpoint of"):
        checkpoint.recover(tmp_path, lambda _: None)
    assert checkpoint.recover(tmp_path / "new", lambda _: None) is None


def test_a_half_written_one_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, made(1000))

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "_sync", fails)
    with pytest.raises(CheckpointError, match="disk full"):
        checkpoint.save(tmp_path, made(2000))
    monkeypatch.undo()
    assert checkpoint.latest(tmp_path).name == "kimg-000001"
    folder = tmp_path / "checkpoints"
    assert len(list(folder.iterdir())) == 1
    (folder / ".kimg-000002.77.tmp").mkdir()  # what a killed process leaves
    checkpoint.tidy(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["kimg-000001"]


def test_prune_keeps_one_of_each_span_and_the_newest(tmp_path: Path) -> None:
    folder = checkpoint.folder_of(tmp_path)
    seen = []
    for images in range(4008, 60_000, 4008):
        (folder / checkpoint.name_of(images)).mkdir(parents=True)
        checkpoint.prune(tmp_path, 20_000)
        seen.append(images)
        names = [path.name for path in checkpoint.checkpoints(tmp_path)]
        assert names[-2:] == [checkpoint.name_of(i) for i in seen[-2:]]
    assert names[:-2] == [checkpoint.name_of(i) for i in (20_040, 40_080)]


def test_latest_is_the_named_one_or_the_newest(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.latest(tmp_path)
    for images in (1000, 2000):
        (checkpoint.folder_of(tmp_path) / checkpoint.name_of(images)).mkdir(parents=True)
    assert checkpoint.latest(tmp_path).name == "kimg-000002"
    write_text(tmp_path / "latest", "kimg-000001\n")
    assert checkpoint.latest(tmp_path).name == "kimg-000001"
    write_text(tmp_path / "latest", "../../etc\n")
    assert checkpoint.latest(tmp_path).name == "kimg-000002"


def test_optimiser_state_comes_back_to_every_parameter() -> None:
    def fresh() -> tuple[torch.nn.Linear, torch.optim.Adam]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.Adam(layer.parameters(), lr=0.1, betas=(0.0, 0.9))

    def step(layer: torch.nn.Linear, optimiser: torch.optim.Adam) -> None:
        optimiser.zero_grad(set_to_none=True)
        layer(torch.arange(3.0)).square().sum().backward()
        optimiser.step()

    first, first_optimiser = fresh()
    step(first, first_optimiser)
    tensors = checkpoint.optimiser_tensors({"G": (first_optimiser, dict(first.named_parameters()))})
    second, second_optimiser = fresh()
    second.load_state_dict(first.state_dict())
    owners = {"G": (second_optimiser, dict(second.named_parameters()))}
    checkpoint.restore_optimisers(owners, tensors)
    for layer, optimiser in ((first, first_optimiser), (second, second_optimiser)):
        step(layer, optimiser)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="another network"):
        checkpoint.restore_optimisers(owners, {"G/other/exp_avg": torch.ones(1)})

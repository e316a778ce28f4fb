"""Shared by the generator's tests: golden folder, seeded weights, a body, official checkpoints."""

from __future__ import annotations

import os
import pickle
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.body import bust
from phq_data.rig import PortraitRig
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.config import ModelConfig
from portraitgan.deformation.skinning import SkinnedMesh

torch.set_num_threads(int(os.environ.get("PHQ_TEST_THREADS", "1")))

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Where the golden files lie: PHQ_GOLDEN, or the repository's copy."""
    return Path(os.environ.get("PHQ_GOLDEN") or REPOSITORY / "tests" / "golden")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def seeded(name: str) -> np.random.RandomState:
    """The golden files' random numbers: seeded by a name."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def fill_weights(module: nn.Module, value: Callable[[str, np.ndarray], np.ndarray], prefix: str = "") -> None:
    """Every tensor of the state dict from `value(key, normals)`; the seed's name is `prefix` + key."""
    state = module.state_dict()
    for key, tensor in state.items():
        normal = seeded(prefix + key).standard_normal(tuple(tensor.shape))
        state[key] = torch.from_numpy(np.asarray(value(key, normal.astype(np.float32)), np.float32))
    module.load_state_dict(state)


@pytest.fixture(scope="session")
def weights() -> Callable[..., None]:
    """`fill_weights`, for tests."""
    return fill_weights


@pytest.fixture(scope="session")
def normals() -> Callable[[str], np.random.RandomState]:
    """`seeded`, for tests."""
    return seeded


@pytest.fixture(scope="session")
def make_bust() -> Callable[..., PortraitRig]:
    """A body made by a formula, of any fineness."""
    return bust


class Official:
    """The official code's shape: modules whose classes pickle with their source, and plain ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.ran: list[str] = []
        self.persistence = self.module("torch_utils.persistence")
        self.dnnlib = self.module("dnnlib.util")
        self.training = self.module("training.smpl_triplane")

        ran = self.ran

        class EasyDict(dict):  # type: ignore[type-arg]
            pass

        def _reconstruct_persistent_obj(meta: Any) -> Any:
            ran.append("source code of the pickle")
            raise AssertionError("the official loader would run source code here")

        self.easy = self.place(self.dnnlib, EasyDict)
        self.rebuild = self.place(self.persistence, _reconstruct_persistent_obj)

        rebuild, easy = self.rebuild, self.easy

        class Persistent(nn.Module):
            def __reduce__(self) -> Any:
                meta = easy(
                    type="class",
                    version=6,
                    module_src="raise RuntimeError('source of the pickle was run')",
                    class_name="SomeNetwork",
                    state=self.__dict__,
                )
                return rebuild, (meta,)

        class Plain(nn.Module):
            pass

        self.persistent = self.place(self.training, Persistent)
        self.plain = self.place(self.training, Plain)

    def module(self, name: str) -> types.ModuleType:
        made = types.ModuleType(name)
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            part = ".".join(parts[:count])
            self.monkeypatch.setitem(
                sys.modules, part, made if count == len(parts) else types.ModuleType(part)
            )
        return made

    @staticmethod
    def place(module: types.ModuleType, thing: Any) -> Any:
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
        return thing

    def tree(self, state: dict[str, torch.Tensor], learned: set[str]) -> nn.Module:
        """Nested modules that hold `state`, every one with the constants of the official ones."""
        root = self.persistent()
        for key, value in state.items():
            *path, name = key.split(".")
            here: nn.Module = root
            for depth, part in enumerate(path):
                if part not in here._modules:
                    # The renderer, the decoder and the pose branch are not persistent in the official code.
                    plain = path[0] in ("renderer", "decoder", "pose_branch") or depth > 2
                    here.add_module(part, self.plain() if plain else self.persistent())
                here = here._modules[part]  # type: ignore[assignment]
            if key in learned:
                here.register_parameter(name, nn.Parameter(value.clone()))
            else:
                here.register_buffer(name, value.clone())
        root.register_buffer("scratch", torch.ones(3), persistent=False)
        return root


@pytest.fixture
def official_pickle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_bust: Callable[..., PortraitRig]
) -> Iterator[Callable[..., tuple[Path, nn.Module, nn.Module, PortraitRig]]]:
    """A function that writes a checkpoint in the official format, with its networks and rig."""
    codes: list[Official] = []

    def build(
        config: ModelConfig, cuda: bool = False, options: dict[str, Any] | None = None
    ) -> tuple[Path, nn.Module, nn.Module, PortraitRig]:
        torch.manual_seed(0)
        code = Official(monkeypatch)
        codes.append(code)
        rig = make_bust(rings=8, around=6)
        generator, discriminator = make_generator(config), make_discriminator(config)
        for network in (generator, discriminator):
            for parameter in network.parameters():
                parameter.data.normal_()
        networks: dict[str, Any] = {}
        for name, network in (("G", generator), ("D", discriminator)):
            state = {**network.state_dict(), "resample_filter": torch.ones(4, 4)}
            if name == "G":
                state["superresolution.block0.conv0.resample_filter"] = torch.ones(4, 4)
                state["dataset_label_std"] = torch.ones(25)
                if config.generator.pose_conditioning:
                    mesh = SkinnedMesh.from_rig(rig)
                    state["renderer.face_mask"] = mesh.inside_box.clone()
                    state["renderer.aligned_SMPL.model.v_template"] = torch.ones(5, 3)
            learned = {key for key, _ in network.named_parameters()}
            networks[name] = code.tree(state, learned)
        g = config.generator
        networks["G"].neural_rendering_resolution = g.render.resolution
        networks["G"].img_resolution = g.image_resolution
        networks["G"].avg_c = torch.ones(25)
        networks["G"].rendering_kwargs = code.easy(
            depth_resolution=g.render.coarse_samples,
            depth_resolution_importance=g.render.fine_samples,
            ray_start=2.25,
            ray_end=3.3,
            box_warp=1,
            decoder_activation=g.decoder.activation,
            superresolution_module="training.superresolution.SuperresolutionHybrid2X",
            **(options or {}),
        )
        content = {
            "training_set_kwargs": code.easy(path="somewhere.zip"),
            "G": networks["G"],
            "D": networks["D"],
            "G_ema": networks["G"],
            "D_ema": networks["D"],
            "augment_pipe": None,
        }
        path = tmp_path / "network.pkl"
        if cuda:
            monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        with path.open("wb") as file:
            pickle.dump(content, file)
        monkeypatch.undo()
        return path, generator, discriminator, rig

    yield build
    assert [line for code in codes for line in code.ran] == []

"""Models as the Hugging Face Hub keeps them: a folder with weights, config, rig and a model card.

    generator = Generator.from_pretrained("user/name")        # or a folder: pushed, a run, a checkpoint
    portraits = generator(z, camera, pose)
    generator.save_pretrained("folder")
    generator.push_to_hub("user/name")

    config.json                     the ModelConfig
    generator_ema.safetensors       the weights
    discriminator_ema.safetensors   where the folder was packed from a checkpoint: it predicts poses of photos
    rig.safetensors                 the body that poses refer to, unless its license forbids passing it on
    README.md                       the model card

All commands of `portraitgan` take such a folder as MODEL. Needs huggingface_hub only to reach the Hub.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from phq_data.errors import PhqError
from phq_data.files import writing
from phq_data.rig import PortraitRig
from portraitgan.checkpoints import weights
from portraitgan.checkpoints.checkpoint import RIG_FILE
from portraitgan.config import ModelConfig
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.inference.errors import InferenceError, need
from portraitgan.inference.model import find_checkpoint, find_rig
from portraitgan.inference.model_card import facts_of, make_card, plain_card
from portraitgan.networks import generator as networks

CARD_FILE = "README.md"
LICENSED_BODIES = ("smpl",)
"""Bodies whose rig may not be passed on, as in releases."""
_WANTED = [weights.CONFIG_FILE, f"{weights.GENERATOR_EMA}.safetensors", RIG_FILE]

Result = TypeVar("Result")


class Generator(networks.Generator):
    """The generator with the three methods that models on the Hub have."""

    rig: PortraitRig | None = None
    """What the poses refer to; none: only the canonical body is rendered."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,  # user/name on the Hub, or a folder
        *,
        rig: str | Path | None = None,  # instead of the model's own
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """The generator in evaluation mode, on the CPU, with its rig if there is one.

        Raises `InferenceError`, `WeightsError`, `ConfigError` or `RigError`.
        """
        path = Path(name)
        if not path.is_dir():
            options = {"revision": revision, "token": token, "cache_dir": cache_dir}
            path = _fetched(str(name), local_files_only=local_files_only, **options)
        folder, run = find_checkpoint(path)
        config, found = weights.read_config(folder), find_rig(folder, run, rig)
        deformation: Deformation | None = None
        if found is not None and config.generator.deformation.mode != "none":
            mesh = SkinnedMesh.from_rig(found, config.generator.render.box_size)
            deformation = Deformation(mesh, config.generator.deformation)
        made = cls(config, deformation)
        made.rig = found
        weights.load_into(made, folder / f"{weights.GENERATOR_EMA}.safetensors")
        return made.eval().requires_grad_(False)

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> Path:
        """Write the model into `folder`, with `card` or a plain model card; returns the folder."""
        return write_folder(folder, self.model_config, self, self.rig, card)

    def push_to_hub(
        self,
        repo_id: str,  # user/name
        *,
        card: str | None = None,
        private: bool = True,
        revision: str | None = None,
        token: str | bool | None = None,
        commit_message: str = "Upload the model",
    ) -> str:
        """Upload `save_pretrained`'s folder, private unless told otherwise; returns the commit's address."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, card)
            return upload(folder, repo_id, private, revision, token, commit_message)


def pack(
    model: str | Path,  # a run, a checkpoint or a converted checkpoint
    folder: str | Path,
    checkpoint: str | None = None,  # one of a run's
    rig: str | Path | None = None,
    repository: str | None = None,  # user/name, as the card says it
    license_name: str | None = None,
) -> Path:
    """Write a model with its pose network and a card with the numbers of its run into a new folder.

    Raises `InferenceError` for a folder that holds something else, `WeightsError`, `ConfigError`, `RigError`.
    """
    source, run = find_checkpoint(Path(model), checkpoint)
    folder = Path(folder)
    pose_network = f"{weights.DISCRIMINATOR_EMA}.safetensors"
    foreign = {one.name for one in folder.glob("*")} - {*_WANTED, pose_network, CARD_FILE}
    if foreign:
        raise InferenceError(
            f"{folder} holds {min(foreign)}, which would be uploaded with the model: give a new folder"
        )
    if folder.resolve() == source.resolve():
        raise InferenceError(f"{folder} is the model itself: give a new folder")
    generator = Generator.from_pretrained(source, rig=rig)
    discriminator = source / pose_network
    text = make_card(
        generator.model_config, passed_on(generator.rig) is not None, facts_of(source, run),
        repository or "USER/NAME", license_name, discriminator.is_file(),
    )  # fmt: skip
    made = generator.save_pretrained(folder, text)
    if discriminator.is_file():
        weights.write_tensors(folder / pose_network, weights.read_tensors(discriminator))
    else:
        (folder / pose_network).unlink(missing_ok=True)
    return made


def passed_on(rig: PortraitRig | None) -> PortraitRig | None:
    """`rig`, unless its license forbids to pass it on."""
    return None if rig is None or rig.body in LICENSED_BODIES else rig


def write_folder(
    folder: str | Path,
    config: ModelConfig,
    generator: networks.Generator,
    rig: PortraitRig | None,
    card: str | None = None,
) -> Path:
    """Write config, weights, rig (unless it is licensed) and card into `folder`. Raises `OutputError`."""
    folder = Path(folder)
    published = passed_on(rig)
    with writing(folder / weights.CONFIG_FILE) as temporary:
        temporary.write_text(config.to_json() + "\n")
    weights.write_tensors(folder / f"{weights.GENERATOR_EMA}.safetensors", generator.state_dict())
    if published is None:
        (folder / RIG_FILE).unlink(missing_ok=True)  # of what was here before
    else:
        with writing(folder / RIG_FILE) as temporary:
            published.save(temporary)
    with writing(folder / CARD_FILE) as temporary:
        temporary.write_text(card or plain_card(config, published is not None), encoding="utf-8")
    return folder


def upload(
    folder: str | Path,
    repo_id: str,
    private: bool = True,
    revision: str | None = None,
    token: str | bool | None = None,
    commit_message: str = "Upload the model",
) -> str:
    """Upload a folder as one commit to a model repository, made if it is not there; the commit's address.

    Raises `InferenceError` with what the Hub said.
    """

    def work(hub: Any) -> str:
        api = hub.HfApi(token=token, library_name="portraitgan")
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
        )
        return str(done.commit_url)

    return _asking(f"{repo_id} cannot be uploaded", work)


def _fetched(name: str, **options: Any) -> Path:
    """The folder of a model of the Hub in the local cache, fetched where it is not there."""
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InferenceError(f"there is no model folder at {name}")
    return _asking(
        f"there is no folder {name}, and it cannot be had from the Hugging Face Hub",
        lambda hub: Path(hub.snapshot_download(name, allow_patterns=_WANTED, **options)),
    )


def _asking(what: str, work: Callable[[Any], Result]) -> Result:
    """`work` with huggingface_hub; its errors as `InferenceError`s that begin with `what`."""
    need("huggingface_hub", "hub")
    import huggingface_hub

    faults: tuple[type[Exception], ...] = (OSError, ValueError, *_transport_errors())
    try:
        return work(huggingface_hub)
    except PhqError:
        raise
    except faults as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InferenceError(f"{what}: {said}") from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library under huggingface_hub raises, whichever it is."""
    from huggingface_hub import errors

    beyond = (Exception, BaseException, object)
    return tuple(one for one in errors.HfHubHTTPError.__mro__ if one not in beyond)

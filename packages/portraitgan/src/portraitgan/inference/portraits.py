"""Real portraits of a release or a workspace: one by id, or all of them in order."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from phq_data.arrays import ImageArray
from phq_data.errors import ReleaseError
from phq_data.release import reader
from phq_data.release.reader import Release
from phq_data.workspace import Workspace, WorkspaceError
from portraitgan.config import ModelConfig
from portraitgan.images.drawing import from_pixels
from portraitgan.inference.errors import InferenceError
from portraitgan.networks import filters
from portraitgan.networks.discriminator import Portraits
from portraitgan.training.losses import prepare_real


@dataclass(frozen=True, eq=False)
class RealPortrait:
    """A portrait with its label."""

    portrait_id: str
    split: str | None
    image: ImageArray  # [S, S, 3]
    mask: ImageArray  # [S, S]
    camera: Tensor  # [1, 25]
    pose: Tensor  # [1, 6] radians, the label
    truth_pose: Tensor | None = None  # [1, 6]


_COLUMNS = ("portrait_id", "camera", "pose", "image", "mask")


class PortraitSource:
    """A release (folder or URL) or a workspace. Made by `open_portraits`."""

    def __init__(self, url: str, release: Release | None, workspace: Workspace | None) -> None:
        self.url = url
        self._release = release
        self._workspace = workspace

    def count(self, split: str | None = None) -> int:
        """How many portraits `stream` yields."""
        if self._release is not None:
            return len(self._release.all() if split is None else self._release.split(split))
        assert self._workspace is not None
        count: int = self._workspace.kept(["portrait_id"]).num_rows
        return count

    def find(self, portrait_id: str) -> RealPortrait:
        """The portrait whose id starts so. Raises `InferenceError` when there is none."""
        if self._release is not None:
            row = self._release.find(portrait_id)
        else:
            assert self._workspace is not None
            row = self._workspace.row("portraits", portrait_id)
        if row is None:
            raise InferenceError(f"{self.url} has no portrait whose id starts with {portrait_id!r}")
        return _portrait(row)

    def stream(self, split: str | None = None) -> Iterator[RealPortrait]:
        """All portraits in order, a few in memory at a time; of a workspace, those that passed screening."""
        if self._release is not None:
            chosen = self._release.all() if split is None else self._release.split(split)
            known = set(self._release.columns)
            columns = [name for name in (*_COLUMNS, "split", "truth_pose") if name in known]
            for row in chosen.stream(columns):
                yield _portrait(row)
            return
        if split is not None:
            raise InferenceError(f"{self.url} is a workspace, which has no splits: leave --split out")
        assert self._workspace is not None
        kept = set(self._workspace.kept(["portrait_id"])["portrait_id"].to_pylist())
        for part in self._workspace.parts("tables/portraits"):
            table = self._workspace.read_part("tables/portraits", part, _COLUMNS)
            for batch in table.to_batches(max_chunksize=16):
                for row in pa.Table.from_batches([batch]).to_pylist():
                    if row["portrait_id"] in kept:
                        yield _portrait(row)


def open_portraits(url: str) -> PortraitSource:
    """The portraits of a release or a workspace. Raises `InferenceError` when `url` is neither."""
    try:
        return PortraitSource(url, reader.open(url), None)
    except ReleaseError as error:
        why_no_release = error
    try:
        return PortraitSource(url, None, Workspace.open(url))
    except WorkspaceError as error:
        raise InferenceError(
            f"{url} is neither a release nor a workspace: {why_no_release}; {error}"
        ) from None


def discriminator_inputs(
    portraits: list[RealPortrait], config: ModelConfig, device: torch.device
) -> Portraits:
    """What the discriminator sees of real portraits: image at H, raw and mask resized to R (spec 4.5)."""
    size = config.discriminator.image_resolution
    images = [filters.resize(from_pixels(one.image), size) for one in portraits]
    masks = [torch.from_numpy(one.mask.astype(np.float32) / 255)[None, None] for one in portraits]
    mask = torch.cat([filters.resize(one, size) for one in masks]).to(device)
    return prepare_real(torch.cat(images).to(device), mask, config.generator.render.resolution, 0.0)


def cameras_of(portraits: list[RealPortrait], device: torch.device) -> Tensor:
    """Camera labels [B, 25]."""
    return torch.cat([one.camera for one in portraits]).to(device)


def _portrait(row: Mapping[str, Any]) -> RealPortrait:
    name = row["portrait_id"]
    truth = row.get("truth_pose")
    return RealPortrait(
        name,
        row.get("split"),
        _decode(row.get("image"), "RGB", name),
        _decode(row.get("mask"), "L", name),
        _numbers(row["camera"]),
        _numbers(row["pose"]),
        None if truth is None else _numbers(truth),
    )


def _numbers(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def _decode(struct: Mapping[str, Any] | None, mode: str, name: str) -> ImageArray:
    data = None if struct is None else struct.get("bytes")
    if not data:
        raise InferenceError(f"portrait {name} comes without its image: fill the release (phq release fill)")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.asarray(opened.convert(mode))
    except (OSError, UnidentifiedImageError) as error:
        raise InferenceError(f"the image of portrait {name} cannot be decoded: {error}") from error

"""Portraits from a release: any of them by number, as often as one likes.

    data = PortraitData.open("releases/1.0.0", 256, cache="/fast/disk")
    batch = data.batch([3, 99, len(data) - 1])      # images, masks, cameras, poses
    cameras, poses = data.draw_labels(32, random)   # conditions for the generator

With `mirror` every portrait is there twice: index i + N is portrait i mirrored, its image, mask, camera and
pose alike (spec section 1.4). Images come at one size, made once from the stored ones by averaging areas.

Random reading costs a row group (some MiB) of a shard a portrait. With a cache the whole row group is decoded
when the first of its portraits is asked for, so the first pass decodes every portrait once, and every later
one only copies.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from phq_data import camera
from phq_data.errors import ReleaseError
from phq_data.files import file_sha256
from phq_data.foreign import reading
from phq_data.release import reader
from phq_data.release.reader import Release
from phq_data.rig import PortraitRig, RigError
from portraitgan.data.balance import Balance, dealt
from portraitgan.data.cache import CacheError, CacheKey, PixelCache
from portraitgan.data.labels import DataError, Labels, read_labels

__all__ = ["Batch", "DataError", "PortraitData"]

Indices = Sequence[int] | NDArray[np.int64]
Say = Callable[[str], None]
_LOCKS = 64
_LARGEST_SIDE = 8192  # pixels of a stored portrait


@dataclass(frozen=True)
class Batch:
    """Real portraits."""

    images: Tensor  # uint8 [N, 3, H, W]
    masks: Tensor  # uint8 [N, 1, H, W], 255 = person
    cameras: Tensor  # float32 [N, 25]
    poses: Tensor  # float32 [N, 6] radians: the coarse poses of the labels

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        parts = (self.images, self.masks, self.cameras, self.poses)
        return Batch(*(part.to(device, non_blocking=True) for part in parts))

    def __len__(self) -> int:
        return len(self.images)


class PortraitData:
    """The portraits of one split of a release at one size. Made by `open`; threads may share it."""

    def __init__(
        self,
        release: Release,
        resolution: int,
        labels: Labels,
        *,
        mirror: bool,
        cache: PixelCache | None,
        rig: PortraitRig | None,
        balance: Balance = "none",
        back_repeat: int = 1,
    ) -> None:
        self.release = release
        self.resolution = resolution
        self.mirror = mirror
        self.cache = cache
        self.rig = rig
        self._labels = labels
        usable = np.flatnonzero(labels.usable)
        # [M] rows of the split; one may be there more than once
        self._rows = usable[dealt(labels.cameras[usable], mirror, balance, back_repeat)]
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        if cache is not None:
            cache.forget(np.flatnonzero(labels.hidden))

    @classmethod
    def open(
        cls,
        release: str | Path,
        resolution: int,
        *,
        split: str = "train",
        mirror: bool = True,
        cache: str | Path | None = None,
        rig: str | Path | None = None,
        verify: bool = True,
        balance: Balance = "none",
        back_repeat: int = 1,
        say: Say = lambda line: None,
    ) -> PortraitData:
        """Open a split of the release in a folder or at an fsspec URL; reads labels, no image.

        `cache` is a folder for decoded portraits; what it will cost is told to `say` before it is spent.
        `rig` is the rig file that you built where the release brings only a recipe for it. `verify` compares
        local shards with the release's checksums, unless the cache is whole (ranks after the first need not).
        `balance` and `back_repeat` deal some portraits more than once (balance.py).

        Raises `DataError`: no release, damaged, unknown schema, labels that are missing or no labels, no
        portraits in the split or without images, smaller than `resolution`, no room for the cache.
        """
        if resolution < 1:
            raise DataError(f"portraits cannot have {resolution} pixels a side")
        try:
            opened = reader.open(release)
            labels = read_labels(opened, split, resolution)
            key = CacheKey(opened.manifest.digest, split, resolution, len(labels.usable))
            # A whole cache needs no shard.
            if verify and (cache is None or not PixelCache.is_whole(Path(cache), key, labels.usable)):
                _verify(opened, labels, say)
            body = _rig(opened, rig)
        except ReleaseError as error:
            raise DataError(str(error)) from error
        for note in labels.notes:
            say(note)
        kept = None
        if cache is not None:
            try:
                kept = PixelCache.open(Path(cache), key, say)
            except CacheError as error:
                raise DataError(str(error)) from error
        return cls(
            opened,
            resolution,
            labels,
            mirror=mirror,
            cache=kept,
            rig=body,
            balance=balance,
            back_repeat=back_repeat,
        )

    def __len__(self) -> int:
        return self.portraits * (2 if self.mirror else 1)

    @property
    def portraits(self) -> int:
        """How many are dealt an epoch, mirrored ones not counted."""
        return len(self._rows)

    @property
    def split(self) -> str:
        """Which split it is of."""
        return self._labels.split

    @property
    def checksum(self) -> str:
        """Digest of the release that the portraits are from."""
        return self.release.manifest.digest

    @property
    def cache_bytes(self) -> int:
        """What a cache of this split and size costs on the disk."""
        key = CacheKey(self.checksum, self._labels.split, self.resolution, len(self._labels.usable))
        return key.bytes

    def held_out(self) -> PortraitData | None:
        """Portraits of the release that are not of this split: of `validation`, else of `test`, not mirrored.

        None where there are none that can be used; what is wrong with them does not concern this split.
        """
        for split in ("validation", "test"):
            if split == self.split or self.split == "all" or not self.release.manifest.counts().get(split):
                continue
            try:
                labels = read_labels(self.release, split, self.resolution)
            except (DataError, ReleaseError):
                continue
            return PortraitData(self.release, self.resolution, labels, mirror=False, cache=None, rig=self.rig)
        return None

    def used(self) -> list[str]:
        """The ids of all portraits that are dealt, sorted."""
        return sorted({self._labels.portrait_ids[row] for row in self._rows.tolist()})

    def portrait_ids(self, indices: Indices) -> list[str]:
        """The portraits' ids in the release; a mirrored portrait has that of its original."""
        rows, _ = self._find(indices)
        return [self._labels.portrait_ids[row] for row in rows.tolist()]

    def labels(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Cameras float32 [N, 25] and coarse poses float32 [N, 6] in radians; no image is read."""
        rows, mirrored = self._find(indices)
        cameras, poses = self._labels.cameras[rows], self._labels.poses[rows]
        return _mirrored_labels(cameras, poses, mirrored)

    def truth(self, indices: Indices) -> tuple[Tensor, Tensor] | None:
        """True cameras [N, 25] and poses [N, 6], nan where unknown; None when the release knows none."""
        if self._labels.true_cameras is None or self._labels.true_poses is None:
            return None
        rows, mirrored = self._find(indices)
        return _mirrored_labels(self._labels.true_cameras[rows], self._labels.true_poses[rows], mirrored)

    def draw_labels(self, count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cameras [count, 25] and coarse poses [count, 6] of portraits drawn uniformly with replacement."""
        return self.labels(random.integers(0, len(self), count))

    def batch(self, indices: Indices) -> Batch:
        """Images, masks and labels of the portraits at `indices`.

        Raises `DataError` for a damaged image, `IndexError` beyond the end.
        """
        rows, mirrored = self._find(indices)
        side = self.resolution
        pixels = np.empty((len(rows), 4, side, side), np.uint8)
        missing: list[int] = []
        for place, row in enumerate(rows.tolist()):
            if self.cache is None or not self.cache.read(row, pixels[place], bool(mirrored[place])):
                missing.append(place)
        if missing:
            try:
                self._decode_into(pixels, rows, mirrored, missing)
            except CacheError as error:
                raise DataError(f"{error}. Free some room, or train without a cache") from error
        cameras, poses = self.labels(indices)
        found = torch.from_numpy(pixels)
        return Batch(found[:, :3], found[:, 3:], cameras, poses)

    def refresh(self) -> int:
        """Read the list of taken-down portraits again (a long run does so now and then); how many are new.

        The number of entries stays; the place of a portrait that was taken down is taken by the next one.
        """
        try:
            self.release.refresh()
            hidden = self._labels.hidden_now(self.release)
        except ReleaseError as error:
            raise DataError(str(error)) from error
        fresh = hidden & self._labels.usable
        gone = fresh[self._rows]
        count = len(np.unique(self._rows[gone]))
        if self.cache is not None:
            self.cache.forget(np.flatnonzero(hidden))
        if gone.any():
            left = np.flatnonzero(~gone)
            if len(left) == 0:
                raise DataError(f"every portrait of {self.release.url} was taken down")
            instead = left[np.searchsorted(left, np.arange(len(gone))) % len(left)]
            self._rows = self._rows[instead]
        return count

    def _find(self, indices: Indices) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of the split, and which are to be mirrored."""
        wanted = np.asarray(indices, np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"portraits are numbered 0..{len(self) - 1}")
        return self._rows[wanted % self.portraits], wanted >= self.portraits

    def _decode_into(
        self,
        pixels: NDArray[np.uint8],  # [N, 4, H, W]
        rows: NDArray[np.int64],
        mirrored: NDArray[np.bool_],
        missing: list[int],
    ) -> None:
        cache = self.cache
        if cache is None:
            for place, found in zip(missing, self._read(rows[missing]), strict=True):
                self._decode(found, _mirrored(pixels[place], mirrored[place]))
            return
        for group in np.unique(self._labels.groups[rows[missing]]).tolist():
            # Threads that want neighbours wait for the one that decodes their group.
            with self._locks[group % _LOCKS]:
                wanted = self._labels.rows_of_group(group)
                absent = [row for row in wanted if self._labels.usable[row] and not cache.has(row)]
                decoded = np.empty_like(pixels[0])
                for row, found in zip(absent, self._read(np.array(absent, np.int64)), strict=True):
                    self._decode(found, decoded)
                    cache.write(row, decoded)
                    for place in missing:
                        if rows[place] == row:
                            pixels[place] = _mirrored(decoded, mirrored[place])
                for place in missing:
                    row = int(rows[place])
                    if self._labels.groups[row] == group and row not in absent:
                        cache.read(row, pixels[place], bool(mirrored[place]))

    def _read(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        places = [self._labels.places[row] for row in rows.tolist()]
        try:
            return self.release.read_places(places, ["portrait_id", "image", "mask"])
        except ReleaseError as error:
            raise DataError(str(error)) from error

    def _decode(self, row: dict[str, Any], pixels: NDArray[np.uint8]) -> None:
        """Image and mask of a row into `pixels` [4, H, W]."""
        side = self.resolution
        for name, mode, place in (("image", "RGB", slice(0, 3)), ("mask", "L", slice(3, 4))):
            where = f"the {name} of portrait {row['portrait_id']} in {self.release.url}"
            with (
                reading(where, DataError, "`phq release verify --pixels` names all such rows"),
                Image.open(io.BytesIO(row[name]["bytes"])) as stored,
            ):
                if stored.width != stored.height or stored.width > _LARGEST_SIDE:  # before it is decoded
                    raise ValueError(
                        f"it has {stored.width}x{stored.height} pixels, not a square of at most "
                        f"{_LARGEST_SIDE}"
                    )
                found = stored if stored.mode == mode else stored.convert(mode)
                values = np.asarray(_resized(found, side))
            pixels[place] = values.reshape(side, side, -1).transpose(2, 0, 1)


def _resized(image: Image.Image, side: int) -> Image.Image:
    """Averaged over areas to `side` pixels. `reduce` rounds once, `resize` once an axis."""
    if image.width == side:
        return image
    if image.width % side == 0:
        return image.reduce(image.width // side)
    return image.resize((side, side), Image.Resampling.BOX)


def _mirrored(pixels: NDArray[np.uint8], yes: np.bool_ | bool) -> NDArray[np.uint8]:
    return pixels[..., ::-1] if yes else pixels


def _mirrored_labels(
    cameras: NDArray[np.float32], poses: NDArray[np.float32], mirrored: NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    """Labels, mirrored where `mirrored` [N]; the arguments may be changed."""
    if mirrored.any():
        cameras[mirrored] = camera.mirror_label(cameras[mirrored])
        poses[mirrored] = camera.mirror_pose(poses[mirrored])
    return torch.from_numpy(cameras), torch.from_numpy(poses)


def _rig(release: Release, built: str | Path | None) -> PortraitRig | None:
    """The release's rig; None when it is only a recipe and `built` is not given."""
    if built is None and not release.has_rig:
        return None
    try:
        return release.rig(built)
    except RigError as error:
        raise DataError(str(error)) from error


def _verify(release: Release, labels: Labels, say: Say) -> None:
    """Compare the split's shards with their checksums. Shards far away are checked page by page when read."""
    if not release.folder.is_local:
        return
    entries = [release.shards[shard] for shard in labels.shards]
    say(f"checking {len(entries)} shards ({sum(e.bytes for e in entries) / 2**30:.2f} GiB) of {release.url}")
    for entry in entries:
        if file_sha256(release.folder.path(entry.path)) != entry.sha256:
            raise DataError(
                f"{release.folder.path(entry.path)} is not what was released: its sha256 differs. `phq "
                "release verify` names the rows; get it again (phq release pull)"
            )
    release.trust_pages()

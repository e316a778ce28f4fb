"""The images of the page: a portrait, its mesh, its mask, its photo, its window in the photo, a thumbnail.

Only portraits of the store's index are served, by their id; no name of a file ever comes from outside. What
takes time to make is kept in `review/cache` of the workspace, written whole or not at all; of a workspace at
an object store that, and the parts of its tables, in a temporary folder of this machine (`local_copies`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from PIL import Image, ImageFilter

from phq_data import camera as cameras
from phq_data import parquet, parquet_limits
from phq_data.errors import PhqError
from phq_data.images.codecs import PhotoError, decode, decode_struct, sniff
from phq_data.pipeline.engine import load_config
from phq_data.pipeline.model_set import load_rig
from phq_data.pipeline.photos import read_photo
from phq_data.records import Corner, EncodedImage, Label, Pose, Record, columns, from_table
from phq_data.rendering import renderer
from phq_data.rendering.rasterizer import rasterise
from phq_data.review.local_copies import LocalCopies
from phq_data.review.records import StoredLabel
from phq_data.review.store import Store
from phq_data.review.tables import ITEMS
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace, WorkspaceError, part_key

Kind = Literal["crop", "overlay", "mask", "photo", "original", "thumb"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PHOTO_SIDE = 1600
ORIGINAL_SIDE = 4096  # a window that is larger is reduced; some 5 MB, whatever the photo
THUMB_SIDE = 192
OVERLAY_SIDE = 384  # the page enlarges it: a mesh has no finer detail, and drawing takes half the time
_EDGE_ALPHA = 110
Value = TypeVar("Value")
_CACHE = "review/cache"
_DIGEST = hashlib.sha256().digest_size
_TYPES = {"PNG": "image/png", "WebP": "image/webp", "JPEG": "image/jpeg"}
_ROWS_KEPT = 256  # portraits whose bytes stay in memory, some 300 kB each
_MADE_KEPT = 2048  # overlays and thumbnails, some 10 kB each


class NoImageError(PhqError, LookupError):
    """There is no such image; the message says why."""


@dataclass(frozen=True)
class ServedImage:
    """An encoded image."""

    data: bytes
    media_type: str


class _Place(NamedTuple):
    """Where a portrait lies."""

    photo_id: str
    part: int
    row: int
    active: int


@dataclass(frozen=True, eq=False, kw_only=True)
class _Portrait(Record):
    """What is read of a portrait."""

    table = "portraits"
    portrait_id: str
    camera: Label
    pose: Pose
    image: EncodedImage
    mask: EncodedImage
    window: Corner


class PortraitImages:
    """Reads and makes the images of a workspace's portraits. Safe to use from many threads."""

    def __init__(self, workspace: Workspace, store: Store, *, workers: int = 1) -> None:
        self._workspace = workspace
        self._store = store
        self._rig: PortraitRig | None = None
        self.rig_version, self.rig_file = "", b""  # the file whole: 300 kB
        self.reload()
        self._rows: _Recent[_Portrait] = _Recent(_ROWS_KEPT)
        self._made: _Recent[ServedImage] = _Recent(_MADE_KEPT)
        self._guard = threading.Lock()
        self._planned: dict[str, Future[ServedImage]] = {}
        self._at_once = threading.BoundedSemaphore(2)
        self._copies = None if workspace.is_local else LocalCopies()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="phq-images")

    def reload(self) -> None:
        """Take the rig that the workspace has now."""
        self._rig = load_rig(self._workspace)
        key = "rig.safetensors"
        data = self._workspace.read_bytes(key) if self._workspace.exists(key) else b""
        self.rig_file = data
        self.rig_version = hashlib.sha256(data + f"{OVERLAY_SIDE} {_EDGE_ALPHA}".encode()).hexdigest()[:12]

    def get(self, portrait_id: str, kind: Kind) -> ServedImage:
        """One image. Raises `NoImageError`, `WorkspaceError` when the workspace is damaged."""
        if kind in ("crop", "mask"):
            row = self._row(portrait_id)
            data = (row.image if kind == "crop" else row.mask).bytes
            media = _TYPES.get(sniff(data[:64]) or "")
            if media is None:
                raise NoImageError(f"portrait {portrait_id[:12]} has no {kind} that a browser shows")
            return ServedImage(data, media)
        name = self._name(portrait_id, kind)
        found = self._made.get(name)
        if found is not None:
            return found
        with self._guard:
            planned = self._planned.get(name)
        # One that waits its turn is made here and now; one that is being made is waited for.
        if planned is not None and not planned.cancel():
            return planned.result()
        with self._at_once:
            return self._made.get(name) or self._cached(name, portrait_id, kind)

    def label(self, portrait_id: str) -> StoredLabel:
        """Where the rig lies in a portrait. Raises `NoImageError`, `WorkspaceError`."""
        row = self._row(portrait_id)
        return StoredLabel(*(tuple(values.tolist()) for values in (row.camera, row.pose, row.window)))

    def check(self, portrait_id: str) -> None:
        """Raises `NoImageError` when the workspace has no such portrait."""
        self._place(portrait_id)

    def prepare(self, portrait_ids: Sequence[str]) -> None:
        """Begin to make the overlays of portraits that come next."""
        for portrait_id in portrait_ids:
            name = self._name(portrait_id, "overlay")
            with self._guard:
                if name in self._planned or self._made.get(name) is not None:
                    continue
                future = self._workers.submit(self._cached, name, portrait_id, "overlay")
                self._planned[name] = future
            future.add_done_callback(partial(self._forget, name))

    def close(self) -> None:
        """Stop making images."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        if self._copies is not None:
            self._copies.close()

    # ---- what takes time ---------------------------------------------------------------------------------

    def _name(self, portrait_id: str, kind: Kind) -> str:
        return f"{portrait_id}-{kind}-{self.rig_version}" if kind == "overlay" else f"{portrait_id}-{kind}"

    def _forget(self, name: str, _: Future[ServedImage]) -> None:
        with self._guard:
            self._planned.pop(name, None)

    def _cached(self, name: str, portrait_id: str, kind: Kind) -> ServedImage:
        place = self._place(portrait_id)
        if kind == "photo":  # people in one photo share it
            name = f"{place.photo_id}-photo"
        key = f"{_CACHE}/{name[:2]}/{name}.webp"
        data = self._kept(key)
        if data is None:
            data = self._make(portrait_id, kind, place)
            self._keep(key, data + hashlib.sha256(data).digest())
        image = ServedImage(data, "image/webp")
        if kind not in ("photo", "original"):  # too large to be kept in memory
            self._made.put(name, image)
        return image

    def _kept(self, key: str) -> bytes | None:
        """An image of the cache, if it is there and what was written: its SHA-256 follows it in the file."""
        if self._copies is not None:
            file = self._copies.opened(_flat(key))
            if file is None:
                return None
            with file:
                found = file.read()
        elif not self._workspace.exists(key):
            return None
        else:
            found = self._workspace.read_bytes(key)
        data, digest = found[:-_DIGEST], found[-_DIGEST:]
        return data if hashlib.sha256(data).digest() == digest else None

    def _keep(self, key: str, data: bytes) -> None:
        if self._copies is not None:
            self._copies.put(_flat(key), data)
            return
        # On a full or read-only disk the image is made again next time; nothing else is lost.
        with contextlib.suppress(WorkspaceError):
            self._workspace.write_bytes(key, data)

    def _make(self, portrait_id: str, kind: Kind, place: _Place) -> bytes:
        if kind == "photo":
            return _webp(Image.fromarray(self._photo(place, PHOTO_SIDE)), 82)
        row = self._row(portrait_id)
        if kind == "original":
            return self._original(place, row.window)
        if kind == "thumb":
            pixels = Image.fromarray(decode_struct(vars(row.image)))
            pixels.thumbnail((THUMB_SIDE, THUMB_SIDE), Image.Resampling.LANCZOS)
            return _webp(pixels, 80)
        if self._rig is None:
            raise NoImageError("the workspace has no rig yet: there is no mesh to show")
        drawn = edged(mesh(self._rig, row.camera, row.pose, OVERLAY_SIDE))
        return _webp(Image.fromarray(drawn), 85)

    def _original(self, place: _Place, window: np.ndarray) -> bytes:
        """The photo's own pixels within the window: those of the whole pixels that it touches."""
        photo = self._photo(place, None)
        x, y, side = window.tolist()
        left, top = max(0, math.floor(x)), max(0, math.floor(y))
        cut = photo[top : max(top + 1, math.ceil(y + side)), left : max(left + 1, math.ceil(x + side))]
        if not cut.size:
            raise NoImageError("the window lies outside the photo")
        image = Image.fromarray(cut)
        image.thumbnail((ORIGINAL_SIDE, ORIGINAL_SIDE), Image.Resampling.LANCZOS)
        return _webp(image, 95)

    def _photo(self, place: _Place, max_side: int | None) -> np.ndarray:
        """Pixels [h, w, 3] of the upright photo, no side above `max_side`."""
        photo_id = place.photo_id
        table = self._workspace.read_part("tables/photos", place.part, ["photo_id", "key"])
        keys = dict(zip(table["photo_id"].to_pylist(), table["key"].to_pylist(), strict=True))
        key = keys.get(photo_id)
        if key is None:
            raise NoImageError(f"photo {photo_id[:12]} is no longer in the workspace")
        limit = load_config(self._workspace).ingest.max_pixels
        try:
            data = read_photo(self._workspace, key)
            if hashlib.sha256(data).hexdigest() != photo_id:
                raise NoImageError(f"the file of photo {photo_id[:12]} has changed since the build")
            return decode(data, max_pixels=limit, max_side=max_side).pixels
        except (PhotoError, WorkspaceError, OSError) as error:
            raise NoImageError(f"the photo cannot be shown: {error}") from error

    # ---- rows --------------------------------------------------------------------------------------------

    def _place(self, portrait_id: str) -> _Place:
        columns = [ITEMS.c[name] for name in _Place._fields]
        with self._store.database.read() as connection:
            row = connection.execute(sa.select(*columns).where(ITEMS.c.portrait_id == portrait_id)).first()
        if row is None or not row.active:
            raise NoImageError(f"this workspace has no portrait {portrait_id[:12]}")
        return _Place(*row)

    def _row(self, portrait_id: str) -> _Portrait:
        found = self._rows.get(portrait_id)
        if found is None:
            place = self._place(portrait_id)
            found = self._read(portrait_id, place.part, place.row)
            self._rows.put(portrait_id, found)
        return found

    def _read(self, portrait_id: str, part: int, row: int) -> _Portrait:
        """Camera, pose, image and mask of one row, reading only the row group that it lies in."""
        key = part_key("tables/portraits", part)
        path = self._workspace.shown(key)
        try:
            with parquet.opened(self._part(key)) as file:
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    if row < rows:
                        table = parquet_limits.read(file, columns(_Portrait), group=group)
                        found = from_table(_Portrait, table.slice(row, 1))[0]
                        break
                    row -= rows
                else:
                    raise NoImageError(f"portrait {portrait_id[:12]} moved: the index is being renewed")
        except (*parquet.DAMAGE, ValueError, TypeError) as error:
            raise WorkspaceError(f"cannot read {path}: {error}; run `phq build` again") from error
        if found.portrait_id != portrait_id:
            raise NoImageError(f"portrait {portrait_id[:12]} moved: the index is being renewed")
        return found

    def _part(self, key: str) -> Any:
        """A part of a table, to read from: as it is now, whatever was copied before. Raises `OSError`."""
        if self._copies is None:
            return pa.OSFile(self._workspace.path(key))
        name = _flat(f"{key}-{self._workspace.version(key)}")
        found = self._copies.opened(name)
        if found is None:
            data = self._workspace.read_bytes(key)
            self._copies.put(name, data)
            found = pa.BufferReader(data)
        return found


def _flat(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def mesh(rig: PortraitRig, camera: Any, pose: Any, side: int) -> np.ndarray:
    """The posed rig, shaded, as the portrait's label sees it: RGBA [side, side, 4], straight alpha.

    As `render.render_mesh`, but with hard edges, a third of the work: people wait for this one, and a
    half-transparent layer that the page enlarges shows no steps.
    """
    cam2world, intrinsics = cameras.from_label(camera)
    points = rig.posed(pose).astype(np.float64)
    share = np.clip(rig.weights[:, 1:].astype(np.float64), 0, 1)
    colors = (1 - share) * np.array(renderer.BODY_COLOR) + share * np.array(renderer.HEAD_COLOR)
    shaded = np.ones((len(points), 4), np.float32)
    shaded[:, :3] = colors * renderer.headlight(points, rig.faces, cam2world[:3, 3])[:, None]
    at, depth = cameras.project(points, cam2world, intrinsics)
    seen = rasterise(at * side, depth, rig.faces, (side, side))
    drawn = seen.image(seen.interpolate(np.clip(shaded, 0, 1), rig.faces))
    return np.round(drawn * 255).astype(np.uint8)


def edged(drawn: np.ndarray) -> np.ndarray:
    """RGBA [H, W, 4] with a faint edge, black and then white, that is seen on clothes of any color.

    A filter of the page would draw the same, but again for every portrait that is shown: two thirds of the
    time that a browser without a GPU takes to paint it.
    """
    opaque = Image.fromarray(drawn[..., 3])
    near, far = (np.asarray(opaque.filter(ImageFilter.MaxFilter(size))) > 127 for size in (3, 5))
    found = drawn.copy()
    clear = drawn[..., 3] <= 127
    found[clear & far] = (255, 255, 255, _EDGE_ALPHA)
    found[clear & near] = (0, 0, 0, _EDGE_ALPHA)
    return found


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=0)
    return buffer.getvalue()


class _Recent(Generic[Value]):
    """The last values that were asked for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: str) -> Value | None:
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: str, value: Value) -> None:
        with self._guard:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)

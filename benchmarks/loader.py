"""Portraits a second and core: a release against zips of PNGs, read the way EG3D's data loader does.

The same portraits lie in a release and in two pairs of zips (images and masks, not compressed by the zip):
one pair holds the very bytes of the release, that is the same codec; the other holds PNGs without
compression, which is what EG3D's dataset tool writes: the largest and quickest to decode. Everything is read
in one shuffled order in which every portrait comes plain and mirrored, in batches, on one core; CPU seconds
count.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import timing
from benchmarks.timing import describe
from portraitgan.data.dataset import PortraitData

Read = Callable[[NDArray[np.int64]], object]


def measure(
    rows: int = 400, size: int = 512, batch: int = 8, codec: str = "png", folder: Path | None = None
) -> tuple[str, dict[str, Any]]:
    """A table, and the figures of the JSON line."""
    torch.set_num_threads(1)
    work = folder or Path(tempfile.mkdtemp(prefix="portraitgan-bench-loader-"))
    try:
        return _measure(work, rows, size, batch, codec)
    finally:
        if folder is None:
            shutil.rmtree(work, ignore_errors=True)


def _measure(work: Path, rows: int, size: int, batch: int, codec: str) -> tuple[str, dict[str, Any]]:
    release = make_release(work / "full", rows, size, codec)
    quarter = make_release(work / "quarter", max(8, rows // 4), size, codec)
    plain = PortraitData.open(release, size, split="all")
    order = np.random.default_rng(0).permutation(len(plain))
    unmirrored = order[order < plain.portraits]
    same = Zips(work / "same", plain, compressed=True)
    raw = Zips(work / "raw", plain, compressed=False)
    _check_same(plain, same, raw, order[:batch])

    cached = PortraitData.open(release, size, split="all", cache=work / "cache")
    single = PortraitData.open(release, size, split="all", mirror=False, cache=work / "cache-single")
    seconds = {
        "zip, same bytes": _pass(same.batch, order, batch),
        "zip, raw PNGs": _pass(raw.batch, order, batch),
        "release, no cache": _pass(plain.batch, order, batch),
        "release, first pass": _pass(cached.batch, order, batch),
        "release, first pass, not mirrored": _pass(single.batch, unmirrored, batch),
        "release, from the cache": min(_pass(cached.batch, order, batch) for _ in range(2)),
    }
    counts = {name: len(order) for name in seconds}
    counts["release, first pass, not mirrored"] = len(unmirrored)
    rate = {name: counts[name] / spent for name, spent in seconds.items()}
    memory = [_resident(url, size, batch, work / "cache-memory") for url in (quarter, release)]
    per_row = (memory[1] - memory[0]) * 1024 / (rows - max(8, rows // 4))
    figures = {
        "first_pass_vs_zip": rate["release, first pass"] / rate["zip, same bytes"],
        "first_pass_unmirrored_vs_zip": rate["release, first pass, not mirrored"] / rate["zip, same bytes"],
        "uncached_vs_zip": rate["release, no cache"] / rate["zip, same bytes"],
        "vs_zip": rate["release, from the cache"] / max(rate["zip, same bytes"], rate["zip, raw PNGs"]),
        "vs_zip_same": rate["release, from the cache"] / rate["zip, same bytes"],
        "portraits_per_second": {name: round(value, 1) for name, value in rate.items()},
        "memory_mib": {"quarter": round(memory[0], 1), "full": round(memory[1], 1)},
        "memory_kib_a_row": round(per_row, 2),
        "rows": rows,
        "size": size,
        "codec": codec,
    }
    figures = {k: round(v, 2) if isinstance(v, float) else v for k, v in figures.items()}
    lines = [
        f"{rows} portraits at {size}x{size}, {codec}, batches of {batch}; {describe(torch.device('cpu'))}",
        "",
        f"{'':<36}{'portraits/s/core':>18}{'against raw zip':>18}",
    ]
    for name, value in rate.items():
        lines.append(f"{name:<36}{value:>18.0f}{value / rate['zip, raw PNGs']:>17.2f}x")
    lines += [
        "",
        f"memory of its own after two passes: {memory[0]:.0f} MiB with {max(8, rows // 4)} portraits, "
        f"{memory[1]:.0f} MiB with {rows}",
    ]
    return "\n".join(lines), figures


def make_release(folder: Path, rows: int, size: int, codec: str) -> str:
    """A release of synthetic portraits (24 different images of about a photo's entropy); its path."""
    made = folder / "releases" / "1.0.0"
    if not made.exists():
        # A program of its own: this package does not import what builds releases.
        arguments = [str(folder), str(rows), str(size), codec]
        subprocess.run([sys.executable, "-c", _MAKE, *arguments], check=True, stdout=subprocess.DEVNULL)
    return str(made)


_MAKE = """
import sys
from pathlib import Path
from benchmarks.release import make_workspace
from phq_data.release.build import ReleaseOptions, build
from phq_data.workspace import Workspace
folder, rows, size, codec = sys.argv[1:]
make_workspace(Path(folder), int(rows), int(size), codec)
build(Workspace.open(folder), Path(folder) / "releases", "1.0.0", ReleaseOptions(unreviewed=True))
"""


class Zips:
    """The portraits of `data` in a zip of images with labels and a zip of masks, read one by one."""

    def __init__(self, folder: Path, data: PortraitData, *, compressed: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        labels: list[tuple[str, list[float]]] = []
        paths = {name: folder / f"{name}.zip" for name in ("image", "mask")}
        with (
            zipfile.ZipFile(paths["image"], "w", zipfile.ZIP_STORED) as images,
            zipfile.ZipFile(paths["mask"], "w", zipfile.ZIP_STORED) as masks,
        ):
            everything = data.release.all().stream(["portrait_id", "camera", "pose", "image", "mask"])
            for number, row in enumerate(everything):
                name = f"{number // 1000:010d}/{number:010d}.png"
                for kind, zipped in (("image", images), ("mask", masks)):
                    stored = row[kind]["bytes"]
                    zipped.writestr(name, stored if compressed else _uncompressed(stored))
                labels.append((name, [*row["camera"], *row["pose"]]))
            images.writestr("dataset.json", json.dumps({"labels": labels}))
        self._zips = [zipfile.ZipFile(paths[kind]) for kind in ("image", "mask")]
        known = dict(json.loads(self._zips[0].read("dataset.json"))["labels"])
        self._names = sorted(known)
        self._labels = np.array([known[name] for name in self._names], np.float32)
        signs = np.ones(31, np.float32)
        signs[[1, 2, 3, 4, 8, 26, 27, 29, 30]] = -1
        self._signs = signs

    def batch(self, indices: NDArray[np.int64]) -> list[torch.Tensor]:
        """Images, masks and labels [N, ...] of the portraits, mirrored from the second half on."""
        return [torch.stack(part) for part in zip(*(self._item(int(i)) for i in indices), strict=True)]

    def _item(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count = len(self._names)
        mirrored, number = index >= count, index % count
        parts = []
        for zipped in self._zips:
            with zipped.open(self._names[number]) as file:
                pixels = np.array(Image.open(file))
            pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
            parts.append(torch.from_numpy((pixels[:, :, ::-1] if mirrored else pixels).copy()))
        label = self._labels[number] * (self._signs if mirrored else 1)
        return parts[0], parts[1], torch.from_numpy(label)


def _uncompressed(data: bytes) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).save(out, "PNG", compress_level=0, optimize=False)
    return out.getvalue()


def _check_same(data: PortraitData, same: Zips, raw: Zips, indices: NDArray[np.int64]) -> None:
    """What is compared must be equal."""
    batch = data.batch(indices)
    for zips in (same, raw):
        images, masks, labels = zips.batch(indices)
        equal = torch.equal(images, batch.images) and torch.equal(masks, batch.masks)
        if not equal or not torch.allclose(labels, torch.cat([batch.cameras, batch.poses], 1)):
            raise AssertionError("the zips and the release do not hold the same portraits")


def _pass(read: Read, order: NDArray[np.int64], batch: int) -> float:
    """CPU seconds of reading everything once."""
    began = time.process_time()
    for start in range(0, len(order), batch):
        read(order[start : start + batch])
    return time.process_time() - began


def _resident(url: str, size: int, batch: int, cache: Path) -> float:
    """MiB of its own that a fresh process holds after two passes with a cache (mapped files not counted)."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_two_passes, (url, size, batch, cache))


def _two_passes(url: str, size: int, batch: int, cache: Path) -> float:
    data = PortraitData.open(url, size, split="all", cache=cache)
    for _ in range(2):
        _pass(data.batch, np.random.default_rng(0).permutation(len(data)), batch)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; a table on stdout, with JSON=1 one JSON line after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400, help="portraits (fixtures)")
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--codec", choices=["png", "webp-lossless", "jpeg-95"], default="png")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    options = parser.parse_args(arguments)
    timing.show(*measure(options.rows, options.size, options.batch, options.codec, options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())

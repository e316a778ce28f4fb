"""How long a release takes: `python -m benchmarks.release` builds, verifies and diffs synthetic rows.

The rows are synthetic (noise images of a photo's encoded size, labels all around); everything from the
workspace on is the real thing. A second version with a few rows removed and added is built for the diff. Peak
memory is that of this process, which does the building, verifying and diffing, but not the making up.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.body import bust
from phq_data import camera, schema
from phq_data.images.codecs import encode_image, image_struct
from phq_data.release import reader
from phq_data.release.build import ReleaseOptions, build
from phq_data.release.diff import diff
from phq_data.release.rights import RightsError
from phq_data.release.verify import verify
from phq_data.workspace import Workspace

PAPER_ROWS = 54_000
_PART = 64
_CODEC = "webp-lossless"  # as a build stores images by default
_IMAGES = 24
"""Different images; rows repeat them, which saves time only in making them up."""


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print a table, and with --json one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=PAPER_ROWS)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--make-only", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.make_only:
        make_workspace(given.folder, given.rows, given.size)
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="phq-bench-release-"))
    try:
        found = measure(folder, given.rows, given.size, given.workers)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    for name, value in found.items():
        print(f"{name:<20}{value}")
    if given.json:
        print(json.dumps(found))


def measure(folder: Path, rows: int, size: int, workers: int) -> dict[str, Any]:
    """Seconds of build, verify, next version and diff, and the peak memory of this process in MiB."""
    workspace_folder, releases = folder / "workspace", folder / "releases"
    # In a process of its own, so that making up rows does not count.
    command = [sys.executable, "-m", "benchmarks.release", "--make-only", "--folder", workspace_folder,
               "--rows", rows, "--size", size]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True)
    workspace = Workspace.open(workspace_folder)
    options = ReleaseOptions(unreviewed=True, created="2026-01-01", workers=workers)

    began, cpu = time.perf_counter(), time.process_time()
    result = build(workspace, releases, "1.0.0", options)
    build_s, build_cpu_s = time.perf_counter() - began, time.process_time() - cpu

    began, cpu = time.perf_counter(), time.process_time()
    problems = verify(releases / "1.0.0", workers=workers)
    verify_s, verify_cpu_s = time.perf_counter() - began, time.process_time() - cpu
    if problems:
        raise RightsError(f"the release is not whole: {problems[0]}")

    ids = reader.open(releases / "1.0.0").index["portrait_id"].to_pylist()
    _drop_rows(workspace, set(ids[:: max(1, rows // 20)]))
    began = time.perf_counter()
    second = build(workspace, releases, "2.0.0", options)
    next_s = time.perf_counter() - began

    began = time.perf_counter()
    found = diff(reader.open(releases / "1.0.0"), reader.open(releases / "2.0.0"))
    diff_s = time.perf_counter() - began

    release = reader.open(releases / "1.0.0").all()
    draws = np.random.default_rng(0).integers(0, len(release), 64)
    began = time.perf_counter()
    for position in draws.tolist():
        release[position]
    random_ms = (time.perf_counter() - began) / len(draws) * 1000
    total = sum(shard.bytes for shard in result.manifest.shards)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": result.manifest.rows,
        "size": size,
        "shards": len(result.manifest.shards),
        "gib": round(total / 2**30, 2),
        "build_s": round(build_s, 1),
        "build_cpu_s": round(build_cpu_s, 1),  # beside build_s it tells a busy machine from slow code
        "verify_s": round(verify_s, 1),
        "verify_cpu_s": round(verify_cpu_s, 1),
        "next_version_s": round(next_s, 1),
        "shards_rewritten": second.changes.shards_written if second.changes else None,
        "diff_s": round(diff_s, 2),
        "removed": len(found.removed),
        "random_row_ms": round(random_ms, 1),
        "peak_mib": round(peak),
    }


def make_workspace(folder: Path, rows: int, size: int, codec: str = _CODEC) -> None:
    """A workspace of `rows` synthetic portraits, one a photo, a few of them of the same author and day."""
    workspace = Workspace.open(folder, create=True)
    workspace.write_bytes("rig.safetensors", bust(16, 12).to_bytes())
    images = [_image(seed, size, codec) for seed in range(_IMAGES)]
    for part, start in enumerate(range(0, rows, _PART)):
        _write_part(workspace, part, range(start, min(rows, start + _PART)), images, size, codec)
    numbers = [(_portrait_id(i), i) for i in range(rows)]
    alone = [
        {"portrait_id": one, "cluster": one, "representative": True, "distance": 0} for one, _ in numbers
    ]
    workspace.write_part("tables/duplicates", 0, schema.to_table("duplicates", alone), "bench")


def _image(seed: int, size: int, codec: str) -> tuple[bytes, bytes]:
    """An encoded image of about a photo's entropy (smooth shapes and fine grain), and a mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = np.stack(
        [np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + phase) for phase in (0, 1, 2)], -1
    )
    grain = rng.normal(0, 1, (size, size, 3))
    pixels = np.clip(128 + 90 * waves + grain, 0, 255).astype(np.uint8)
    mask = (np.hypot(x - 0.5, y - 0.6) < 0.35).astype(np.uint8) * 255
    return encode_image(pixels, codec)[0], encode_image(mask, "png")[0]


def _write_part(
    workspace: Workspace,
    part: int,
    numbers: range,
    images: list[tuple[bytes, bytes]],
    size: int,
    codec: str,
) -> None:
    rng = np.random.default_rng(part)
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("photos", "fits", "portraits", "screened")
    }
    for number in numbers:
        one, photo = _portrait_id(number), hashlib.sha256(f"photo {number}".encode()).hexdigest()
        image, mask = images[number % _IMAGES]
        yaw = float(rng.uniform(-3.1, 3.1))
        pitch, roll = float(rng.normal(0, 0.2)), float(rng.normal(0, 0.1))
        label = camera.to_label(camera.from_angles(yaw, pitch, roll)).tolist()
        common = {"portrait_id": one, "photo_id": photo, "effective_resolution": 1.5, "padding": 0.0,
                  "landmark_error": 0.02, "shoulder_error": 0.01}  # fmt: skip
        tables["photos"].append(
            {
                "photo_id": photo, "key": "", "width": 2000, "height": 1500, "format": "JPEG", "bytes": 1,
                "orientation": 1, "color": "sRGB", "phash": number, "exif_time": None,
                "provider": "wikimedia", "source": "bench", "uri": f"bench:{number}",
                "page_url": f"https://example.org/{number}", "file_url": None, "title": None,
                "author": f"Author {number // 3}", "author_url": None, "license": "CC-BY-4.0",
                "license_url": None, "rights_checked_at": "2026-01-01", "rights_evidence": "bench",
                "permission": None,
            }
        )  # fmt: skip
        tables["fits"].append(
            {
                "fit_id": f"fit {one}", "person_id": f"person {one}", "photo_id": photo, "fitter": "bench",
                "body": "anny", "focal": 1.0, "principal": [0.0] * 2, "root_orient": [0.0] * 3,
                "translation": [0.0] * 3, "pose": [0.0] * 6, "shape": [0.0] * 8, "joints": [0.0] * 39,
                "residual": 0.0, "residuals": [0.0] * 17, "hypotheses": [0.0], "converged": True,
            }
        )  # fmt: skip
        tables["portraits"].append(
            {
                **common, "person_id": f"person {one}", "fit_id": f"fit {one}", "camera": label,
                "pose": rng.normal(0, 0.2, 6).tolist(), "yaw": yaw, "pitch": pitch, "roll": roll,
                "window": [10.5, 20.25, 700.0], "size": size, "crop_mode": "fit",
                "keypoints": rng.uniform(0, size, 51).tolist(), "codec": codec, "models": '{"rig": "anny"}',
                "image": image_struct(image, f"{one}.webp"), "mask": image_struct(mask, f"{one}-mask.png"),
            }
        )  # fmt: skip
        tables["screened"].append(
            {
                **common, "kept": True, "reasons": [], "blur": 1.0, "exposure_low": 0.0, "exposure_high": 0.0,
                "contrast": 1.0, "mask_share": 0.4, "overlap": 0.0, "error_probability": 0.1,
                "phash": int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "big"), "overlay": None,
            }
        )  # fmt: skip
    for name, rows in tables.items():
        workspace.write_part(f"tables/{name}", part, schema.to_table(name, rows), "bench")


def _drop_rows(workspace: Workspace, gone: set[str]) -> None:
    """Let the screening reject some portraits."""
    for part in workspace.parts("tables/screened"):
        rows = workspace.read_part("tables/screened", part).to_pylist()
        if any(row["portrait_id"] in gone for row in rows):
            changed = [{**row, "kept": row["kept"] and row["portrait_id"] not in gone} for row in rows]
            workspace.write_part("tables/screened", part, schema.to_table("screened", changed), "bench")


def _portrait_id(number: int) -> str:
    return schema.make_id("bench", number)


if __name__ == "__main__":
    main()

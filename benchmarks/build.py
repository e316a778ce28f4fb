"""`make bench-build`, `make bench-build-gpu`: items a second by stage, end to end, and peak memory.

The photos are synthetic (ordinary sizes, one or two people) plus the samples, made before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Parse the command line, run the benchmark in a fresh process and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build", description=__doc__)
    parser.add_argument("--photos", type=int, default=96, help="synthetic photos (default 96)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="parts at once")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where networks run")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--worker", metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _measure(Path(options.worker), options.workers, options.device)
        return
    _check(options.device)
    with tempfile.TemporaryDirectory(prefix="phq-bench-") as folder:
        photos = Path(folder) / "photos"
        began = time.perf_counter()
        _make_photos(photos, options.photos)
        sys.stderr.write(f"made {options.photos} photos in {time.perf_counter() - began:.0f} s\n")
        # A process of its own, so that peak memory is that of the build alone.
        command = [
            sys.executable,
            "-m",
            "benchmarks.build",
            "--worker",
            folder,
            "--workers",
            str(options.workers),
            "--device",
            options.device,
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    _show(result)
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")


def _check(device: str) -> None:
    """Ends the program with one sentence where networks cannot run on that device."""
    from phq_data.errors import ModelError
    from phq_data.models.device import onnx_device

    try:
        onnx_device(device)
    except ModelError as error:
        sys.exit(f"error: {error}")


def _make_photos(folder: Path, count: int) -> None:
    from phq_data.sources.resolve import resolve

    folder.mkdir()
    for spec in (f"synthetic:{count}@7", "samples"):
        source = resolve(spec)
        for number, file in enumerate(source.files()):
            with source.open(file) as stream:
                (folder / f"{source.provider}-{number:05d}.jpg").write_bytes(stream.read())


def thunder_pass(repeats: int = 15) -> float:
    """CPU seconds of one pass of Thunder over one crop, the best of several: by it machines are compared."""
    import numpy as np

    from phq_data.models import onnx

    crop = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    seconds = []
    for _ in range(repeats + 1):  # the first one loads the network
        began = time.process_time()
        onnx.run("movenet-thunder", {"image": crop})
        seconds.append(time.process_time() - began)
    return min(seconds[1:])


def _measure(folder: Path, workers: int, device: str) -> None:
    from benchmarks.gpu_busy import GpuBusy
    from phq_data.config import PipelineConfig
    from phq_data.pipeline.local import run_inline
    from phq_data.sources.resolve import resolve
    from phq_data.stages.sequence import STAGE_NAMES
    from phq_data.workspace import Workspace

    workspace = Workspace.open(folder / "workspace", create=True)
    config = PipelineConfig(part_size=16).replace_setting(f"device={device}")
    one_pass = thunder_pass()
    began, began_cpu = time.perf_counter(), time.process_time()
    with GpuBusy() as gpu:
        report = run_inline(workspace, config, [resolve(str(folder / "photos"))], workers=workers)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    if report.errors:
        sys.exit("\n".join(report.errors))
    stages = {}
    for name in STAGE_NAMES:
        spent = sum(r.seconds for r in report.reports if r.stage == name)
        stages[name] = {
            "items": report.count(name, "items"),
            "kept": report.count(name, "kept"),
            "worker_seconds": round(spent, 2),
            "items_per_worker_s": round(report.count(name, "items") / max(spent, 1e-9), 2),
        }
    portraits = report.count("align_crop", "kept")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    if sys.platform == "darwin":
        peak /= 1024
    result = {
        "device": device,
        "gpu_busy": gpu.share() if device == "cuda" else None,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {workers} workers",
        "photos": report.count("ingest", "items"),
        "portraits": portraits,
        "seconds": round(seconds, 2),
        "photos_per_s": round(report.count("ingest", "items") / seconds, 2),
        "portraits_per_s": round(portraits / seconds, 2),
        "thunder_ms": round(1000 * one_pass, 1),
        "portraits_per_thunder": round(portraits / seconds * one_pass, 3),
        "cpu_seconds": round(cpu, 2),
        "cpu_thunders_per_portrait": round(cpu / one_pass / max(portraits, 1), 1),
        "peak_mib": round(peak),
        "limiting_stage": max(stages, key=lambda name: stages[name]["worker_seconds"]),
        "stages": stages,
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _show(result: dict) -> None:
    lines = [
        f"{result['machine']}",
        f"{'stage':<10}{'items':>8}{'kept':>8}{'worker s':>10}{'items/s a worker':>18}",
    ]
    for name, stage in result["stages"].items():
        lines.append(
            f"{name:<10}{stage['items']:>8}{stage['kept']:>8}{stage['worker_seconds']:>10.1f}"
            f"{stage['items_per_worker_s']:>18.1f}"
        )
    lines.append(
        f"end to end: {result['photos']} photos, {result['portraits']} portraits in "
        f"{result['seconds']:.1f} s = {result['portraits_per_s']:.2f} portraits/s; "
        f"peak {result['peak_mib']} MiB; limited by {result['limiting_stage']}"
    )
    lines.append(
        f"one pass of Thunder: {result['thunder_ms']:.1f} ms on one core; "
        f"{result['portraits_per_thunder']:.3f} portraits in that time; "
        f"{result['cpu_seconds']:.1f} CPU seconds, {result['cpu_thunders_per_portrait']:.1f} passes each"
    )
    if result["gpu_busy"] is not None:
        lines.append(f"the GPU was busy {result['gpu_busy']:.0%} of the time")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

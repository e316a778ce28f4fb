"""`make bench-build` and `make bench-build-gpu`: what they print, and what they say without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.build import thunder_pass
from benchmarks.gpu_busy import GpuBusy
from phq_data.models import onnx

ROOT = Path(__file__).parents[2]


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.build",
        "--photos",
        "1",
        "--workers",
        "1",
        "--json",
        *options,
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PHQ_DEVICE"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_portraits_a_second_also_in_units_of_this_machines_thunder() -> None:
    done = bench("--device", "cpu")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["photos"] == 5 and found["portraits"] >= 3
    assert found["thunder_ms"] > 1 and found["gpu_busy"] is None
    assert found["portraits_per_thunder"] == pytest.approx(
        found["portraits_per_s"] * found["thunder_ms"] / 1000, rel=0.1, abs=2e-3
    )
    passes = found["cpu_seconds"] * 1000 / found["thunder_ms"] / found["portraits"]
    assert found["cpu_thunders_per_portrait"] == pytest.approx(passes, rel=0.02)
    assert "one pass of Thunder" in done.stdout


def test_without_a_gpu_one_sentence_says_what_to_install() -> None:
    if not onnx.gpu_fault():
        pytest.skip("a GPU is here")
    done = bench("--device", "cuda")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: device=cuda: ") and "pip install onnxruntime-gpu" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_pass_of_thunder_takes_a_while() -> None:
    assert 0.001 < thunder_pass(repeats=1) < 10


def test_the_share_of_time_is_the_mean_of_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 80\necho 100\necho '[N/A]'\ntouch said\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    with GpuBusy() as gpu:
        while not (tmp_path / "said").exists():
            pass
    assert gpu.share() == 0.9
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with GpuBusy() as gpu:
        pass
    assert gpu.share() is None

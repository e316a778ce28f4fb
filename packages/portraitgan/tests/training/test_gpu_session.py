"""The script for a lent GPU, rehearsed: no minute of a GPU is spent on a typo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_session
from benchmarks.gpu_session import Step

ROOT = Path(__file__).resolve().parents[4]
ABSENT = (
    "pydantic",
    "warp",
    "prefect",
    "sqlalchemy",
    "trimesh",
    "pyrender",
    "imagehash",
    "smplx",
    "ultralytics",
)
"""What a machine with torch and little else lacks."""
WITHOUT = f"""
import importlib.util as util, sys
absent, found = {ABSENT!r}, util.find_spec
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
util.find_spec = lambda name, package=None: None if name.split(".")[0] in absent else found(name, package)
"""


def test_limits_fit_the_lease_and_the_first_three_minutes_tell_most() -> None:
    planned = gpu_session.steps(False, Path("work"))
    assert [step.name for step in planned[:2]] == ["graphs and formats right", "iterations"]
    assert sum(step.limit for step in planned[:2]) <= 190
    assert sum(step.limit for step in planned[:-1]) <= gpu_session.BUDGET <= 480


def test_a_step_that_is_cut_off_keeps_what_it_printed(tmp_path: Path) -> None:
    endless = "import time; print('{\"a\": 1}', flush=True); time.sleep(600)"
    found = gpu_session.run(Step("endless", 1, ("-c", endless)), 20.0, tmp_path / "log")
    assert found["code"] == "time is up" and found["result"] == [{"a": 1}]
    wrong = gpu_session.run(
        Step("wrong", 1, ("-c", "print('why'); 1 / 0"), json_lines=False), 60.0, tmp_path / "log"
    )
    assert wrong["code"] == 1 and "why" in wrong["result"]
    text = gpu_session.table([found, wrong])
    assert "endless: time is up" in text and "  a 1" in text and "ZeroDivisionError" in text


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(1500)
def test_the_rehearsal_runs_every_step_with_little_installed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    environment = {
        **os.environ, "TINY": "1", "OUT": str(tmp_path / "out"), "PYTHON": sys.executable,
        "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    script = ROOT / "benchmarks" / "gpu_session.sh"
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [step.name for step in gpu_session.steps(True, tmp_path)]
    assert all(row["code"] == 0 and row["result"] for row in rows)
    by_name = {row["step"]: row["result"] for row in rows}
    assert {(row["precision"], row["graphs"]) for row in by_name["iterations"]} == {
        ("bf16", "auto"), ("bf16", "off"), ("tf32", "auto"), ("tf32", "off"),
    }  # fmt: skip
    assert all(row["images_per_second"] > 0 for row in by_name["iterations"])
    assert by_name["training"][0]["images"] > 0
    assert len(list((tmp_path / "out").iterdir())) <= 8

"""Run tests as other processors compute: fewer vector instructions, one thread and two, a busy machine.

    python tools/numerics.py [what pytest gets: files, -k …]

Without files, those of `FOLDERS`. Every round is a run of pytest with other settings of the libraries that
choose their kernels by processor (torch with oneDNN and MKL, numpy and SciPy with OpenBLAS). A tolerance that
only one processor's kernels meet fails in one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    "packages/portraitgan/tests",
    "packages/phq_data/tests/models",
    "packages/phq_data/tests/stages",
    "packages/phq_data/tests/bodies",
    "packages/phq_data/tests/synthesis",
)
SSE4 = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
}
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4",
}
ROUNDS: tuple[tuple[str, dict[str, str], int, int], ...] = (  # name, limits, threads, busy programs beside it
    ("SSE4, one thread", SSE4, 1, 0),
    ("AVX2, two threads", AVX2, 2, 0),
    ("this processor beside two busy programs", {}, 2, 2),
)


def main() -> None:
    """Run all rounds; the exit status says whether one failed."""
    arguments = sys.argv[1:] if any("tests" in one for one in sys.argv[1:]) else [*FOLDERS, *sys.argv[1:]]
    told = []
    for name, limits, threads, busy in ROUNDS:
        print(f"\n{name}", flush=True)
        count = str(threads)
        environment = {**os.environ, **limits, "OMP_NUM_THREADS": count, "PHQ_TEST_THREADS": count}
        command = [sys.executable, "-m", "pytest", "-m", "not browser", *arguments]
        began = time.monotonic()
        with busy_programs(busy):
            code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        told.append((name, code, time.monotonic() - began))
    for name, code, seconds in told:
        print(f"{'failed' if code else 'passed'}  {seconds:6.0f} s  {name}")
    sys.exit(any(code for _, code, _ in told))


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Programs that do nothing but compute, while the block lasts."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


if __name__ == "__main__":
    main()

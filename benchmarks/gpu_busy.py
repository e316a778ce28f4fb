"""How busy a GPU is while something runs, by nvidia-smi: the share of time in which any kernel ran on it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import types

PERIOD_MS = 200


class GpuBusy:
    """Samples the first GPU from entering to leaving. Where nvidia-smi is not there, nothing is known."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (read after leaving)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> GpuBusy:
        program = shutil.which("nvidia-smi")
        if program:
            query = ["--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            command = [program, *query, f"--loop-ms={PERIOD_MS}"]
            self._process = subprocess.Popen(command, stdout=self._said, stderr=subprocess.DEVNULL, text=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def share(self) -> float | None:
        """0..1, the mean of all samples; None without any."""
        self._said.seek(0)
        samples = [float(line) for line in self._said if line.strip().isdigit()]
        return sum(samples) / len(samples) / 100 if samples else None

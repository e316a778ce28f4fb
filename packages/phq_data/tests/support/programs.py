"""The program `phq` run to its end in this process, which has its imports and models already."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import pytest

from phq_data.cli.main import main


def phq_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a process would have ended with; an error of which it makes no sentence is raised."""
    out, err = io.StringIO(), io.StringIO()
    heard = signal.getsignal(signal.SIGINT)  # a build has its own way to end at Ctrl-C
    with (
        patch.object(sys, "argv", ["phq", *arguments]), patch.dict(os.environ, environment()),
        redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended,
    ):  # fmt: skip
        main()
    signal.signal(signal.SIGINT, heard)
    code = ended.value.code or 0
    return subprocess.CompletedProcess(
        arguments, code if isinstance(code, int) else 1, out.getvalue(), err.getvalue()
    )


def environment() -> dict[str, str]:
    """The environment of a program: one numeric thread, no colors, lines of 120 characters."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}

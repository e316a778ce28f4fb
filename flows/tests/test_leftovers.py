"""What outlives a killed build is found by its mark and ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phq_flows import leftovers

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks in /proc")

_BUILD = """
import subprocess, sys, time
from phq_flows import leftovers

before = subprocess.Popen(["sleep", "600"])
leftovers.watch()
leftovers.watch()  # once is enough
# As daemons do: a session of its own, no terminal (-3: DEVNULL), and its parent ends.
command = "import subprocess as s; print(s.Popen(['sleep', '600'], stdout=-3, start_new_session=True).pid)"
inner = subprocess.run([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True, check=True)
print(before.pid, inner.stdout.strip(), flush=True)
time.sleep(600)
"""


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.timeout(120)
def test_what_a_killed_program_started_ends_and_nothing_else_does():
    build = subprocess.Popen([sys.executable, "-c", _BUILD], stdout=subprocess.PIPE, text=True)
    before, daemon = map(int, build.stdout.readline().split())
    try:
        assert runs(before) and runs(daemon)
        mark = dict(
            line.split(b"=", 1) for line in Path(f"/proc/{daemon}/environ").read_bytes().split(b"\0") if line
        )[leftovers.MARK.encode()].decode()
        assert daemon in leftovers.marked(mark) and before not in leftovers.marked(mark)
        build.send_signal(signal.SIGKILL)
        build.wait()
        deadline = time.monotonic() + 60
        while runs(daemon) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not runs(daemon) and runs(before)
        assert leftovers.marked(mark) == []
    finally:
        for pid in (before, daemon):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)

"""What outlives a killed build is known by the tree of processes, and ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phq_flows import leftovers

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks in /proc")

_BUILD = """
import subprocess, sys, time
from phq_flows import leftovers

leftovers.watch()
leftovers.watch()  # once is enough
# A node in a session of its own that starts an agent there (-3: DEVNULL).
agent = "import subprocess as s; a = s.Popen(['sleep', '600'], stdout=-3); print(a.pid, flush=True); a.wait()"
command = [sys.executable, "-c", agent]
node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
print(node.pid, node.stdout.readline().strip(), flush=True)
time.sleep(600)
"""


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.timeout(120)
def test_what_a_killed_program_started_ends_and_nothing_else_does():
    bystander = subprocess.Popen(["sleep", "600"])
    build = subprocess.Popen([sys.executable, "-c", _BUILD], stdout=subprocess.PIPE, text=True)
    node, agent = map(int, build.stdout.readline().split())
    try:
        found = leftovers.below(build.pid)
        assert (
            {node, agent} < set(found) and len(found) == 3 and bystander.pid not in found
        )  # and the watcher
        time.sleep(3)  # it looks every second
        build.send_signal(signal.SIGKILL)
        build.wait()
        os.kill(node, signal.SIGKILL)  # as a node does that loses its driver
        assert runs(agent)
        deadline = time.monotonic() + 60
        while any(map(runs, found)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(runs, found)) and runs(bystander.pid)
    finally:
        for pid in (bystander.pid, node, agent):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
        bystander.wait()

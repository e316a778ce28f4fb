"""The review service as a process of its own, as `phq review` starts it, for tests in a real browser."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
from ports import quiet_port

from annotator_app import serve
from annotator_app.service.settings import ServiceSettings


class Served:
    """A service over a workspace; the same port after a restart."""

    def __init__(self, workspace: Path, **settings):
        port = quiet_port()
        self.workspace = workspace
        self.settings = ServiceSettings(workspace=str(workspace), port=port, reviewer="ann", **settings)
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.first = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end(signal.SIGTERM)

    def start(self):
        environment = serve.environment(self.settings) | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen([sys.executable, "-m", "annotator_app.serve"], env=environment)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the service ended"
            try:
                if httpx.get(f"{self.url}/api/health", timeout=30, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        self.kill()
        raise AssertionError("the service did not start")

    def kill(self):
        """As a power cut would."""
        self.end(signal.SIGKILL)

    def end(self, number):
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)
            self.process.wait(90)

    @property
    def database(self) -> Path:
        return self.workspace / "review" / "review.sqlite"

    def query(self, sql, *values):
        """Rows of the live database, read beside the service."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def mark(self):
        """From now on, `log` tells only what is new."""
        self.first = self.query("SELECT COALESCE(MAX(seq), 0) FROM decisions")[0][0]

    def log(self):
        """(portrait, verdict, reason, reviewer) in order of arrival."""
        columns = "portrait_id, verdict, reason, reviewer"
        return self.query(f"SELECT {columns} FROM decisions WHERE seq > ? ORDER BY seq", self.first)

    def standing(self):
        """portrait -> verdict of reviewer ann."""
        return dict(self.query("SELECT portrait_id, verdict FROM standings WHERE reviewer = 'ann'"))


def set_policy(workspace: Path, **values):
    """Change how the team reviews, before the service starts."""
    import dataclasses

    from phq_data.review import items
    from phq_data.review.store import Store
    from phq_data.workspace import Workspace

    opened = Workspace.open(workspace)
    store = Store.open(opened)
    items.sync(store, opened)
    store.set_policy(dataclasses.replace(store.policy(), **values))
    store.close()


def phq_review(*arguments, home, until="Ctrl-C ends the review", seconds=300):
    """The running program `phq review`, and what it said up to the line with `until` (empty: the first)."""
    environment = {**os.environ, "HOME": str(home), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "phq_data.cli.main", "review", *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    lines, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        lines.append(line)
        if until in line:
            return process, "".join(lines)
        if not line:
            break
    process.kill()
    raise AssertionError(f"phq review said: {lines} {process.communicate()[1]}")

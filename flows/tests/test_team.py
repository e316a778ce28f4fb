"""A team's server on loopback: deployments, parameters, artifacts, limits, and runs that lose their machine.

One server for the module. The build whose machine is lost begins first; the other tests run while the server
waits for its next sign of life.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import postgres_server
import pytest
from chromium import chromium
from ports import quiet_port
from programs import environment

from phq_flows.team import CRASH_HOURS, MOST_CRASHES, SETTLE_SECONDS

from .conftest import PHQ, _answers, rows_of
from .test_server import descendants, zombie

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PHOTOS = "synthetic:3@3"  # those of the fixture `small`
SETTINGS = '{"part_size": 1}'
FILE = """
lost_after_seconds = 75
[limits]
gpu = 1
[[deployments]]
flow = "build"
name = "nightly"
tags = ["team"]
concurrency_limit = 1
[deployments.parameters]
workspace = "WS"
sources = ["PHOTOS"]
settings = 'SETTINGS'
concurrency_limit = "gpu"
report = true
[[deployments]]
flow = "report"
every = "6 h"
parameters = { workspace = "WS" }
[[deployments]]
flow = "scrape"
cron = "0 3 * * *"
timezone = "Europe/Berlin"
parameters = { workspace = "WS", limit = 10 }
[[deployments]]
flow = "release"
parameters = { workspace = "WS", releases = "RELEASES", version = "1.0.0" }
"""


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("phq-build/nightly", {"workspace": 3}, "3 is not of type 'string'"),
    ("phq-build/nightly", {"retry_faild": True}, "'retry_faild' was unexpected"),
    ("phq-scrape/scrape", {"source": "wiki"}, "'wiki' is not one of ['wikimedia', "),
    ("phq-scrape/scrape", {"limit": "many"}, "'many' is not of type 'integer'"),
    ("phq-report/report", {"out": []}, "[] is not of type 'string'"),
    ("phq-release/release", {"images": "some"}, "'some' is not one of ['all', 'none']"),
]


def alive(pid):
    return Path(f"/proc/{pid}").exists() and not zombie(pid)


class Team:
    """A server, its address, and the programs that were started beside it."""

    def __init__(self, folder, database, start=True):
        self.folder = folder
        port = quiet_port()
        self.url = f"http://127.0.0.1:{port}"
        kept = {name: value for name, value in environment().items() if not name.startswith("PREFECT_")}
        self.environment = kept | {
            "PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PHQ_ARTIFACTS_URL": f"{folder}/served=http://files.example.org",
        }  # fmt: skip
        self._running = []
        if start:
            self.start("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
            wait_for(self.answers)

    def answers(self):
        return _answers(f"{self.url}/api/health")

    def start(self, name, module, *arguments):
        """A program in a session of its own, which writes to the log `name`."""
        return self._start(
            name, [str(PHQ)] if module == "phq" else [sys.executable, "-m", module], *arguments
        )

    def start_shell(self, name, text):
        return self._start(name, ["bash", "-c", text])

    def shell(self, text):
        return subprocess.run(
            ["bash", "-c", text], env=self.environment, cwd=self.folder, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def _start(self, name, command, *arguments):
        with (self.folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                [*command, *arguments], env=self.environment, cwd=self.folder, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._running.append(started)
        return started

    def worker(self, name):
        return self.start(name, "prefect", "worker", "start", "--pool", "phq", "--name", name)

    def phq(self, *arguments):
        return self.shell(shlex.join([str(PHQ), *arguments]))

    def ask(self, method, path, **more):
        return httpx.request(method, f"{self.url}/api{path}", timeout=60, trust_env=False, **more)

    def deployment(self, name):
        return self.ask("GET", f"/deployments/name/{name}").json()

    def run(self, name, **parameters):
        """Ask for a run, as the page and `prefect deployment run` do."""
        path = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        return self.ask("POST", path, json={"parameters": parameters})

    def state(self, run):
        about = self.ask("GET", f"/flow_runs/{run}").json()
        return about["state_name"], about["run_count"]

    def artifacts(self, run):
        only = {"flow_runs": {"id": {"any_": [run]}}}
        return {one["key"]: one for one in self.ask("POST", "/artifacts/filter", json=only).json()}

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def close(self):
        for program in reversed(self._running):
            for pid in (*descendants(program.pid), program.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            program.wait()


def wait_for(condition, seconds=400.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team")
    with contextlib.ExitStack() as stack:
        database = f"sqlite+aiosqlite:///{folder}/prefect.db"
        if postgres_server.binaries() and (os.getuid() or postgres_server.unprivileged()):
            address, admin = stack.enter_context(postgres_server.server())
            admin.execute("CREATE DATABASE prefect")
            database = f"{address.replace('postgresql', 'postgresql+asyncpg')}/prefect"
        yield stack.enter_context(contextlib.closing(Team(folder, database)))


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def deployed(team):
    """The deployments of `phq-serve.toml`, handed to the pool's workers."""
    text = FILE.replace("WS", str(team.folder / "served/ws")).replace("PHOTOS", PHOTOS)
    text = text.replace("SETTINGS", SETTINGS).replace("RELEASES", str(team.folder / "releases"))
    (team.folder / "phq-serve.toml").write_text(text)
    done = team.phq("serve", "--work-pool", "phq")
    assert done.returncode == 0, done.stderr
    assert "phq-build/nightly" in done.stdout and "limits and automations are set up" in done.stdout
    return team


@pytest.fixture(scope="module")
def lost_run(deployed):
    """A build whose worker and process are killed in the middle, as when their machine is lost."""
    first = deployed.worker("first")
    run = deployed.run("phq-build/nightly", concurrency_limit="").json()["id"]
    ledger = deployed.folder / "served/ws/ledger/detect"
    wait_for(lambda: len(list(ledger.glob("part-*"))) >= 1)
    for pid in (first.pid, *descendants(first.pid)):  # a worker that sees its run's process end reports it
        os.kill(pid, signal.SIGKILL)
    assert deployed.state(run) == ("Running", 1)  # nobody has noticed
    return run


@pytest.mark.usefixtures("lost_run")
def test_the_server_refuses_parameters_that_a_flow_does_not_have(deployed):
    for name, parameters, words in REFUSED:
        refused = deployed.run(name, **parameters)
        assert refused.status_code == 409 and words in refused.json()["detail"], refused.text
    schema = deployed.deployment("phq-build/nightly")["parameter_openapi_schema"]
    assert "folder (or fsspec URL)" in schema["properties"]["workspace"]["description"]


@pytest.mark.usefixtures("lost_run")
def test_deployments_have_what_the_file_says(deployed):
    build, scrape = (deployed.deployment(name) for name in ("phq-build/nightly", "phq-scrape/scrape"))
    assert build["tags"] == ["team"] and build["work_pool_name"] == "phq" and build["schedules"] == []
    assert build["global_concurrency_limit"]["limit"] == 1
    assert scrape["schedules"][0]["schedule"] == {
        "cron": "0 3 * * *", "timezone": "Europe/Berlin", "day_or": True,
    }  # fmt: skip
    assert scrape["parameters"]["limit"] == 10
    scheduled = {"deployments": {"id": {"any_": [scrape["id"]]}}}
    wait_for(lambda: deployed.ask("POST", "/flow_runs/count", json=scheduled).json() > 0)
    assert deployed.ask("GET", "/v2/concurrency_limits/gpu").json()["limit"] == 1


SLOTS = """
import threading, time
from phq_flows import groups

inside, most = 0, 0

def part():
    global inside, most
    with groups.slot("gpu", "detect"):
        inside += 1
        most = max(most, inside)
        time.sleep(1)
        inside -= 1

threads = [threading.Thread(target=part) for _ in range(3)]
[one.start() for one in threads], [one.join() for one in threads]
with groups.slot("no such limit", "detect"), groups.slot("gpu", "ingest"), groups.slot("", "detect"):
    print("most", most)
"""


@pytest.mark.usefixtures("lost_run")
def test_parts_that_run_networks_take_turns_and_without_a_limit_nobody_waits(deployed):
    done = deployed.shell(shlex.join([sys.executable, "-c", SLOTS]))
    assert done.returncode == 0 and done.stdout == "most 1\n", done.stderr
    assert deployed.ask("GET", "/v2/concurrency_limits/gpu").json()["active_slots"] == 0


@pytest.mark.usefixtures("lost_run")
def test_prefect_deploy_does_the_same_from_prefect_yaml(deployed):
    folder = os.fspath(PHQ.parents[2] / "flows")
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], cwd=folder,
        env=deployed.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wrong = {"versoin": "2.0.0"}
    assert deployed.phq("serve", "--prepare").returncode == 0
    for name in ("phq-scrape/scrape", "phq-build/build", "phq-report/report", "phq-release/release"):
        about = deployed.deployment(name)
        assert about["work_pool_name"] == "phq" and about["pull_steps"] in (None, [])
        assert about["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
        refused = deployed.run(name, **wrong)
        assert refused.status_code == 409 and "'versoin' was unexpected" in refused.json()["detail"]


def test_a_run_that_crashes_before_it_begins_fails_at_last(deployed):
    """As on a worker that cannot import the flow: no attempt is counted, since none is ever Running."""
    run = deployed.run("phq-report/report").json()["id"]

    def become(kind):
        answer = deployed.ask("POST", f"/flow_runs/{run}/set_state", json={"state": {"type": kind}}).json()
        assert answer["status"] == "ACCEPT", answer

    for _ in range(MOST_CRASHES - 1):
        become("CRASHED")
        become("SCHEDULED")
    become("CRASHED")
    wait_for(lambda: deployed.state(run)[0] == "Failed")
    time.sleep(SETTLE_SECONDS + 10)
    assert deployed.state(run) == ("Failed", 0)  # nobody has taken it up again
    assert (
        f"{MOST_CRASHES} times in {CRASH_HOURS} h"
        in deployed.ask("GET", f"/flow_runs/{run}").json()["state"]["message"]
    )


def test_a_run_that_lost_its_machine_goes_on_elsewhere(lost_run, deployed, small):
    deployed.worker("second")
    wait_for(lambda: deployed.state(lost_run)[0] in ("Completed", "Failed"))
    state, attempts = deployed.state(lost_run)
    assert state == "Completed" and attempts >= 2, deployed.log("second")[
        -3000:
    ]  # slow ones: a late heartbeat
    states = deployed.ask("GET", f"/flow_run_states/?flow_run_id={lost_run}").json()
    assert {"Crashed": "No sign of life for 75 s: its machine is lost.",
            "AwaitingRetry": "It crashed 20 s ago: it is taken up again."}.items() <= {
        one["name"]: one["message"] for one in states
    }.items()  # fmt: skip
    assert rows_of(deployed.folder / "served/ws") == rows_of(small)


def test_a_worker_refuses_a_relative_path(lost_run, deployed):
    """It would open, and delete, a folder of that name in the run's own working directory."""
    wait_for(lambda: deployed.state(lost_run)[0] == "Completed")
    run = deployed.run("phq-build/nightly", workspace="portraits").json()["id"]
    wait_for(lambda: deployed.state(run)[0] in ("Completed", "Failed"))
    about = deployed.ask("GET", f"/flow_runs/{run}").json()["state"]
    assert about["name"] == "Failed" and "workspace 'portraits' is a relative path" in about["message"]


def test_the_runs_page_shows_counts_a_link_and_the_overlay_sheet(lost_run, deployed, browser):
    wait_for(lambda: deployed.state(lost_run)[0] == "Completed")
    shown = deployed.artifacts(lost_run)
    assert {"phq-build", "phq-build-progress", "phq-counts", "phq-overlays", "phq-report"} <= set(shown)
    assert "(http://files.example.org/ws/report/index.html)" in shown["phq-report"]["data"]
    assert shown["phq-overlays"]["data"] == "http://files.example.org/ws/report/overlays.png"
    page = browser.new_page()
    page.route("http://files.example.org/**", lambda route: route.fulfill(
        path=deployed.folder / "served" / route.request.url.partition("example.org/")[2]
    ))  # fmt: skip
    place = f"{deployed.url}/artifacts/artifact/{{}}"
    page.goto(place.format(shown["phq-overlays"]["id"]))
    page.wait_for_function("[...document.images].some(image => image.naturalWidth > 500)", timeout=120_000)
    page.goto(place.format(shown["phq-report"]["id"]))
    page.get_by_role("link", name="Report", exact=True).wait_for(timeout=120_000)
    page.goto(place.format(shown["phq-counts"]["id"]))
    page.get_by_text("align_crop").wait_for(timeout=120_000)
    page.close()


SERVED = """
[[deployments]]
flow = "report"
name = "here"
parameters = { workspace = "SMALL" }
[[deployments]]
flow = "build"
name = "here"
parameters = { workspace = "COPY", sources = ["synthetic:3@3"] }
"""


def test_served_runs_end_and_ctrl_c_ends_the_server_of_runs(deployed, small):
    copy = deployed.folder / "copy"
    shutil.copytree(small, copy)
    served = deployed.folder / "serve.toml"
    served.write_text(SERVED.replace("SMALL", str(small)).replace("COPY", str(copy)))
    serving = deployed.start("serve", "phq", "serve", str(served))
    wait_for(lambda: "Ctrl-C ends it" in deployed.log("serve"))
    report = deployed.run("phq-report/here", out=str(deployed.folder / "page")).json()["id"]
    build = deployed.run("phq-build/here").json()["id"]
    for run in (report, build):
        wait_for(lambda run=run: deployed.state(run)[0] in ("Completed", "Failed"))
        assert deployed.state(run) == ("Completed", 1), deployed.log("serve")
    shown = deployed.artifacts(report)
    assert f"`{deployed.folder}/page/index.html`" in shown["phq-report"]["data"]  # no browser reaches it
    assert "file://" not in shown["phq-report"]["data"]
    assert shown["phq-overlays"]["data"].startswith("data:image/jpeg;base64,")
    # A build without settings keeps those of the workspace.
    assert (copy / "config.json").read_bytes() == (small / "config.json").read_bytes()
    more = {"workspace": str(deployed.folder / "more"), "sources": ["synthetic:200@3"]}
    deployed.run("phq-build/here", **more).raise_for_status()
    wait_for((deployed.folder / "more/.lock").exists)
    children = descendants(serving.pid)
    serving.send_signal(signal.SIGINT)
    assert serving.wait(120) == 0
    assert "no longer serving" in deployed.log("serve") and "Traceback" not in deployed.log("serve")
    wait_for(lambda: not any(alive(pid) for pid in children))

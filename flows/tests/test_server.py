"""The private Prefect server: it starts without a home, is waited for, and ends with the build."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest
from programs import environment, phq_here

from phq_flows import server

from .conftest import PHQ, rows_of
from .test_head_start import WAITING


@pytest.fixture
def unconfigured(monkeypatch, tmp_path):
    """No server configured, a home of the test's own."""
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILES_PATH", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def without_prefect(monkeypatch, unconfigured):
    """A server that ends while it starts."""
    command = [sys.executable, "-c", "import sys; sys.exit('no room for a database')"]
    started = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **more: started(command, **more))


def test_a_server_that_ends_is_told_with_its_last_words(without_prefect):
    with pytest.raises(server.ServerError, match=r"ended while it started \(no room for a database\)"):
        server.start(lambda text: None)
    assert "PREFECT_API_URL" not in os.environ


def test_a_server_that_never_answers_is_waited_for_with_a_word_and_then_ended(monkeypatch, unconfigured):
    started, running = subprocess.Popen, []

    def sleeper(_, **more):
        running.append(started([sys.executable, "-c", "import time; time.sleep(600)"], **more))
        return running[0]

    monkeypatch.setattr(subprocess, "Popen", sleeper)
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(server, "START_SECONDS", 1.0)
    said = []
    with pytest.raises(server.ServerError, match="did not answer within 1 s"):
        server.start(said.append)
    assert "the machine is busy, please wait" in said[0]
    assert running[0].poll() is not None


def test_a_build_goes_on_without_prefect_and_says_so(without_prefect, tmp_path):
    done = phq_here("build", "-w", str(tmp_path / "ws"), "--runner", "threads", "synthetic:1@3")
    assert done.returncode == 0, done.stderr
    assert "no room for a database): going on without Prefect" in done.stderr
    assert "Traceback" not in done.stderr and rows_of(tmp_path / "ws")["portraits"]


def test_a_configured_server_is_left_alone(monkeypatch, unconfigured):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(subprocess, "Popen", None)
    server.start(lambda text: None)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:9/api"


def test_a_configured_server_needs_no_home_either_and_stays_configured(monkeypatch, unconfigured, tmp_path):
    """The profile that names it can be read where nothing can be written."""
    home = tmp_path / "readonly"
    home.mkdir()
    (home / "profiles.toml").write_text(
        'active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    )
    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.setenv("PREFECT_PROFILES_PATH", "")  # so that what is set is undone
    monkeypatch.delenv("PREFECT_PROFILES_PATH")
    monkeypatch.setattr(subprocess, "Popen", None)

    def full(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("phq_flows.server.tempfile.TemporaryFile", full)
    said = []
    server.start(said.append)
    assert len(said) == 1 and "there is no home to write to" in said[0]
    assert os.environ["PREFECT_HOME"] != str(home) and server.configured()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_private_server_answers_those_who_know_its_secret_and_no_proxy_hears_it(
    monkeypatch, unconfigured
):
    started, running = subprocess.Popen, []

    def noted(*command, **more):
        running.append(started(*command, **more))
        return running[0]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with socket.create_server(("127.0.0.1", 0)) as proxy, patch.dict(os.environ):
        proxy.setblocking(False)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        os.environ |= {"http_proxy": address, "HTTP_PROXY": address, "no_proxy": "", "NO_PROXY": "a.example"}
        server.start(lambda text: None, "127.0.0.1")
        try:
            assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "a.example,127.0.0.1"
            url, secret = (
                f"{os.environ['PREFECT_API_URL']}/admin/version",
                os.environ["PREFECT_API_AUTH_STRING"],
            )
            wrong, right = httpx.BasicAuth("phq", "0" * 64), httpx.BasicAuth(*secret.split(":"))
            answers = [httpx.get(url, auth=auth, timeout=60).status_code for auth in (None, wrong, right)]
            assert answers == [401, 401, 200]
            command = Path(f"/proc/{running[0].pid}/cmdline")
            assert not command.exists() or secret.partition(":")[2] not in command.read_text()
            with pytest.raises(BlockingIOError):
                proxy.accept()
        finally:
            server._stop(running[0])


def children_of(pid):
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(status.parent.name))
    return found


def descendants(pid):
    inner = children_of(pid)
    return inner.union(*(descendants(child) for child in inner)) if inner else inner


def bare_environment(home):
    kept = {name: value for name, value in environment().items() if not name.startswith("PREFECT_")}
    return {**kept, "HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_build_needs_no_home(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WAITING, "build", "-w", str(tmp_path / "ws"), "--runner", "threads",
         "--set", "part_size=1", "synthetic:2@3"],
        env=bare_environment("/proc/nohome"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "there is no home to write to" in done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    assert "going on without Prefect" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_nothing_outlives_a_killed_build(tmp_path):
    build = subprocess.Popen(
        [str(PHQ), "build", "-w", str(tmp_path / "ws"), "--runner", "processes", "--set", "part_size=1",
         "synthetic:90@3"],
        env=bare_environment(str(tmp_path / "home")), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while len(left := descendants(build.pid)) < 2:  # the server and a worker
            assert build.poll() is None
            time.sleep(0.2)
    finally:
        build.send_signal(signal.SIGKILL)
        build.wait()
    deadline = time.monotonic() + 30
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if Path(f"/proc/{pid}").exists() and not zombie(pid)}
        time.sleep(0.2)
    assert not left


def zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

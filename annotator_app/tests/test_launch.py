"""`phq review` as a user meets it: starts both parts, says where, ends both, explains itself."""

import re
import signal
import socket
import time

import httpx
import pytest
from ports import quiet_port
from served import phq_review

from annotator_app.launch import Address, LaunchError, free_port
from benchmarks.review_fixtures import make_workspace
from phq_data.compatibility import RenamedWarning
from phq_data.workspace import Workspace, WorkspaceError


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixtures") / "workspace"
    make_workspace(folder, 24, images=3, size=64, faces=100)
    return folder


@pytest.mark.slow
def test_both_parts_run_and_end_together_and_nothing_is_written_to_the_home(workspace, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    port = str(quiet_port())
    process, said = phq_review(
        "--workspace", str(workspace), "--no-browser", "--port", port, "--app-port", "8766", home=home
    )
    try:
        page, app = re.search(r"review +(http\S+)", said)[1], re.search(r"app +(http\S+)", said)[1]
        assert (page.split("/")[2], app) == (f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/app/")
        assert "--app-port is no longer needed" in said
        assert "PHQ review" in httpx.get(page, timeout=90, trust_env=False).text
        assert httpx.get(app, timeout=90, trust_env=False).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Decisions are kept" in out
    for address in (page, app):
        with pytest.raises(httpx.ConnectError):
            httpx.get(address, trust_env=False)
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_a_killed_launcher_takes_its_children_with_it(workspace, tmp_path):
    port = quiet_port()
    process, said = phq_review(
        "--workspace", str(workspace), "--no-browser", "--service-only", "--port", str(port), home=tmp_path
    )
    assert "app  " not in said
    process.kill()
    process.communicate(timeout=120)
    for _ in range(900):
        try:
            httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=1, trust_env=False)
        except httpx.HTTPError:
            return
        time.sleep(0.1)
    raise AssertionError("the service outlived its launcher")


def test_a_taken_port_is_replaced_by_a_free_one():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert free_port("127.0.0.1", taken) != taken
    assert free_port("127.0.0.1", taken) == taken


def test_an_address_that_is_not_ours_is_explained():
    with pytest.raises(LaunchError, match=r"cannot listen on 192\.0\.2\.1"):
        free_port("192.0.2.1", 8765)


def test_addresses_for_browsers():
    assert Address("0.0.0.0", 80).url == "http://127.0.0.1:80"
    assert Address("::1", 80).url == "http://[::1]:80"


@pytest.fixture(scope="module")
def phq():
    """The program in this process: (arguments) -> exit code, what it says, error it raised."""
    from typer.testing import CliRunner

    from phq_data.cli.main import make_app

    app = make_app()

    def run(*arguments):
        done = CliRunner(env={"COLUMNS": "100"}).invoke(app, ["review", *arguments])
        return done.exit_code, done.output, done.exception

    return run


def test_mistakes_are_told_with_the_value_that_was_wrong(phq, tmp_path):
    code, said, _ = phq("--workspace", str(tmp_path), "--order", "mood")
    assert code == 2 and "mood" in said
    code, said, _ = phq("--host", "0.0.0.0")
    assert code == 2 and "--workspace" in said
    _, _, error = phq("--workspace", str(tmp_path / "no-such-folder"))
    assert isinstance(error, WorkspaceError) and "no-such-folder" in str(error)


def test_an_empty_workspace_says_how_to_fill_it(phq, tmp_path):
    Workspace.open(tmp_path / "w", create=True)
    code, _, error = phq("--workspace", str(tmp_path / "w"))
    assert code == 1 and isinstance(error, LaunchError) and "phq build" in str(error)


def test_the_old_name_of_the_order_works_with_a_notice(phq, tmp_path):
    Workspace.open(tmp_path / "w", create=True)
    with pytest.warns(RenamedWarning, match="doubt is now error_probability"):
        _, _, error = phq("--workspace", str(tmp_path / "w"), "--order", "doubt")
    assert isinstance(error, LaunchError)  # it goes on: there are no portraits


@pytest.mark.slow
def test_reachable_by_others_without_a_password_is_refused(workspace, tmp_path):
    process, _ = phq_review(
        "--workspace", str(workspace), "--host", "0.0.0.0", "--no-browser", "--service-only",
        "--port", str(quiet_port()), home=tmp_path, until="",
    )  # fmt: skip
    _, problem = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "invite" in problem and "Traceback" not in problem


def test_help_teaches(phq):
    _, said, _ = phq("--help")
    for word in ("--workspace", "--service-only", "--database", "export", "import", "shoulders", "Examples"):
        assert word in said

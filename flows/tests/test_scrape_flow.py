"""`phq scrape` as a person runs it: the program, killed and run again, and the flow."""

import ast
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import web_server
import yaml
from programs import environment, phq_here

from phq_data.workspace import Workspace

from .conftest import PHQ, phq


@pytest.fixture
def server(monkeypatch):
    """A site that a `phq` started here may ask."""
    monkeypatch.setenv("PHQ_CONTACT", "ada@example.org")
    monkeypatch.setenv("PHQ_ALLOW_PRIVATE_HOSTS", "1")
    module = web_server
    with module.serving() as site:
        site.module = module
        yield site


def url_list(site, folder, count):
    for index in range(count):
        site.pages[f"/{index}.jpg"] = site.module.jpeg(index)
    path = folder / "list.csv"
    lines = [f"{site.url}/{index}.jpg,CC0,Ada" for index in range(count)]
    path.write_text("\n".join(["url,license,author", *lines]))
    return path


@pytest.mark.slow
def test_a_scrape_that_is_killed_goes_on_and_a_build_follows(server, tmp_path):
    listed = url_list(server, tmp_path, 24)
    answer = server.module.Answer
    for index in range(24):  # slow enough to be killed in the middle
        server.pages[f"/{index}.jpg"] = answer(server.pages[f"/{index}.jpg"], pause=0.2)
    workspace = tmp_path / "ws"
    command = [str(PHQ), "scrape", "urls", str(listed), "-w", str(workspace), "--connections", "2"]
    started = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(server.asked("/1")) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    started.stderr.close()
    had = len(server.asked())
    assert had < 26
    done = phq_here(*command[1:])
    assert done.returncode == 0, done.stderr
    counts = server.counts()
    assert all(counts[f"/{index}.jpg"] >= 1 for index in range(24))
    assert sum(counts[f"/{index}.jpg"] for index in range(24)) <= 24 + 4  # those in flight at the kill
    opened = Workspace.open(workspace)
    photos = opened.table("photos").to_pylist()
    assert len(photos) == 24 and {row["license"] for row in photos} == {"CC0-1.0"}
    assert [row["uri"] for row in photos] == [f"{server.url}/{index}.jpg" for index in range(24)]
    assert not [path for path in (workspace / "photos").rglob(".tmp-*")]
    server.requests.clear()
    built = phq_here("build", "-w", str(workspace), "--runner", "inline", "--workers", "1")
    assert built.returncode == 0, built.stderr
    assert "done before" in built.stderr  # the ingest of the scrape counts
    assert not server.requests


def test_errors_are_one_sentence_and_no_key_is_ever_shown(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PEXELS_API_KEY", "topsecretkey")
    monkeypatch.setenv("PHQ_PEXELS_API", server.url)
    barred = phq_here("scrape", "pexels", "-w", str(tmp_path / "ws"), "--query", "x")
    assert barred.returncode == 1 and barred.stderr.startswith("phq: the terms of Pexels stand against")
    assert "Traceback" not in barred.stderr and not server.requests
    permission = tmp_path / "permission.json"
    permission.write_text(
        json.dumps(
            {"who": "Pexels", "scope": ["search", "store", "train"], "date": "2026-11-01",
             "reference": "letter", "provider": "pexels"}
        )
    )  # fmt: skip
    blanket = tmp_path / "other.json"
    blanket.write_text(permission.read_text().replace('"pexels"', '"unsplash"'))
    server.pages["/v1/search"] = server.module.Answer(b'{"error": "bad key"}', 401)
    refused = phq_here("scrape", "pexels", "-w", str(tmp_path / "ws"), "--query", "x",
                       "--permission", str(blanket), "--permission", str(permission))  # fmt: skip
    assert refused.returncode == 1 and "PEXELS_API_KEY" in refused.stderr
    assert server.requests[0].headers["Authorization"] == "topsecretkey"
    for text in (refused.stderr, refused.stdout, barred.stderr):
        assert "topsecretkey" not in text and "Traceback" not in text
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and all(b"topsecretkey" not in path.read_bytes() for path in written)


def test_help_shows_the_sources_and_queries_the_default_searches():
    shown = phq_here("scrape", "--queries")
    assert "person from behind" in shown.stdout and "背影" in shown.stdout
    helped = phq_here("scrape", "--help")
    for word in ("wikimedia", "openverse", "pexels", "unsplash-lite", "--retry-failed", "--permission"):
        assert word in helped.stdout


def test_every_deployment_names_a_flow_and_parameters_that_it_has():
    folder = Path(__file__).parents[1]
    content = yaml.safe_load((folder / "prefect.yaml").read_text())
    assert [entry["name"] for entry in content["deployments"]] == ["scrape", "build", "report", "release"]
    for entry in content["deployments"]:
        module, _, name = entry["entrypoint"].rpartition(".")
        tree = ast.parse((folder / "src" / f"{module.replace('.', '/')}.py").read_text())
        (found,) = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name]
        assert any(ast.unparse(one).startswith("flow(") for one in found.decorator_list)
        assert set(entry["parameters"]) <= {one.arg for one in found.args.args}
    locked = re.search(r'name = "prefect"\nversion = "([\d.]+)"', (folder.parent / "uv.lock.in").read_text())
    assert content["prefect-version"] == locked[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_flow_ends_as_the_program_does(server, tmp_path, monkeypatch, prefect_api):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    listed = url_list(server, tmp_path, 3)
    plain = phq_here("scrape", "urls", str(listed), "-w", str(tmp_path / "plain"))
    flow = phq("scrape", "urls", str(listed), "-w", str(tmp_path / "flow"), "--runner", "prefect")
    assert plain.returncode == flow.returncode == 0, flow.stderr
    tables = [Workspace.open(tmp_path / name).table("photos") for name in ("plain", "flow")]
    assert tables[0].num_rows == 3 and tables[0].equals(tables[1])

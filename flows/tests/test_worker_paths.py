"""On a pool's worker a relative path means a folder that is deleted after the run: nobody gets to use one."""

from types import SimpleNamespace

import pytest
from prefect.context import FlowRunContext

from phq_data.typed_json import ConfigError
from phq_data.workspace import WorkspaceError
from phq_flows import team, worker_paths
from phq_flows.build import build
from phq_flows.release import release
from phq_flows.report import report
from phq_flows.scrape import scrape
from phq_flows.serve_file import Deployment, ServeFile

RELATIVE = [
    ("build", {"workspace": "portraits"}, "workspace 'portraits'"),
    ("build", {"workspace": "~/portraits"}, "workspace '~/portraits'"),
    ("build", {"workspace": "file://portraits"}, "workspace 'file://portraits'"),
    ("build", {"workspace": "/ws", "sources": ["samples", "/photos", "photos"]}, "sources 'photos'"),
    ("report", {"workspace": "s3://b/ws", "out": "page"}, "out 'page'"),
    ("release", {"workspace": "/ws", "releases": "releases"}, "releases 'releases'"),
    ("release", {"releases": "/r", "push_to": "./far"}, "push_to './far'"),
    ("scrape", {"workspace": "/ws", "source": "urls", "path": "list.txt"}, "path 'list.txt'"),
    ("scrape", {"workspace": "/ws", "permission": ["/a.json", "b.json"]}, "permission 'b.json'"),
]


@pytest.mark.parametrize(("flow", "parameters", "words"), RELATIVE)
def test_a_relative_path_is_refused_to_a_pool_and_served_here(flow, parameters, words):
    file = ServeFile((Deployment(flow, "mine", parameters=parameters),))
    with pytest.raises(ConfigError, match="absolute path or a URL") as told:
        team.deployments(file, on_workers=True)
    assert str(told.value).startswith(f"mine: parameters: {words} is a relative path")
    assert len(team.deployments(file)) == 1


def test_what_means_the_same_everywhere_is_taken():
    worker_paths.check(
        {
            "workspace": "s3://bucket/ws", "releases": "file:///data/releases", "out": "", "permission": [],
            "sources": ["/photos", "samples", "synthetic", "synthetic:3@3"], "version": "1.0.0",
        }
    )  # fmt: skip
    worker_paths.check({"workspace": "/ws", "sources": None, "permission": "/data/permission.json"})


def running(monkeypatch, pool, parameters):
    flow_run = SimpleNamespace(id=None, run_count=1, work_pool_name=pool)
    context = SimpleNamespace(flow_run=flow_run, parameters=parameters)
    monkeypatch.setattr(FlowRunContext, "get", lambda: context)


@pytest.mark.parametrize("flow", [scrape, build, report, release])
def test_a_flow_on_a_worker_refuses_them_before_it_begins(tmp_path, monkeypatch, flow):
    """Whichever deployment or run named them."""
    monkeypatch.chdir(tmp_path)
    given = {"workspace": "ws"}
    given |= {"releases": "/releases", "version": "1.0.0"} if flow is release else {}
    running(monkeypatch, "phq", given)
    with pytest.raises(ConfigError, match="workspace 'ws' is a relative path"):
        flow.fn(**given)
    assert not any(tmp_path.iterdir())


def test_a_flow_of_this_machine_takes_them(monkeypatch):
    running(monkeypatch, None, {"workspace": "ws"})
    worker_paths.check_run()


def test_a_build_without_sources_and_plan_fails_and_makes_no_workspace(tmp_path):
    with pytest.raises(WorkspaceError, match="there is no workspace at"):
        build.fn(str(tmp_path / "ws"))
    assert not (tmp_path / "ws").exists()

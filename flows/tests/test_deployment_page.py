"""docs/deployment.md and docker/compose.yaml: the page's commands run, the file names what there is."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields
from programs import phq_here
from wheel_extras import reached

from phq_flows import environment, serve_file, team

from .conftest import PHQ
from .test_team import Team, wait_for

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deployment.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
TEAM = ("prefect-database", "prefect", "store", "bucket", "deployments", "workers", "team-review")
OURS = [name for name in TEAM if "build" in COMPOSE[name]]
OWN = {  # variables of others than Prefect
    "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION",
    "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD",
}  # fmt: skip
SOURCES = "\n".join(
    path.read_text()
    for folder in ("packages/phq_data/src", "flows/src", "annotator_app/src")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_pages_commands_do_what_it_says(small, tmp_path):
    """Blocks that say `terminal` go on in the background; ports and paths are those of the test."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    here = Team(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/prefect.db", start=False)
    here.environment["PATH"] = f"{PHQ.parent}:{here.environment['PATH']}"
    del here.environment["PREFECT_API_URL"]  # the page sets it
    (tmp_path / "photos").mkdir()
    photo = next((small / "photos").rglob("*.*"))
    (tmp_path / "photos" / photo.name).write_bytes(photo.read_bytes())
    exports = ""
    begun: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for block in blocks:
            text = block.replace("~/photos", "photos").replace("http://127.0.0.1:4200", here.url)
            text = text.replace("prefect server start", f"prefect server start --port {here.url[-5:]}")
            if found := re.match(r"# (terminal \d)\n", text):
                begun[found[1]] = here.start_shell(found[1], f"{exports}\nexec {text.partition(chr(10))[2]}")
                if "server start" in text:
                    wait_for(here.answers)
                if "phq serve" in text:
                    wait_for(lambda name=found[1]: "Ctrl-C ends it" in here.log(name))
                continue
            if "--work-pool" in text:
                begun["terminal 2"].send_signal(signal.SIGINT)  # Ctrl-C, as the page says
                assert begun["terminal 2"].wait(120) == 0
            done = here.shell(f"set -e\n{exports}\n{text}")
            assert done.returncode == 0, (text, done.stdout, done.stderr)
            exports += "".join(f"{line}\n" for line in text.splitlines() if line.startswith("export "))
        runs = here.ask("POST", "/flow_runs/filter", json={"sort": "EXPECTED_START_TIME_ASC"}).json()
        report, build = [one for one in runs if not one["auto_scheduled"]]  # the others are those of the cron
        assert report["state_name"] == build["state_name"] == "Completed"
        rows = json.loads(here.artifacts(build["id"])["phq-build"]["data"])
        assert rows[0]["stage"] == "ingest" and rows[0]["items"] >= 1
        assert (tmp_path / "portraits/report/index.html").exists()
        nightly = here.deployment("phq-build/nightly")
        assert not nightly["paused"] and [one["active"] for one in nightly["schedules"]] == [True]
    finally:
        here.close()


def test_every_option_of_the_page_is_one_of_its_command():
    used = set(re.findall(r"phq serve (--[\w-]+)", PAGE))
    shown = subprocess.run([str(PHQ), "serve", "--help"], capture_output=True, text=True, check=True).stdout
    assert used and all(option in shown for option in used)
    seconds = (team.SETTLE_SECONDS, environment.HEARTBEAT_SECONDS, 120)
    assert "{} s later".format(*seconds) in PAGE and "(every {1} s)".format(*seconds) in PAGE
    assert serve_file.ServeFile(()).lost_after_seconds == 120
    assert f"the {team.MOST_CRASHES}th time in {team.CRASH_HOURS} h" in PAGE


def environment_of(service):
    return COMPOSE[service].get("environment", {})


def test_variables_of_the_compose_file_are_read_by_somebody():
    known = set(_get_settings_fields(Settings)) | OWN
    for name in TEAM:
        for variable in environment_of(name):
            assert variable in known or (variable.startswith("PHQ_") and variable in SOURCES), variable
    page = set(re.findall(r"\b(PREFECT_[A-Z_]+)\b", PAGE))
    assert page <= known


def test_services_run_programs_packages_and_options_that_there_are():
    dockerfile = (ROOT / "docker/cpu.Dockerfile").read_text()
    assert 'ENTRYPOINT ["phq"]' in dockerfile and "WORKDIR /phq" in dockerfile
    for name in OURS:
        service = COMPOSE[name]
        extras = frozenset(service["build"]["args"]["EXTRAS"].split(","))
        assert {"phq-flows", "phq-review", "psycopg", "s3fs"} <= reached("phq", extras)
        command_line: list[str] = service.get("entrypoint", ["phq"]) + service.get("command", [])
        program, arguments = command_line[0], command_line[1:]
        assert program in ("phq", "prefect", "python")
        words = [argument for argument in arguments if not argument.startswith("-")]
        options = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
        if program == "python":
            compile(arguments[1], name, "exec")
            continue
        depth = 1 if program == "phq" else 2
        command = [str(PHQ)] if program == "phq" else [sys.executable, "-m", "prefect"]
        shown = subprocess.run(
            [*command, *words[:depth], "--help"], capture_output=True, text=True, check=True
        ).stdout  # fmt: skip
        assert all(option in shown for option in options), (name, options)


def test_services_wait_for_what_there_is_and_meet_at_the_same_addresses():
    for name in TEAM:
        for other, how in COMPOSE[name].get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in COMPOSE[other], (name, other)
            assert how["condition"] in ("service_healthy", "service_completed_successfully")
    ports = {name: COMPOSE[name]["ports"][0].rpartition(":")[2] for name in ("prefect", "store")}
    for name in ("deployments", "workers"):
        assert environment_of(name)["PREFECT_API_URL"] == f"http://prefect:{ports['prefect']}/api"
    for name in ("bucket", "workers", "team-review"):
        assert environment_of(name)["AWS_ENDPOINT_URL"] == f"http://store:{ports['store']}"
    database = environment_of("prefect-database")
    url = f"postgresql+asyncpg://{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}@prefect-database"
    connection = environment_of("prefect")["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    assert connection == f"{url}/{database['POSTGRES_DB']}"
    assert (
        environment_of("workers")["PREFECT_API_AUTH_STRING"]
        == (environment_of("prefect")["PREFECT_SERVER_API_AUTH_STRING"])
    )


def test_the_compose_files_deployments_are_ones_that_the_flows_take():
    mounted = [entry.split(":")[-2] for entry in COMPOSE["workers"]["volumes"]]
    file = serve_file.read(ROOT / "docker/phq-serve.toml")
    made = team.deployments(file)
    assert [one.flow_name for one in made] == ["phq-scrape", "phq-build", "phq-report", "phq-release"]
    pool = COMPOSE["workers"]["entrypoint"][COMPOSE["workers"]["entrypoint"].index("--pool") + 1]
    assert COMPOSE["deployments"]["command"] == ["serve", "/phq/docker/phq-serve.toml", "--work-pool", pool]
    workspace = next(one for one in COMPOSE["team-review"]["command"] if one.startswith("--workspace"))
    for one in file.deployments:
        assert one.parameters["workspace"] == workspace.partition("=")[2]
        assert set(one.parameters.get("sources", [])) <= set(mounted)


def test_the_containers_steps_meet_an_object_store(s3):
    """What `bucket`, a worker and the report do in containers, with S3 on loopback."""
    make = COMPOSE["bucket"]["entrypoint"][-1].replace("'phq'", "'phq-team'")
    for _ in range(2):  # also when it is there
        subprocess.run([sys.executable, "-c", make], check=True)
    file = serve_file.read(ROOT / "docker/phq-serve.toml")
    workspace, out = (file.deployments[2].parameters[name] for name in ("workspace", "out"))
    workspace, out = (url.replace("s3://phq/", "s3://phq-team/") for url in (workspace, out))
    assert phq_here("build", "-w", workspace, "--runner", "inline", "synthetic:1@3").returncode == 0
    assert phq_here("report", "-w", workspace, "--out", out).returncode == 0
    assert s3.service.fs.exists("phq-team/reports/workspace/index.html")

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest
from ports import quiet_port
from programs import environment, phq_here

from phq_data import schema
from phq_data.workspace import Workspace

PHQ = Path(sys.executable).with_name("phq")


def rows_of(folder: str | Path) -> dict[str, list]:
    """Every table of a workspace as lists of rows, in their order; nan as "nan", which equals itself."""
    workspace = Workspace.open(folder)
    names = ["plan", *schema.KEYS, "ledger"]
    names.remove("release")
    return {name: [comparable(row) for row in workspace.table(name).to_pylist()] for name in names}


def comparable(value):
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return "nan" if value != value else value


def phq(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run the program to its end."""
    return subprocess.run(
        [str(PHQ), *arguments], capture_output=True, text=True, check=False, env=environment(), **options
    )


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Photos that show people, among them real ones, and files that are no photos: three parts of three."""
    from phq_data.sources.resolve import resolve

    folder = tmp_path_factory.mktemp("photos")
    for spec, count in (("synthetic:3@3", 3), ("samples", 2)):
        source = resolve(spec)
        for number, file in enumerate(islice(source.files(), count)):
            with source.open(file) as stream:
                (folder / f"{source.provider}-{number}.jpg").write_bytes(stream.read())
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("not a photo by its name")
    (folder / "notes").write_text("not a photo")
    whole = (folder / "synthetic-0.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "sub").mkdir()
    (folder / "sub" / "copy.jpg").write_bytes(whole)
    return folder


@pytest.fixture(scope="session")
def finished(photos, tmp_path_factory) -> Path:
    """The workspace of a build that nobody disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "ws"
    done = phq_here("build", "-w", str(folder), "--runner", "inline", "--set", "part_size=3", str(photos))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The workspace that the inline runner makes of three photos in two parts."""
    folder = tmp_path_factory.mktemp("small") / "ws"
    done = phq_here("build", "-w", str(folder), "--runner", "inline", "--set", "part_size=2", "synthetic:3@3")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory) -> Iterator[str]:
    """The address of a Prefect server that flows share, as a team's would be; alone each starts its own."""
    address = f"http://127.0.0.1:{quiet_port()}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-services", "--no-ui", "--host",
               "127.0.0.1", "--port", address.rpartition(":")[2]]  # fmt: skip
    home = tmp_path_factory.mktemp("prefect")
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment() | {"PREFECT_HOME": str(home)}, stdout=log, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 300
    while not _answers(f"{address}/api/health"):
        assert server.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
        time.sleep(0.1)
    yield f"{address}/api"
    server.terminate()
    server.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=30, trust_env=False).is_success
    except httpx.HTTPError:
        return False

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from phq_data import schema
from phq_data.cli.main import main
from phq_data.workspace import Workspace

PHQ = Path(sys.executable).with_name("phq")


def rows_of(folder: Path) -> dict[str, list]:
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


def phq_here(*arguments: str) -> subprocess.CompletedProcess:
    """Run the program to its end in this process, which has its imports and models already."""
    out, err = io.StringIO(), io.StringIO()
    heard = signal.getsignal(signal.SIGINT)  # a build has its own way to end at Ctrl-C
    with (
        patch.object(sys, "argv", ["phq", *arguments]), patch.dict(os.environ, environment()),
        redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended,
    ):  # fmt: skip
        main()
    signal.signal(signal.SIGINT, heard)
    code = ended.value.code
    return subprocess.CompletedProcess(
        arguments, code if isinstance(code, int) else 1, out.getvalue(), err.getvalue()
    )


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Photos that show people, among them real ones, and files that are no photos."""
    from phq_data.sources.resolve import resolve

    folder = tmp_path_factory.mktemp("photos")
    for spec in ("synthetic:5@3", "samples"):
        source = resolve(spec)
        for number, file in enumerate(source.files()):
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
    done = phq("build", "-w", str(folder), "--runner", "inline", "--set", "part_size=3", str(photos))
    assert done.returncode == 0, done.stderr
    return folder

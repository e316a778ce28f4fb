"""`phq workspace`: what it prints, and its exit codes."""

import json

import pytest
from typer.testing import CliRunner

from phq_data.cli.main import make_app


@pytest.fixture
def phq():
    def run(*words):
        return CliRunner().invoke(make_app(), ["workspace", *map(str, words)])

    return run


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_workspace_is_told_in_one_line(phq, make_workspace):
    made = make_workspace(count=3)
    result = phq("verify", "-w", made.workspace.url)
    assert result.exit_code == 0
    assert "12 parts and 4 photos were read: all are what was written" in result.output


def test_faults_are_listed_with_advice_and_what_can_be_mended_is(phq, make_workspace, tmp_path):
    made = make_workspace(count=3, store_photos=True)
    folder = tmp_path / "workspace"
    assert phq("verify", "-w", folder, "--repair").exit_code == 0  # the plan has its copy from now on
    flip(folder / made.photos[0]["key"])  # its source, a file of another machine, is gone
    (folder / "plan/part-00000.parquet").unlink()
    result = phq("verify", "-w", folder)
    assert result.exit_code == 1 and "is missing" in result.output and "--repair" in result.output
    result = phq("verify", "-w", folder, "--repair", "--json")
    said = json.loads(result.output)
    assert result.exit_code == 1
    assert said["repaired"] == ["part 0 of the plan is back from its copy"]
    assert [(one["kind"], one["where"]) for one in said["faults"]] == [("photo", made.photos[0]["key"])]


def test_a_photo_is_taken_out_by_its_id(phq, make_workspace):
    made = make_workspace(count=3)
    photo = made.photos[1]["photo_id"]
    result = phq("remove", photo[:12], "-w", made.workspace.url)
    assert result.exit_code == 0 and "taken out: 1 file, 1 photo, 1 portrait" in result.output
    assert photo not in made.workspace.table("portraits", ["photo_id"])["photo_id"].to_pylist()
    assert phq("verify", "-w", made.workspace.url).exit_code == 0

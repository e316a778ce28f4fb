import json

import pytest
from programs import phq_here
from typer.testing import CliRunner

from phq_data.cli.main import make_app
from phq_data.release import reader

from .conftest import DAY


def phq(*args, fails=False):
    done = phq_here(*map(str, args))
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if fails else done.stdout


def test_the_life_of_a_release_on_the_command_line(maker, tmp_path):
    ids = maker.add(*(maker.photo() for _ in range(6)))
    ws = maker.workspace.url
    base, shelf, here = tmp_path / "ws/releases", tmp_path / "shelf", tmp_path / "here"
    make = ["release", "build", "-w", ws, "--unreviewed", "--date", DAY]
    assert "6 portraits" in phq(*make, "--version", "1.0.0")
    told = phq("release", "verify", base / "1.0.0", "--pixels")
    assert "is whole: 6 portraits" in told and "pixels and mask_pixels (sha256" in told and "MiB" in told
    phq("release", "push", base / "1.0.0", shelf, "--check")
    phq("release", "takedown", "-r", base, "--id", ids[0], "--reason", "asked for")
    assert "2.0.0" in phq(*make, "--version", "1.0.1", fails=True)
    assert "1 removed (1 taken down)" in phq(*make, "--version", "2.0.0")
    assert json.loads(phq("release", "diff", base / "1.0.0", base / "2.0.0", "--json"))["removed"] == 1
    assert "taken down" in phq(
        "release", "diff", base / "1.0.0", base / "2.0.0", "--out", tmp_path / "d.parquet"
    )
    rows = json.loads(phq("release", "list", "-r", base, "--json"))
    assert [(r["version"], r["portraits"], r["taken_down"]) for r in rows] == [
        ("1.0.0", 6, 1),
        ("2.0.0", 5, 0),
    ]
    phq("release", "push", base / "2.0.0", shelf)
    phq("release", "pull", shelf, "--version", "2.0.0", "-r", here)
    assert json.loads(phq("release", "stats", here / "2.0.0", "--json"))["rows"] == 5
    assert reader.open(here / "2.0.0").manifest.digest == reader.open(base / "2.0.0").manifest.digest


def test_what_goes_wrong_is_one_sentence(maker, tmp_path):
    maker.add(maker.photo(provider="folder", license=None))
    ws = maker.workspace.url
    assert "nothing is known about the license" in phq(
        "release", "build", "-w", ws, "--unreviewed", "--version", "1.0.0", fails=True
    )
    assert "written MAJOR" in phq("release", "build", "-w", ws, "--version", "1", fails=True)
    assert "no release at" in phq("release", "stats", tmp_path / "nowhere", fails=True)
    assert "at least 1 vote" in phq(
        "release", "build", "-w", ws, "--version", "1.0.0", "--min-votes", "0", fails=True
    )
    assert "no folder of releases" in phq("release", "list", "-r", tmp_path / "nowhere", fails=True)


def test_a_takedown_that_meets_nothing_says_so_loudly(tmp_path):
    done = CliRunner().invoke(make_app(), ["release", "takedown", "-r", str(tmp_path), "--author", "Nobody"])
    assert done.exit_code == 0 and "NOTHING MATCHED" in done.output and "'Nobody'" in done.output
    assert "remembered" in done.output and (tmp_path / "tombstones.json").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--creator", "Ada\x1b[31m"),
        ("--creator", "a\nb"),
        ("--url", "javascript:x"),
        ("--url", "http://a\x07b/"),
    ],
)
def test_a_creator_or_address_that_is_none_is_refused(tmp_path, option, value):
    asked = ["release", "build", "-w", str(tmp_path / "ws"), "--version", "1.0.0", option, value]
    done = CliRunner().invoke(make_app(), asked)
    assert done.exit_code == 2 and option in done.output
    assert not (tmp_path / "ws").exists()

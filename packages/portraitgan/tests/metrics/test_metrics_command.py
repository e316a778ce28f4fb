"""`portraitgan metrics` from end to end, on random weights."""

import json

import pytest

from portraitgan.commands.main import main
from portraitgan.metrics.report import table


@pytest.mark.slow
def test_everything_is_measured_and_written(run, release, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JSON", "1")
    sizes = ["--count", "12", "--num-samples", "4", "--yaw-limit", "90", "--device", "cpu"]
    assert main(["metrics", str(run), "--data", release, *sizes]) == 0
    result = json.loads((run / "metrics" / "kimg-000004.json").read_text())
    printed = capsys.readouterr().out
    assert json.loads(printed.splitlines()[-1]) == result
    assert set(result["fid"]["settings"]) == {
        "generator, identical", "generator, independent",
        "discriminator, identical", "discriminator, independent",
    }  # fmt: skip
    assert result["fid"]["seed"] == 0 and result["fid"]["count"] == 12
    assert result["fid"]["network"] in printed
    assert result["fid"]["note"] in printed
    assert result["release"]["digest"]
    assert result["identity"]["network"] == "mobileface (embedded)"
    assert result["real_poses"]["pose_error_labels_deg"] > 0
    assert 0 <= result["artifacts"]["faces_behind"]["rate"] <= 1
    assert "faces on the back of heads" in printed and "hair at the neck" in printed
    assert any((run / "metrics" / "features").iterdir())
    # Another measurement of the same checkpoint and release stands beside the first ones.
    assert main(["metrics", str(run), "--data", release, *sizes, "--only", "identity", "--seed", "1"]) == 0
    later = json.loads((run / "metrics" / "kimg-000004.json").read_text())
    assert later["identity"]["seed"] == 1 and later["fid"] == result["fid"]


@pytest.mark.slow
def test_a_run_trained_on_coarse_poses(coarse_run, run, release, tmp_path, capsys):
    out = tmp_path / "result.json"
    arguments = [
        "metrics",
        str(coarse_run),
        "--data",
        release,
        "--count",
        "6",
        "--num-samples",
        "2",
        "--device",
        "cpu",
    ]
    arguments += ["--only", "fid,canonicality,pose", "--out", str(out)]
    assert main(arguments) == 0
    result = json.loads(out.read_text())
    assert set(result["fid"]["settings"]) == {"labels, identical", "labels, independent"}
    assert result["canonicality"] is None and "--pose-discriminator" in capsys.readouterr().out
    assert result["real_poses"]["pose_error_learned_deg"] is None
    assert main([*arguments, "--pose-discriminator", str(run)]) == 0
    assert json.loads(out.read_text())["canonicality"]["pose_discriminator"].startswith(str(run))


def test_the_table_says_what_could_not_be_measured():
    result = {
        "checkpoint": "run", "release": {"url": "release", "digest": "d" * 64}, "canonicality": None,
        "generated_poses": None, "real_poses": None,
    }  # fmt: skip
    shown = table(result)
    assert "knows no truth" in shown and "--pose-discriminator" in shown


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["4", "--only", "beauty"], "no metric 'beauty'"),
        (["4", "--poses", "labels"], "no pose source of labels"),
        (["4", "--features", "nowhere.pth"], "nowhere.pth"),
        (["1"], "at least 2"),
        (["4", "--split", "night"], "'night'"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(run, release, capsys, arguments, words):
    given = ["metrics", str(run), "--data", release, "--device", "cpu", "--num-samples", "2"]
    assert main([*given, "--count", *arguments]) == 1
    assert words in capsys.readouterr().err

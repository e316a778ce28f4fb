"""Tables 2 and 3 of several runs."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from scipy import stats

from portraitgan.checkpoints import checkpoint
from portraitgan.checkpoints.checkpoint import NETWORKS, Checkpoint, State
from portraitgan.commands.main import main
from portraitgan.metrics import compare
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.poses import COMPONENTS
from portraitgan.metrics.quality import headline
from portraitgan.metrics.report import MetricOptions
from portraitgan.training import config as training

NONE = dict.fromkeys(COMPONENTS, 0.0)


def a_result(view, random, similarity, absolute):
    return {
        "fid": {"headline": {"generator": {"view": view, "random": random, "gap": random - view}}},
        "identity": {"similarity": similarity},
        "canonicality": {
            "absolute_mean_deg": {**NONE, "neck_x": absolute}, "absolute_std_deg": NONE,
            "mean_deg": NONE, "std_deg": NONE,
        },
    }  # fmt: skip


def test_rows_are_configs_and_margins_are_over_their_seeds():
    seeds = [a_result(10, 14, 0.5, 3), a_result(12, 17, 0.7, 5), a_result(14, 17, 0.6, 4)]
    other = {"fid": {"headline": {"none": {"view": 30, "random": None, "gap": None}}},
             "identity": {"similarity": 0.4}, "canonicality": None}  # fmt: skip
    quality, canonical = compare.tables([
        ("paper", "a", seeds[0]), ("panohead", "b", other), ("paper", "a", seeds[1]), ("paper", "a", seeds[2])
    ])  # fmt: skip
    ours, theirs = quality.rows
    assert (ours.name, ours.seeds, ours.detail) == ("paper", 3, "generator")
    view, random, gap, same = ours.numbers
    assert view.mean == 12 and gap.mean == 4 and random.mean == 16 and same.mean == pytest.approx(0.6)
    low, high = stats.t.interval(0.95, 2, loc=12, scale=2 / 3**0.5)
    assert (view.mean - view.margin, view.mean + view.margin) == pytest.approx((low, high))
    assert (theirs.name, theirs.seeds, theirs.detail) == ("panohead", 1, "none")
    assert theirs.numbers[0].margin is None and theirs.numbers[1:3] == (None, None)
    assert [row.detail for row in canonical.rows[:4]] == ["mean of |pose|", "std of |pose|", "mean", "std"]
    assert canonical.rows[0].numbers[0].mean == 4 and canonical.rows[4].numbers == (None,) * 6


def test_tables_as_text_markdown_and_json():
    made = compare.tables([("a|b", "x", a_result(1, 3, 0.5, 2)), ("a|b", "y", a_result(2, 3, 0.5, 2))])
    text, markdown = compare.as_text(made), compare.as_markdown(made)
    assert "a|b (1)" in text and "a|b (2)" in text  # other settings, same name
    line = next(line for line in text.splitlines() if line.startswith("a|b (1)"))
    assert line.split() == ["a|b", "(1)", "1", "generator", "1.00", "3.00", "2.00", "0.500"]
    assert "| a\\|b (2) | 1 | generator | 2.00 | 3.00 | 1.00 | 0.500 |" in markdown.splitlines()
    assert "| run | seeds | poses | FID-view | FID-random | gap | identity |" in markdown
    data = json.loads(compare.as_json(made))
    assert data["tables"][0]["rows"][1]["numbers"][2] == {"mean": 1, "margin": None}


def test_the_gap_is_what_knowing_the_view_is_worth():
    octants = {"0": {"fid": 4.0}, "45": {"fid": None}}
    found = headline({
        "generator, identical": {"fid": 5.0, "octants": octants},
        "generator, independent": {"fid": 8.5, "octants": {"0": {"fid": 7.0}, "45": {"fid": 1.0}}},
        "labels, identical": {"fid": 5.0, "octants": octants},
    })  # fmt: skip
    assert set(found) == {"generator"}
    assert found["generator"] == {
        "view": 5.0, "random": 8.5, "gap": 3.5, "gap_by_octant": {"0": 3.0, "45": None}
    }  # fmt: skip


def started(place, config, data="a" * 64, images=0):
    """(checkpoint, run) of a run with one checkpoint that was trained on a release of that digest."""
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(config.to_json())
    state = State(images, images // 8, "1", data, {}, 0)
    nothing = {name: {"weight": torch.zeros(1)} for name in NETWORKS}
    made = Checkpoint(config.model, state, nothing, {"step": torch.zeros(1)})
    return checkpoint.save(place, made), place


def test_runs_that_differ_in_their_seed_alone_are_one_row(tmp_path, run):
    tiny = training.tiny()

    def equality(name, config, data="a" * 64):
        found = compare.identity_of(*started(tmp_path / name, config, data))
        assert (found.name, found.seed) == (config.name, config.seed)
        return found.equality

    first = equality("a", tiny)
    assert equality("b", replace(tiny, seed=7, output=replace(tiny.output, status_kimg=9.0))) == first
    assert equality("c", replace(tiny, batch=replace(tiny.batch, size=16))) != first
    assert equality("d", replace(tiny, seed=2), "b" * 64) != first  # trained on another release
    alone = compare.identity_of(run / "checkpoints" / "kimg-000004", None)
    assert (alone.name, alone.seed) == ("tiny", None)  # of a converted checkpoint its model


def test_a_seed_counts_once(tmp_path):
    tiny = training.tiny()
    first, second = (
        started(tmp_path / name, replace(tiny, seed=seed)) for name, seed in (("a", 0), ("b", 1))
    )
    later = started(tmp_path / "a", tiny, images=8000)
    other = started(tmp_path / "c", tiny, "b" * 64)

    def check(*runs):
        compare.check_seeds([compare.identity_of(*one) for one in runs])

    check(first, second, other)
    with pytest.raises(MetricError, match="named twice"):
        check(first, second, first)
    with pytest.raises(MetricError, match=r"the same seed \(0\)"):
        check(first, later)
    with pytest.raises(MetricError, match=r"the same seed \(0\)"):
        check(second, first, started(tmp_path / "copy", tiny))
    with pytest.raises(MetricError, match="named twice"):
        check((first[0], None), (first[0], None))
    check((first[0], None), (second[0], None))


@pytest.mark.slow
def test_the_command_measures_what_is_not_known_and_writes_three_files(
    run, coarse_run, release, tmp_path, capsys, monkeypatch
):
    twin = tmp_path / "twin"
    shutil.copytree(run, twin)
    for folder, seed in ((run, 0), (twin, 1)):
        (folder / "config.json").write_text(replace(training.tiny(), seed=seed).to_json())
    sizes = ["--count", "6", "--num-samples", "2", "--yaw-limit", "90", "--device", "cpu"]
    asked = ["compare", str(run), str(twin), str(coarse_run), "--data", release, *sizes]
    asked += ["--out", str(tmp_path / "out")]
    try:
        assert main(asked) == 0
    finally:
        (run / "config.json").unlink()
    said = capsys.readouterr().out
    written = {path.suffix: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert set(written) == {".txt", ".json", ".md"} and said.startswith(written[".txt"])
    rows = json.loads(written[".json"])["tables"][0]["rows"]
    assert [(row["name"], row["seeds"], row["detail"]) for row in rows] == [
        ("tiny", 2, "generator"), ("tiny", 2, "discriminator"), ("tiny-coarse-poses", 1, "labels"),
    ]  # fmt: skip
    assert rows[0]["numbers"][0]["margin"] == 0  # the same weights and samples
    result = json.loads((twin / "metrics" / "kimg-000004.json").read_text())
    assert rows[0]["numbers"][3]["mean"] == pytest.approx(result["identity"]["similarity"])
    wanted = MetricOptions(parts=compare_parts(), count=6, num_samples=2, yaw_limit=90)
    assert compare.is_current(result, wanted)
    assert not compare.is_current(result, replace(wanted, count=7))
    assert not compare.is_current(result, replace(wanted, seed=1))
    some = {**result, "fid": {**result["fid"], "poses": ["generator"]}}  # of `portraitgan metrics --poses`
    assert not compare.is_current(some, wanted)
    assert main(["compare", str(run), *asked[1:]]) == 1 and "named twice" in capsys.readouterr().err
    # What is known is not measured again.
    monkeypatch.setattr("portraitgan.metrics.report.run", None)
    assert main([*asked[:2], *asked[3:]]) == 0


def compare_parts():
    from portraitgan.commands.compare import PARTS

    return PARTS

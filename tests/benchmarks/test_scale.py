"""The scale benchmark's steps are the real ones, and its exponents are those of the times."""

import json

import pytest

from benchmarks import scale, scale_tables


@pytest.mark.slow
def test_every_step_runs_on_made_up_rows(tmp_path):
    scale_tables.make_workspace(tmp_path / "workspace", 200)
    for name, step in scale.STEPS.items():
        clock = scale.Clock()
        step(tmp_path, 200, clock)
        assert clock.wall > 0, name


@pytest.mark.slow
def test_figures_are_of_processes_of_their_own(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):  # a step was ended
        scale.main(
            ["--rows", "100", "--folder", str(tmp_path), "--steps", "near-duplicates", "diff", "--json"]
        )
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    dedup, diff = (found["steps"]["100"][name] for name in ("near-duplicates", "diff"))
    assert dedup["wall_s"] > 0 and found["peak_mib"] == dedup["peak_mib"] > 10
    assert "there is no release" in diff["ended"] and found["ended"] == 1  # said, not passed over


def test_exponents_are_of_the_two_largest_sizes_that_took_a_second():
    def of(**seconds):
        return {
            name.replace("_", "-"): {"cpu_s": s, "wall_s": s, "peak_mib": 9} for name, s in seconds.items()
        }

    found = {
        10: of(plan=0.1, diff=2.0), 100: of(plan=2.0, diff=20.0),
        1000: of(plan=200.0, diff=200.0) | {"verify": {"ended": "over 9 s"}},
    }  # fmt: skip
    summary = scale.summarise(found)
    assert summary["exponents"] == {"plan": 2.0, "diff": 1.0}
    assert summary["worst_exponent"] == 2.0 and summary["ended"] == 1 and summary["rows"] == 1000
    assert "over 9 s" in scale.table(found, summary["exponents"])


def test_made_up_rows_have_twins_sessions_and_no_more_parts_than_stated():
    assert scale_tables.rows_a_part(1_000) == 64 and scale_tables.rows_a_part(10_000_000) == 5_000

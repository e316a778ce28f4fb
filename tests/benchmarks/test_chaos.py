"""`make chaos` counts what it claims to count."""

import random

from benchmarks import chaos, chaos_kills
from benchmarks.release import make_workspace
from phq_data.errors import ReleaseError


def test_flipped_bits_of_a_release_are_noticed(tmp_path, monkeypatch):
    workspace = tmp_path / "workspace"
    make_workspace(workspace, 6, 16)
    monkeypatch.setattr(chaos_kills.Scene, "workspace", property(lambda _: workspace))
    found = chaos.chaos(tmp_path / "chaos", ["release-flips"], 0, 1, 0)
    assert found.tries >= 10 and (found.lost, found.doubled, found.silent) == (0, 0, 0)


def test_a_reader_that_notices_nothing_is_silent_and_named(tmp_path):
    whole, scratch = tmp_path / "whole", tmp_path / "scratch"
    (whole / "tables").mkdir(parents=True)
    (whole / "tables" / "a.bin").write_bytes(b"abc")

    def judged(read):
        found = chaos.Found()
        chaos._flip_all("thing", whole, read, scratch, found, 4, random.Random(0))
        return found

    def refuses(_):
        raise ReleaseError("damaged")

    blind = judged(lambda copy: (copy / "tables" / "a.bin").read_bytes() == b"abc")
    assert (blind.tries, blind.silent, len(blind.examples)) == (4, 4, 4)
    assert "tables/a.bin bit" in blind.examples[0]
    assert judged(refuses).silent == 0 and judged(lambda _: True).kinds == {
        "flip: thing tables/*.bin": {chaos.HARMLESS: 4}
    }


def test_rows_that_are_lost_and_doubled_are_counted():
    from collections import Counter

    after = chaos_kills._compared({"people": Counter(a=1, b=1)}, {"people": Counter(a=2)})
    assert (after.lost, after.doubled, after.other) == (1, 1, 1)
    found = chaos.Found()
    found.killed("kill: build", after)
    assert (found.tries, found.lost, found.doubled, found.silent) == (1, 1, 1, 1)

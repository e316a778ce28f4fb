"""The fuzzer: a slice of it over every reader, and that it sees what it is there for."""

import random
import time
from pathlib import Path

import pytest

from benchmarks import fuzz, mutate
from benchmarks.fuzz_target import Target
from phq_data.errors import ReleaseError


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_changed_files_of_every_kind_end_in_one_sentence(tmp_path):
    found = fuzz.fuzz(tmp_path, seed=time.time_ns() % 1000, seconds=240, inputs=220, keep=tmp_path / "kept")
    assert found.failures == []
    assert found.inputs == 220 and found.tracebacks == found.hangs == 0 and found.peak_mib < 2600


def one(monkeypatch, read):
    kind = Target("kind", (b"abc",), read, lambda data, rng: data)
    monkeypatch.setattr(fuzz, "targets", lambda folder: [kind])


def test_a_sentence_is_no_failure_and_a_traceback_is_one(monkeypatch, tmp_path):
    def read(data, folder):
        raise ReleaseError("damaged: get it again")

    one(monkeypatch, read)
    found = fuzz.fuzz(tmp_path, 0, 60, inputs=5)
    assert (found.inputs, found.tracebacks, found.failures) == (5, 0, []) and found.peak_mib > 10

    one(monkeypatch, lambda data, folder: dict[str, int]()["missing"])
    found = fuzz.fuzz(tmp_path, 0, 60, inputs=3, keep=tmp_path / "kept")
    assert found.tracebacks == 3
    assert found.failures[0][:2] == ("kind", 0) and found.failures[0][2].startswith("KeyError: 'missing'")
    assert (tmp_path / "kept" / "0-0-kind").read_bytes() == b"abc"


def test_hangs_and_dead_processes_are_counted_and_the_next_input_follows(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzz, "SECONDS", 0.5)

    def read(data: bytes, folder: Path) -> None:
        counter = folder / "count"  # of this process: the folder is new for each
        number = int(counter.read_text()) if counter.exists() else 0
        counter.write_text(str(number + 1))
        if number == 1:
            time.sleep(30)

    one(monkeypatch, read)
    found = fuzz.fuzz(tmp_path, 0, 60, inputs=4)
    assert found.hangs == 2 and [number for _, number, _ in found.failures] == [1, 3]


def test_memory_beyond_the_limit_is_a_failure(monkeypatch, tmp_path):
    one(monkeypatch, lambda data, folder: bytearray(3 << 30))
    found = fuzz.fuzz(tmp_path, 0, 60, inputs=1)
    assert found.tracebacks == 1 and "MemoryError" in found.failures[0][2]


def test_changes_are_the_same_for_the_same_seed_and_really_change(monkeypatch):
    kind = Target("k", (bytes(range(200)),), lambda data, folder: None)
    made = [fuzz.changed_file(kind, 1, number) for number in range(50)]
    assert made == [fuzz.changed_file(kind, 1, number) for number in range(50)]
    assert len(set(made)) > 40 and made[0] != fuzz.changed_file(kind, 2, 0)
    document = b'{"a": [1, {"b": "c"}], "d": null}'
    assert len({mutate.mutated_json(document, random.Random(seed)) for seed in range(40)}) > 20

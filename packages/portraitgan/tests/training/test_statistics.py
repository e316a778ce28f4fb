"""Rows of statistics, what a run says of itself, trackers, and the views of a run."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from phq_data.typed_json import ConfigError
from portraitgan.training import config, curves, loop, statistics, trackers, watch
from portraitgan.training.distributed import World
from portraitgan.training.run import TrainingError
from portraitgan.training.schedule import at
from portraitgan.training.statistics import Row, Tally, duration

ALONE = World(0, 1, torch.device("cpu"))


def row(images: int, **values: float) -> Row:
    state = at(config.paper_512(), images)
    return statistics.make_row(images, images // 32, state, values, 98.5, 3600.0)


def test_tally_means_over_the_iterations_that_know_a_number() -> None:
    tally = Tally()
    for index in range(4):
        found = {"loss_real": torch.tensor(float(index))}
        if index % 2 == 0:
            found["r1"] = torch.tensor(10.0 + index)
        tally.add(found)
    assert tally.take(ALONE) == {"loss_real": 1.5, "r1": 11.0}
    assert tally.take(ALONE) == {}


def test_rows_come_back(tmp_path: Path) -> None:
    written = [row(n * 1000, loss_real=0.5 * n) for n in (1, 2, 3)]
    for one in written:
        statistics.append(tmp_path, one)
    assert statistics.read(tmp_path) == written
    assert statistics.read(tmp_path / "elsewhere") == []


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    for n in (1, 2, 3):
        statistics.append(tmp_path, row(n * 1000))
    with (tmp_path / statistics.FILE).open("a") as file:
        file.write('{"images": 4000, "iterat')  # killed while writing
    statistics.continue_from(tmp_path, 2000)
    assert [one.images for one in statistics.read(tmp_path)] == [1000, 2000]
    statistics.append(tmp_path, row(3000))
    assert len((tmp_path / statistics.FILE).read_text().splitlines()) == 3


def test_status_line_says_what_matters() -> None:
    line = statistics.status_line(row(100_000, loss_generator=0.71, pose_error_deg=12.34), 13_000)
    for part in ("kimg 100.0/13000 (0.8%)", "stage 1", "98.5 s/kimg", "60 min left", "G 0.710", "12.3°"):
        assert part in line
    assert "λ 1.00 R 64 swap 0.97 blur 5.0" in line
    assert "kimg 100.0/99 (100.0%)" in statistics.status_line(
        row(100_000), 99
    )  # the last iteration went past
    assert loop.Clock(99_000).left(100_000, 99_500) == 0
    assert "NOT FINITE" not in line
    assert "NOT FINITE" in statistics.status_line(row(1000, bad_gradients=0.1), 13_000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min"), (4 * 86_400 + 7_000, "4 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tensorboard_gets_rows_and_sheets(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    said: list[str] = []
    opened = trackers.open_trackers(["tensorboard"], tmp_path, "x", {}, 0, said.append)
    assert len(opened) == 1 and not said
    Image.new("RGB", (4, 4)).save(tmp_path / "sheet.jpg")
    for n in (1, 2):
        opened[0].row(row(n * 1000, loss_real=0.25 * n))
    opened[0].image(2000, "snapshot", tmp_path / "sheet.jpg")
    opened[0].close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss/loss_real")]
    assert found == [(1000, 0.25), (2000, 0.5)]
    assert events.Images("snapshot")[0].step == 2000


def test_mlflow_and_wandb_through_their_own_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins record what the packages would be told; neither is a dependency."""
    calls: list[tuple[str, Any]] = []

    class Recorder(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)

            def call(*given: Any, **named: Any) -> Any:
                calls.append((f"{self.__name__}.{name}", (given, named)))
                return self

            return call

    for name in ("wandb", "mlflow"):
        made = Recorder(name)
        made.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, name, made)
    for tracker in trackers.open_trackers(["wandb", "mlflow"], tmp_path, "x", {"a": 1}, 0, lambda _: None):
        tracker.row(row(1000, loss_real=0.5))
        tracker.image(1000, "snapshot", tmp_path / "a.jpg")
        tracker.close()
    said = dict(calls)
    assert said["wandb.log"] is not None and said["wandb.finish"] == ((), {})
    logged = next(given for name, given in calls if name == "wandb.log")[0][0]
    assert logged["images"] == 1000 and logged["loss/loss_real"] == 0.5
    assert said["mlflow.log_metrics"][0][0]["loss/loss_real"] == 0.5
    assert said["mlflow.log_metrics"][1] == {"step": 1000}


def test_a_missing_tracker_is_announced_and_an_unknown_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.PACKAGES, "wandb", "no_such_package_at_all")
    said: list[str] = []
    assert trackers.open_trackers(["wandb"], tmp_path, "x", {}, 0, said.append) == []
    assert "wandb is not installed" in said[0]
    with pytest.raises(ConfigError, match="trackers names tensorbored"):
        trackers.open_trackers(["tensorbored"], tmp_path, "x", {}, 0, said.append)


def test_sparkline_rises_with_its_values() -> None:
    assert curves.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == curves.BLOCKS
    assert curves.sparkline([5.0] * 100, width=10) == "▁" * 10
    assert curves.sparkline([]) == ""


def test_page_and_terminal_show_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is no run"):
        watch.view_of(tmp_path)
    (tmp_path / "config.json").write_text(config.tiny().to_json())
    assert watch.view_of(tmp_path).state == "has told nothing yet"
    for n in (1, 2, 3):
        statistics.append(tmp_path, row(n * 1000, loss_real=0.9 / n, score_real=float("nan")))
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "kimg-000002.000.jpg").touch()
    (tmp_path / "snapshots" / "kimg-000003.000.jpg").touch()
    view = watch.view_of(tmp_path)
    assert view.state == "running"
    text = watch.write_page(view).read_text()
    assert 'src="snapshots/kimg-000003.000.jpg"' in text and 'http-equiv="refresh"' in text
    assert text.count("<polyline") == 2  # losses of real portraits, speed; what is not a number is left out
    assert "kimg 3.0/80" in text
    console = Console(width=140, record=True, file=(tmp_path / "out").open("w"))
    console.print(watch.terminal(view))
    shown = console.export_text()
    assert "Losses: discriminator, real" in shown and "kimg 3.0 of 80" in shown
    statistics.append(tmp_path, row(80_000))
    assert watch.view_of(tmp_path).state == "finished"
    assert "http-equiv" not in watch.page(watch.view_of(tmp_path), tmp_path / "x.html")


def test_a_silent_run_is_noticed(tmp_path: Path) -> None:
    import os

    (tmp_path / "config.json").write_text(config.tiny().to_json())
    statistics.append(tmp_path, row(1000))
    os.utime(tmp_path / statistics.FILE, (0, 0))
    assert "stopped?" in watch.view_of(tmp_path).state


def test_numbers_are_json(tmp_path: Path) -> None:
    statistics.append(tmp_path, row(1000, loss_real=0.5))
    found = json.loads((tmp_path / statistics.FILE).read_text())
    assert found["kimg"] == 1.0 and found["loss_real"] == 0.5 and found["condition_swap"] == 0.9997


def test_time_left_follows_the_pace_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("portraitgan.training.loop.time.perf_counter", lambda: now[0])
    clock = loop.Clock(1000)
    found = []
    for seconds in (10, 10, *[40] * 12):
        now[0] += seconds
        images = 1000 + 1000 * (len(found) + 1)
        found.append(clock.left(images, 20_000) / (20_000 - images))
    assert found[:2] == pytest.approx([0.01, 0.01])
    assert found[2] == pytest.approx(0.7 * 0.01 + 0.3 * 0.04)
    assert found[-1] == pytest.approx(0.04, rel=0.03)

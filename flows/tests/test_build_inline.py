"""`phq build --runner inline`: what it makes, and what it must survive."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from programs import environment, phq_here

from phq_data.workspace import Workspace

from .conftest import PHQ, rows_of

pytestmark = pytest.mark.slow  # whole builds


def command(folder, photos, *more):
    return ("build", "-w", str(folder), "--runner", "inline", "--set", "part_size=3", str(photos), *more)


def build(folder, photos, *more):
    return phq_here(*command(folder, photos, *more))


def test_every_file_is_in_the_ledger_with_its_reason(finished, photos):
    ledger = [row for row in rows_of(finished)["ledger"] if row["stage"] == "ingest"]
    by_name = {row["uri"].rsplit("/", 1)[1]: row for row in ledger}
    assert len(ledger) == sum(path.is_file() for path in photos.rglob("*")) - 1  # notes.txt
    assert by_name["empty.jpg"]["reason"] == "empty"
    assert "notes.txt" not in by_name
    assert by_name["notes"]["reason"] == "not_an_image"
    assert by_name["truncated.jpg"]["outcome"] == "failed"
    # The plan goes by path, so one of the twins comes first; the other is told of it.
    twins = {by_name["copy.jpg"]["outcome"], by_name["synthetic-0.jpg"]["outcome"]}
    assert twins == {"kept", "rejected"}


def test_outcomes_and_rows_agree_in_every_stage(finished):
    tables = rows_of(finished)
    for stage, given, made, key in [
        ("detect", "photos", "people", "photo_id"),
        ("fit", "people", "fits", "person_id"),
        ("align_crop", "fits", "portraits", "fit_id"),
        ("screen", "portraits", "screened", "portrait_id"),
    ]:
        ledger = [row for row in tables["ledger"] if row["stage"] == stage]
        assert sorted(row["item"] for row in ledger) == sorted(row[key] for row in tables[given])
        out = [identity for row in ledger for identity in row["outputs"]]
        if stage != "screen":
            made_key = {"people": "person_id", "fits": "fit_id", "portraits": "portrait_id"}[made]
            assert sorted(out) == sorted(row[made_key] for row in tables[made])
    assert len(tables["portraits"]) >= 4
    kept = {row["portrait_id"] for row in tables["screened"] if row["kept"]}
    assert {row["portrait_id"] for row in tables["duplicates"]} <= kept


def test_running_again_does_nothing(finished, photos, tmp_path):
    folder = tmp_path / "ws"
    shutil.copytree(finished, folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")}
    done = build(folder, photos)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")} == stamps
    assert "done before" in done.stderr


def files_in(folder):
    """How many files a workspace has, half-written ones among them."""
    return sum(len(names) for _, _, names in os.walk(folder))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_build_killed_again_and_again_ends_like_one_that_was_not(finished, photos, tmp_path, seed):
    folder, chance = tmp_path / "ws", random.Random(seed)
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(
            [PHQ, *command(folder, photos)], env=environment(), stderr=subprocess.DEVNULL
        )
        more = files_in(folder) + chance.randint(1, 5)  # at work, and further than before
        while process.poll() is None and files_in(folder) < more:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 2  # how many of the four come too late depends on the machine
    done = build(folder, photos)
    assert done.returncode == 0, done.stderr
    assert rows_of(folder) == rows_of(finished)
    assert [path for path in folder.rglob("*") if path.name.startswith(".tmp-")] == []


def test_a_grown_folder_costs_only_the_new_photos(finished, photos, tmp_path):
    folder, grown = tmp_path / "ws", tmp_path / "photos"
    shutil.copytree(photos, grown)
    some = sorted(grown.glob("synthetic-*.jpg"))
    later = [(path, path.read_bytes()) for path in some[:2]]
    (grown / "sub" / "copy.jpg").unlink()
    for path, _ in later:
        path.unlink()
    assert build(folder, grown).returncode == 0
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")}
    for path, data in later:
        path.write_bytes(data)
    done = build(folder, grown)
    assert done.returncode == 0, done.stderr
    touched = {p for p, stamp in stamps.items() if p.stat().st_mtime_ns != stamp}
    assert {path.parent.name for path in touched} <= {"duplicates"}
    old, new = rows_of(finished), rows_of(folder)
    for name, key in [("photos", "photo_id"), ("portraits", "portrait_id")]:
        assert {row[key] for row in new[name]} == {row[key] for row in old[name]}


def test_a_changed_setting_redoes_what_depends_on_it_and_nothing_else(finished, photos, tmp_path):
    folder = tmp_path / "ws"
    shutil.copytree(finished, folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")}
    done = build(folder, photos, "--set", "screen.min_effective_resolution=100")
    assert done.returncode == 0, done.stderr
    touched = {p.parent.name for p, stamp in stamps.items() if p.stat().st_mtime_ns != stamp}
    assert touched <= {"screened", "screen", "duplicates"}
    screened = rows_of(folder)["screened"]
    assert screened and not any(row["kept"] for row in screened)


def test_a_damaged_part_is_made_again(finished, photos, tmp_path):
    folder = tmp_path / "ws"
    shutil.copytree(finished, folder)
    victim = folder / "tables/people/part-00001.parquet"
    victim.write_bytes(victim.read_bytes()[:100])
    assert build(folder, photos).returncode == 0
    assert rows_of(folder) == rows_of(finished)


def test_a_workspace_that_cannot_be_written_is_one_sentence(photos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = build(tmp_path / "file" / "ws", photos)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "phq: " in done.stderr


def test_a_full_disk_stops_the_build_and_the_next_run_finishes_it(finished, photos, tmp_path):
    """A file system with room for half of it, where the machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    room = sum(path.stat().st_size for path in finished.rglob("*") if path.is_file()) // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        done = build(folder / "ws", photos)
        assert done.returncode == 1
        assert "disk is full" in done.stderr and "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=300m", str(folder)], check=True)
        assert build(folder / "ws", photos).returncode == 0
        assert rows_of(folder / "ws") == rows_of(finished)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_second_build_says_that_another_is_at_work(finished, photos, tmp_path):
    folder = tmp_path / "ws"
    workspace = Workspace.open(folder, create=True)
    with workspace.lock():
        done = build(folder, photos, "--no-wait")
    assert done.returncode == 1
    assert "in use by process" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "crop.sise=3"], "there is no setting 'crop.sise'"),
        (["--set", "crop.mode=best"], "is one of fit, reference"),
        (["--set", "part_size=three"], "wants a whole number"),
        (["no/such/folder"], "no/such/folder"),
        (["synthetic:none"], "synthetic"),
    ],
)
def test_wrong_arguments_get_one_sentence(tmp_path, arguments, words):
    done = phq_here("build", "-w", str(tmp_path / "ws"), "--runner", "inline", *arguments)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert words in " ".join(done.stderr.split())


def test_the_settings_of_a_build_are_written_down_and_can_be_used_again(finished, photos, tmp_path):
    settings = json.loads((finished / "config.json").read_text())
    assert settings["part_size"] == 3
    settings_file, one = str(finished / "config.json"), str(photos / "synthetic-1.jpg")
    done = phq_here("build", "-w", str(tmp_path / "ws"), "--runner", "inline", "--config", settings_file, one)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "ws/config.json").read_text()) == settings


def test_a_workspace_keeps_its_settings_until_told_otherwise(photos, tmp_path):
    folder, one = tmp_path / "ws", str(photos / "synthetic-1.jpg")
    phq_here("build", "-w", str(folder), "--runner", "inline", "--set", "crop.size=64", one)
    done = phq_here("build", "-w", str(folder), "--runner", "inline", one)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "config.json").read_text())["crop"]["size"] == 64
    phq_here("build", "-w", str(folder), "--runner", "inline", "--preset", "default", one)
    assert json.loads((folder / "config.json").read_text())["crop"]["size"] == 512


def test_a_build_without_photos_says_what_to_do_and_leaves_nothing(tmp_path):
    done = phq_here("build", "-w", str(tmp_path / "ws"), "--runner", "inline")
    assert done.returncode == 1
    assert "PHOTOS" in done.stderr and not (tmp_path / "ws").exists()


def test_an_interrupt_ends_the_build_at_once_and_the_next_run_finishes(photos, finished, tmp_path):
    folder = tmp_path / "ws"
    process = subprocess.Popen(
        [PHQ, *command(folder, photos)], env=environment(), stderr=subprocess.PIPE, text=True
    )
    while not (folder / "plan").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command to go on" in said and "Traceback" not in said
    assert build(folder, photos).returncode == 0
    assert rows_of(folder) == rows_of(finished)


def test_bars_are_closed_before_ctrl_c_says_its_last_words():
    program = (
        "import os, signal, sys\n"
        "from rich.console import Console\n"
        "from phq_data.cli.build_progress import TerminalProgress\n"
        "from phq_flows.interrupt import stop_at_once_on_interrupt\n"
        "with TerminalProgress(Console(stderr=True, force_terminal=True, width=80)) as progress:\n"
        "    stop_at_once_on_interrupt(progress.close)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    signal.pause()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**environment(), "TERM": "xterm"}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 130
    drawn, said = done.stderr.split("phq: stopped")
    assert "files found" in drawn and drawn.rstrip().endswith("\x1b[?25h")  # the cursor is back
    assert "files found" not in said  # nothing is drawn below


def test_a_build_that_fails_before_it_plans_leaves_no_folder(photos, tmp_path):
    folder = tmp_path / "lab" / "ws"
    done = build(folder, photos, "--set", "detect.model=yolo:nowhere.pt")
    assert done.returncode == 1 and not folder.exists()
    folder.mkdir(parents=True)
    assert build(folder, photos, "--set", "detect.model=yolo:nowhere.pt").returncode == 1
    assert folder.exists()  # it was there before


def test_touching_the_photos_adds_nothing(photos, tmp_path):
    folder, source = tmp_path / "ws", tmp_path / "photos"
    source.mkdir()
    shutil.copy(photos / "synthetic-1.jpg", source)
    assert build(folder, source).returncode == 0
    before = rows_of(folder)
    os.utime(source / "synthetic-1.jpg", (1, 1))
    assert build(folder, source).returncode == 0
    after = rows_of(folder)
    for name in ("photos", "people", "fits", "portraits", "screened", "ledger"):
        assert after[name] == before[name]


def test_a_table_with_damaged_pages_is_made_again_by_the_second_run(finished, photos, tmp_path):
    folder = tmp_path / "ws"
    shutil.copytree(finished, folder)
    victim = folder / "tables/people/part-00001.parquet"
    data = bytearray(victim.read_bytes())
    data[4:200] = bytes(196)  # the footer stays whole
    victim.write_bytes(data)
    build(folder, photos, "--set", "fit.max_residual=0.149")  # reads the damaged part
    assert build(folder, photos, "--set", "fit.max_residual=0.15").returncode == 0
    tables, expected = rows_of(folder), rows_of(finished)
    assert tables["people"] == expected["people"] and tables["portraits"] == expected["portraits"]

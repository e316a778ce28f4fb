"""The synthetic source and `synthesize`."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image

from phq_data.schema import SchemaError
from phq_data.sources import SourceError
from phq_data.sources.synthetic import SyntheticSource, synthesize
from phq_data.synthesis import backdrop, multiview, photograph
from phq_data.synthesis.truth import read_truth
from phq_data.views import read_views


def test_every_photo_has_its_uri_and_a_free_license():
    files = list(SyntheticSource("synthetic:3@5", 3, 5).files())
    assert [file.uri for file in files] == ["synthetic:3@5#0", "synthetic:3@5#1", "synthetic:3@5#2"]
    assert {file.provenance.license for file in files} == {"CC0-1.0"}


def test_a_longer_series_begins_with_the_shorter_one():
    short, long = SyntheticSource("synthetic:2@5", 2, 5), SyntheticSource("synthetic:9@5", 9, 5)
    for few, many in zip(short.files(), long.files(), strict=False):
        assert short.open(few).read() == long.open(many).read()


def test_synthesize_writes_the_photos_of_the_source_and_their_truth(tmp_path):
    ticks = []
    people = synthesize(tmp_path / "out", 2, 5, on_photo=lambda: ticks.append(1))
    assert len(ticks) == 2
    source = SyntheticSource("synthetic:2@5", 2, 5)
    table = read_truth(tmp_path / "out" / "truth.parquet")
    assert table.num_rows == people
    for index, file in enumerate(source.files()):
        data = (tmp_path / "out" / "photos" / f"{index:06d}.jpg").read_bytes()
        assert data == source.open(file).read()
        assert hashlib.sha256(data).hexdigest() in table["photo_id"].to_pylist()
    rights = json.loads((tmp_path / "out" / "photos" / "rights.json").read_text())
    assert rights["license"] == "CC0-1.0"


def test_truth_can_be_made_again_by_several_processes(tmp_path):
    synthesize(tmp_path / "one", 2, 8)
    synthesize(tmp_path / "two", 2, 8, jobs=2)
    assert read_truth(tmp_path / "one" / "truth.parquet").equals(
        read_truth(tmp_path / "two" / "truth.parquet")
    )


def test_a_stopped_series_goes_on_and_ends_like_a_whole_one(tmp_path, monkeypatch):
    synthesize(tmp_path / "whole", 3, 8)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "out", 3, 8, on_photo=stop)
    assert not (tmp_path / "out" / "truth.parquet").exists()
    rendered = []
    take = photograph.take
    monkeypatch.setattr(photograph, "take", lambda *given: rendered.append(given[1]) or take(*given))
    synthesize(tmp_path / "out", 3, 8)
    assert rendered == [1, 2]
    assert read_truth(tmp_path / "out" / "truth.parquet").equals(
        read_truth(tmp_path / "whole" / "truth.parquet")
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names - {".lock"} == {"photos", "series.json", "truth.parquet"}


def test_a_folder_holds_one_series(tmp_path):
    synthesize(tmp_path / "out", 2, 8)
    with pytest.raises(SourceError, match="another seed"):
        synthesize(tmp_path / "out", 2, 9)
    assert read_truth(tmp_path / "out" / "truth.parquet").num_rows > 0
    synthesize(tmp_path / "out", 1, 8)
    assert [p.name for p in (tmp_path / "out" / "photos").glob("*.jpg")] == ["000000.jpg"]
    (tmp_path / "mine" / "photos").mkdir(parents=True)
    (tmp_path / "mine" / "photos" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(SourceError, match="other photos"):
        synthesize(tmp_path / "mine", 1, 8)
    assert (tmp_path / "mine" / "photos" / "holiday.jpg").read_bytes() == b"mine"


def test_views_are_written_with_their_cameras_and_go_on_where_they_stopped(tmp_path, monkeypatch):
    out = tmp_path / "out"
    people = synthesize(out, 1, 5, views=2)
    views = read_views(out / "views.json")
    assert [photo.file for photo in views.photos] == ["000000.jpg", "000001.jpg"]
    assert {photo.instant for photo in views.photos} == {"000000"}
    assert read_truth(out / "truth.parquet").num_rows == people
    whole = (out / "photos" / "000001.jpg").read_bytes()
    (out / "photos" / "000001.jpg").unlink()
    (out / "views.json").unlink()
    assert synthesize(out, 1, 5, views=2) == people
    assert (out / "photos" / "000001.jpg").read_bytes() == whole and read_views(out / "views.json") == views
    monkeypatch.setattr(multiview, "take_view", lambda *a: pytest.fail("drawn again"))
    assert synthesize(out, 1, 5, views=2) == people
    for other in (1, 3):
        with pytest.raises(SourceError, match="of other views"):
            synthesize(out, 1, 5, views=other)
    with pytest.raises(SourceError, match="number of views is 1 to 64, not 65"):
        synthesize(tmp_path / "many", 1, 5, views=65)


def test_two_programs_do_not_mix_their_photos(tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(SourceError, match="another program"):
        synthesize(tmp_path / "out", 1, 8)


def test_truth_without_a_column_is_refused(tmp_path):
    synthesize(tmp_path / "out", 1, 8)
    path = tmp_path / "out" / "truth.parquet"
    pq.write_table(read_truth(path).drop_columns(["camera"]), path)
    with pytest.raises(SchemaError, match="lacks camera"):
        read_truth(path)


def test_truth_of_nobody_of_people_twice_and_damaged_is_refused(tmp_path):
    synthesize(tmp_path / "out", 1, 8)
    path = tmp_path / "out" / "truth.parquet"
    good = read_truth(path)
    pq.write_table(good.slice(0, 0), path)
    with pytest.raises(SchemaError, match="holds no people"):
        read_truth(path)
    pq.write_table(pa.concat_tables([good, good]), path)
    with pytest.raises(SchemaError, match="people twice"):
        read_truth(path)
    yaw = good.schema.get_field_index("yaw")
    for column in (pa.array([np.nan] * good.num_rows, pa.float32()), pa.array(["1"] * good.num_rows)):
        pq.write_table(good.set_column(yaw, "yaw", column), path)
        with pytest.raises(SchemaError, match=r"column yaw .* is damaged"):
            read_truth(path)
    pq.write_table(good.append_column("mine", pa.array([1] * good.num_rows)), path)
    assert read_truth(path).equals(good)  # a column more does no harm
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SchemaError, match=r"cannot be read .* make it again"):
        read_truth(path)


def test_broken_backgrounds_are_named_before_anything_is_drawn(tmp_path):
    folder = tmp_path / "mine"
    (folder / "no.jpg").mkdir(parents=True)  # a folder is no photo
    Image.new("RGB", (64, 48), "red").save(folder / "good.png")
    (folder / "a.jpg").write_bytes(b"no picture")
    (folder / "b.jpg").write_bytes(b"")
    with pytest.raises(
        SourceError, match=r"cannot be read.*a\.jpg: its first bytes.*b\.jpg: the file is empty"
    ):
        synthesize(tmp_path / "out", 2, 1, backgrounds=folder)
    assert not list((tmp_path / "out" / "photos").glob("*.jpg"))
    for name in ("a.jpg", "b.jpg"):
        (folder / name).unlink()
    assert synthesize(tmp_path / "out", 2, 1, backgrounds=folder) >= 2  # as the message said
    Image.new("RGB", (64, 48), "blue").save(folder / "good.png")
    with pytest.raises(SourceError, match="other backgrounds"):
        synthesize(tmp_path / "out", 3, 1, backgrounds=folder)


def test_a_finished_series_is_not_drawn_again(tmp_path, monkeypatch):
    out, seen = tmp_path / "out", []
    people = synthesize(out, 2, 5)
    take = photograph.take
    monkeypatch.setattr(photograph, "take", lambda *a: pytest.fail("drawn again"))
    assert synthesize(out, 2, 5, on_photo=lambda: seen.append(1)) == people and len(seen) == 2
    monkeypatch.setattr(photograph, "take", take)
    whole = (out / "photos" / "000001.jpg").read_bytes()
    (out / "photos" / "000001.jpg").write_bytes(whole[:-100])
    (out / "photos" / "000000.jpg").unlink()
    assert synthesize(out, 2, 5) == people
    assert (out / "photos" / "000001.jpg").read_bytes() == whole


def test_backgrounds_are_upright_whatever_their_kind(tmp_path):
    """A phone's photo that lies on its side, in CMYK: red is on top when people look at it."""
    stored = np.zeros((90, 120, 4), np.uint8)
    stored[:, :60] = (0, 255, 255, 0)  # red: left as stored, on top once turned
    stored[:, 60:] = (255, 0, 255, 0)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(stored, "CMYK").save(tmp_path / "a.jpg", exif=exif)
    picture = backdrop.from_photo(tmp_path / "a.jpg", np.random.default_rng(0), 30, 40)
    assert picture.shape == (40, 30, 3)
    assert (picture[:10, :, 0] > picture[:10, :, 1] + 0.3).all()
    assert (picture[-10:, :, 1] > picture[-10:, :, 0] + 0.3).all()


def test_backgrounds_of_the_user_appear_and_take_the_license_away(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.fromarray(np.full((400, 600, 3), (255, 0, 255), np.uint8)).save(folder / "pink.png")
    synthesize(tmp_path / "out", 6, 1, backgrounds=folder)
    assert "license" not in json.loads((tmp_path / "out" / "photos" / "rights.json").read_text())
    pink = 0
    for path in (tmp_path / "out" / "photos").glob("*.jpg"):
        corner = np.asarray(Image.open(path).convert("RGB"), int)[:12, :12].mean(axis=(0, 1))
        pink += corner[0] - corner[1] > 60 and corner[2] - corner[1] > 60
    assert 1 <= pink <= 5


def test_an_interrupted_program_says_how_to_go_on(tmp_path):
    """Also its workers, to whom the terminal sends Ctrl-C as well, end without a traceback."""
    # Programs that a script started in the background ignore Ctrl-C; these tests may run there.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heard + "from phq_data.cli.main import main; main()"
    asked = ["synthesize", str(tmp_path), "--count", "400", "--seed", "3", "--jobs", "2"]
    program = subprocess.Popen(
        [sys.executable, "-c", code, *asked], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        end = time.monotonic() + 120
        while not list(tmp_path.glob("photos/*.jpg")) and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(program.pid, signal.SIGINT)
        said = program.communicate(timeout=60)[1]
    finally:
        program.kill()
    assert program.returncode == 130
    assert "phq: stopped" in said and "run the same command" in said and "Traceback" not in said


def test_wrong_requests_say_what_is_wrong(tmp_path):
    with pytest.raises(SourceError, match="there is no folder"):
        synthesize(tmp_path, 1, backgrounds=tmp_path / "nowhere")
    with pytest.raises(SourceError, match="starts at 1"):
        synthesize(tmp_path, 0)
    with pytest.raises(SourceError, match="the seed at 0"):
        synthesize(tmp_path, 1, 2**63)
    with pytest.raises(SourceError, match="no background photos"):
        synthesize(tmp_path, 1, backgrounds=tmp_path)
    with pytest.raises(SchemaError, match="no truth file"):
        read_truth(tmp_path / "truth.parquet")


def running_still(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_killed_it_leaves_no_worker_behind_and_goes_on(tmp_path):
    program = (
        "from phq_data.sources.synthetic import synthesize\n"
        "import os, multiprocessing as m\n"
        "said = lambda: print(*[p.pid for p in m.active_children()], flush=True)\n"
        f"synthesize({str(tmp_path / 'out')!r}, 200, 8, jobs=2, on_photo=said)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        workers = [int(pid) for pid in running.stdout.readline().split()]
        running.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while any(running_still(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.2)
    done = len(list((tmp_path / "out" / "parts").glob("*.parquet")))
    assert 0 < done < 200 and not (tmp_path / "out" / "truth.parquet").exists()
    synthesize(tmp_path / "out", 2, 8)
    assert len(list((tmp_path / "out" / "photos").glob("*.jpg"))) == 2

"""`phq models`: files are checked, kept whole or not at all, and found again; downloads resume."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import smpl_files as files

from phq_data.bodies.smpl_arrays import SmplArrays
from phq_data.errors import ModelError
from phq_data.models import importers
from phq_data.weights import catalogue, store
from phq_data.weights.download import fetch


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv("PHQ_MODELS", str(folder))
    # Keeping files is what is tested here; test_yolo tests which weights may be kept.
    monkeypatch.setattr(importers, "_check_yolo", lambda path, stored: None)
    return folder


def left_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.exists() else []


def test_smpl_is_added_as_safetensors_verified_and_removed(tmp_path, own_folder):
    official = tmp_path / "basicModel.pkl"
    official.write_bytes(files.python2_pickle(files.body_values()))
    kept = importers.add("smpl", official)
    assert kept.source_sha256 == hashlib.sha256(official.read_bytes()).hexdigest()
    path, sha256 = store.verified_file("smpl")
    assert path == own_folder / "smpl" / "smpl.safetensors" and sha256 == kept.sha256
    np.testing.assert_array_equal(SmplArrays.load(path).weights, files.smpl_arrays().weights)
    assert left_in(own_folder) == ["smpl", "smpl/record.json", "smpl/smpl.safetensors"]
    assert dict((m.name, r) for m, r in store.records())["smpl"] == kept
    store.remove("smpl")
    assert left_in(own_folder) == []
    with pytest.raises(ModelError, match="phq models add smpl FILE"):
        store.verified_file("smpl")
    with pytest.raises(ModelError, match="nothing to remove"):
        store.remove("smpl")


def test_a_changed_file_is_noticed(tmp_path, own_folder):
    weights = tmp_path / "mine.pt"
    weights.write_bytes(b"weights")
    importers.add("yolo-own", weights)
    (own_folder / "yolo-own" / "yolo-own.pt").write_bytes(b"weighty")
    with pytest.raises(ModelError, match="damaged"):
        store.verify("yolo-own")


@pytest.mark.parametrize("data", [b"", b"text", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."])
def test_nothing_is_half_registered(tmp_path, own_folder, data):
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.pkl"):
        importers.add("smpl", bad)
    assert left_in(own_folder) == []
    weights = tmp_path / "mine.pt"
    weights.write_bytes(b"weights")
    first = importers.add("yolo-own", weights)
    with pytest.raises(ModelError, match="expected abcd"):
        importers.add("yolo-own", bad, sha256="abcd")
    assert store.verify("yolo-own") == first


def test_another_file_takes_a_models_place_at_once(tmp_path, own_folder, monkeypatch):
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    old.write_bytes(b"old weights")
    new.write_bytes(b"new weights")
    first = importers.add("yolo-own", old)
    assert importers.add("yolo-own", old).sha256 == first.sha256  # the same once more
    first = store.record("yolo-own")
    moved = Path.replace

    def killed(path, target):
        if Path(target).name == "record.json":
            raise KeyboardInterrupt
        return moved(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        importers.add("yolo-own", new)
    assert store.verify("yolo-own") == first
    assert importers.add("yolo-own", new).sha256 == hashlib.sha256(b"new weights").hexdigest()
    assert store.verified_file("yolo-own")[0].read_bytes() == b"new weights"
    assert len([path for path in left_in(own_folder) if "/" in path]) == 2  # the file and its record


def test_missing_files_and_unknown_names_are_told(tmp_path):
    with pytest.raises(ModelError, match=r"there is no file .*; smpl wants the neutral model"):
        importers.add("smpl", tmp_path / "nothing.pkl")
    with pytest.raises(ModelError, match="there are smpl, 3dcrowdnet"):
        importers.add("resnet", tmp_path)
    with pytest.raises(ModelError, match="cannot be downloaded for you"):
        importers.download("smpl")


def test_every_known_model_says_what_its_license_means():
    for model in catalogue.KNOWN:
        assert model.license and model.origin and model.wanted
        assert model.consequence.endswith(".") and len(model.consequence) < 200
        restricted = model.kind in ("smpl", "3dcrowdnet")
        assert ("on-commercial" in model.consequence) == restricted
        assert ("AGPL" in model.consequence) == (model.kind == "yolo")


# ---- downloads -------------------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """What it serves, how far, and what it was asked for."""

    data: bytes
    tag = '"one"'
    limit = 10**9
    ranges: list[str | None]
    url: str


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file, honours ranges, and breaks off after `server.limit` bytes."""

    server: Server

    def do_GET(self):
        server = self.server
        data, start = server.data, 0
        server.ranges.append(self.headers.get("Range"))
        if self.path != "/model.pt":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == server.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + server.limit])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    made = Server(("127.0.0.1", 0), Handler)
    made.data = np.random.default_rng(0).bytes(1_500_000)
    made.ranges = []
    made.url = f"http://127.0.0.1:{made.server_port}/model.pt"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_download_shows_progress_and_is_checked(server, tmp_path):
    seen = []
    wanted = hashlib.sha256(server.data).hexdigest()
    found = fetch(server.url, tmp_path / "model.pt", wanted[:8], lambda *numbers: seen.append(numbers))
    assert found == wanted and (tmp_path / "model.pt").read_bytes() == server.data
    assert seen[-1] == (len(server.data),) * 2 and len(seen) > 3
    assert left_in(tmp_path) == ["model.pt"]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.limit = 600_000
    for _ in range(2):
        with pytest.raises(ModelError, match=r"stopped.*bytes are kept"):
            fetch(server.url, tmp_path / "model.pt")
        assert not (tmp_path / "model.pt").exists()
    fetch(server.url, tmp_path / "model.pt")
    assert server.ranges == [None, "bytes=600000-", "bytes=1200000-"]
    assert (tmp_path / "model.pt").read_bytes() == server.data


def test_a_file_that_changed_meanwhile_is_begun_anew(server, tmp_path):
    server.limit = 600_000
    with pytest.raises(ModelError):
        fetch(server.url, tmp_path / "model.pt")
    server.tag, server.limit, server.data = '"two"', 10**9, server.data[::-1]
    fetch(server.url, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == server.data


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(ModelError, match="expected 0000"):
        fetch(server.url, tmp_path / "model.pt", "0000")
    assert left_in(tmp_path) == []


def test_a_missing_file_and_a_dead_server_are_told(server, tmp_path):
    with pytest.raises(ModelError, match="404"):
        fetch(server.url + "x", tmp_path / "model.pt")
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match="stopped"):
        fetch(server.url, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="not an https address"):
        fetch("ftp://somewhere/model.pt", tmp_path / "model.pt")


def test_a_model_is_downloaded_by_name(server, own_folder):
    kept = importers.download("yolo11n-pose", url=server.url)
    assert kept.source == server.url and kept.sha256 == hashlib.sha256(server.data).hexdigest()
    assert store.verified_file("yolo11n-pose")[0].read_bytes() == server.data
    names = ["yolo11n-pose/record.json", "yolo11n-pose/yolo11n-pose.pt"]
    assert [p for p in left_in(own_folder) if "/" in p] == names


# ---- the commands ----------------------------------------------------------------------------------------


@pytest.fixture
def phq():
    from typer.testing import CliRunner

    from phq_data.cli.main import make_app

    return lambda *words: CliRunner().invoke(make_app(), ["models", *words])


def test_the_commands(phq, tmp_path, own_folder):
    weights = tmp_path / "mine.pt"
    weights.write_bytes(b"weights")
    added = phq("add", "yolo-own", str(weights))
    assert added.exit_code == 0 and "AGPL" in added.output and "added yolo-own" in added.output
    listed = phq("list").output
    assert "yolo-own: your own pose weights for ultralytics [here]" in listed
    assert hashlib.sha256(b"weights").hexdigest() in listed and "[bring your file]" in listed
    table = json.loads(phq("list", "--json").output)
    assert {row["name"]: row["record"] is not None for row in table["models"]}["yolo-own"]
    assert phq("verify").exit_code == 0
    (own_folder / "yolo-own" / "yolo-own.pt").write_bytes(b"other")
    assert phq("verify", "yolo-own").exit_code == 1
    assert phq("remove", "yolo-own").exit_code == 0
    assert not (own_folder / "yolo-own").exists()


def test_rig_build_writes_the_rig_that_a_recipe_names(tmp_path):
    from typer.testing import CliRunner

    from phq_data.cli.main import make_app
    from phq_data.rig import PortraitRig

    official = tmp_path / "basicModel.pkl"
    official.write_bytes(files.python2_pickle(files.body_values()))
    out = tmp_path / "rig.safetensors"
    words = ["rig", "build", "--body", "smpl", "--model", str(official), str(out)]
    done = CliRunner().invoke(make_app(), words)
    assert done.exit_code == 0, done.output
    rig = PortraitRig.load(out)
    assert rig.body == "smpl" and rig.digest[:16] in done.output and rig.correctives is not None


def test_doctor_names_added_models_with_what_their_license_means(tmp_path, own_folder):
    from phq_data.cli import doctor

    assert list(doctor._added()) == []
    weights = tmp_path / "mine.pt"
    weights.write_bytes(b"weights")
    importers.add("yolo-own", weights)
    (check,) = doctor._added()
    assert (check.name, check.status) == ("yolo-own", "ok") and "AGPL" in check.license
    (own_folder / "yolo-own" / "record.json").write_text("{")
    (check,) = doctor._added()
    assert check.status == "attention" and "add the model again" in check.found

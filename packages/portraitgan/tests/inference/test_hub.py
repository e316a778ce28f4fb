"""Models on the Hugging Face Hub: folders that load again, a push to a stand-in on this machine, the card."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from phq_data.rig import PortraitRig
from portraitgan.checkpoints.weights import WeightsError
from portraitgan.commands.main import main
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.hub import Generator, pack
from portraitgan.inference.model import open_model

hub = pytest.importorskip("huggingface_hub")
POSE = views.body_pose((0, 10, 0), (5, 20, 0))


def portrait(generator: Any) -> torch.Tensor:
    with torch.no_grad():
        z = torch.randn(1, generator.config.z_dim, generator=torch.Generator().manual_seed(2))
        made = generator(
            z, views.camera(20), POSE, noise_mode="const", random=torch.Generator().manual_seed(0)
        )
    image: torch.Tensor = made.image
    return image


def test_a_saved_generator_makes_the_same_portrait_in_the_same_pose(run: Path, tmp_path: Path) -> None:
    first = Generator.from_pretrained(run)
    assert first.rig is not None and not first.training
    folder = first.save_pretrained(tmp_path / "saved")
    names = sorted(one.name for one in folder.iterdir())
    assert names == ["README.md", "config.json", "generator_ema.safetensors", "rig.safetensors"]
    again = Generator.from_pretrained(folder)
    assert torch.equal(portrait(again), portrait(first))
    # The commands take the folder, too.
    assert torch.equal(
        open_model(folder, device="cpu").latents([1]), open_model(run, device="cpu").latents([1])
    )
    assert (
        main(["sample", str(folder), str(tmp_path / "a.png"), "--seeds", "1", "--head", "0", "20", "0"]) == 0
    )


def test_a_licensed_body_stays_at_home(make_run: Callable[..., Path], make_bust: Any, tmp_path: Path) -> None:
    rig: PortraitRig = replace(make_bust(8, 6), body="smpl")
    folder = tmp_path / "saved"
    Generator.from_pretrained(make_run(tmp_path / "other", make_bust(8, 6))).save_pretrained(folder)
    assert (folder / "rig.safetensors").exists()
    Generator.from_pretrained(make_run(tmp_path / "run", rig)).save_pretrained(folder)
    assert not (folder / "rig.safetensors").exists()
    assert "--rig FILE" in (folder / "README.md").read_text()
    assert Generator.from_pretrained(folder).deformation is None


def test_damaged_and_missing_models_are_said(run: Path, tmp_path: Path) -> None:
    folder = Generator.from_pretrained(run).save_pretrained(tmp_path / "saved")
    (folder / "generator_ema.safetensors").write_bytes(b"12345678nothing")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        Generator.from_pretrained(folder)
    with pytest.raises(InferenceError, match=r"no model folder at \.\./nowhere"):
        Generator.from_pretrained("../nowhere")


@pytest.fixture
def measured_run(make_run: Callable[..., Path], make_bust: Any, tmp_path: Path) -> Path:
    """A run that says of itself what a trained one does."""
    run = make_run(tmp_path / "measured", make_bust(8, 6))
    checkpoint = run / "checkpoints" / "kimg-000012"
    (checkpoint / "state.json").write_text(json.dumps({"images": 12000, "data": "0123456789abcdef" * 4}))
    (run / "best.json").write_text(json.dumps({"checkpoint": "kimg-000012", "fid": 34.5}))
    rows = [{"images": n * 1000, "seconds_per_kimg": 360.0} for n in range(4, 17, 4)]
    (run / "statistics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "metrics").mkdir()
    headline = {"given": {"view": 12.25, "random": 13.5, "gap": 1.25}, "label": None}
    fid = {
        "headline": headline,
        "network": "random",
        "note": "numbers | compare with each other",
        "count": 64,
    }
    (run / "metrics" / "kimg-000012.json").write_text(
        json.dumps({"fid": fid, "identity": {"similarity": 0.75}, "canonicality": None})
    )
    return run


def test_the_card_has_the_numbers_of_the_run(measured_run: Path, tmp_path: Path) -> None:
    folder = pack(measured_run, tmp_path / "out", repository="ada/heads", license_name="cc-by-4.0")
    assert (folder / "discriminator_ema.safetensors").is_file()
    text = (folder / "README.md").read_text()
    found = hub.ModelCard(text).data
    assert found.license == "cc-by-4.0" and found.library_name == "portraitgan"
    numbers = {one.metric_name: one.metric_value for one in found.eval_results}
    assert numbers == {
        "FID during training": 34.5, "FID-view, given poses": 12.25, "FID-random, given poses": 13.5,
        "identity between two views": 0.75,
    }  # fmt: skip
    assert "| images seen | 12,000 |" in text and "| hours of training | 1.20 |" in text
    assert r"64 portraits; random; numbers \| compare with each other" in text
    assert "0123456789abcdef" in text and "rig.safetensors" in text


def test_nothing_but_the_model_is_uploaded(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("mine")
    with pytest.raises(InferenceError, match=r"secret\.txt, which would be uploaded"):
        pack(run, tmp_path)


class Hub(BaseHTTPRequestHandler):
    """The few calls of the Hub that a push and a download make, as its client's source says them."""

    files: dict[str, bytes]
    made: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            self.made.append({**json.loads(body), "token": self.headers["Authorization"]})
            self.tell({"url": f"http://{self.headers['Host']}/ada/heads"})
        elif path == "/api/validate-yaml":
            self.tell({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            names = [one["path"] for one in json.loads(body)["files"]]
            self.tell({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.tell(
                {"commitUrl": f"http://{self.headers['Host']}/ada/heads/commit/1", "commitOid": "1" * 40}
            )
        else:
            self.tell({"error": "no such call"}, 404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path.startswith("/api/models/ada/heads/tree/"):
            listed = [
                {"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for n, d in self.files.items()
            ]
            self.tell(listed)
        elif path.startswith("/api/models/ada/heads"):
            siblings = [{"rfilename": one} for one in self.files]
            self.tell({"id": "ada/heads", "sha": "1" * 40, "siblings": siblings})
        elif "/resolve/" in path and name in self.files:
            self.send_response(200)
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(self.files[name]).hexdigest()}"')
            self.send_header("Content-Length", str(len(self.files[name])))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(self.files[name])
        else:
            self.tell({"error": "Repository not found"}, 404)

    do_HEAD = do_GET  # noqa: N815

    def tell(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def stand_in() -> Iterator[tuple[str, type[Hub]]]:
    """The address of a Hub on this machine, and what it holds."""
    handler = type("Handler", (Hub,), {"files": {}, "made": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def at_the_hub(address: str, home: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program whose Hub is at `address`: the client reads that once, when it is imported."""
    environment = {
        **os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home),
        "HF_TOKEN": "hf_ada", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300
    )


def pushing(run: Path, out: Path, repository: str) -> str:
    """The program `portraitgan export RUN OUT --format hub --push REPOSITORY`."""
    command = ["export", str(run), str(out), "--format", "hub", "--push", repository]
    return f"from portraitgan.commands.main import main\nraise SystemExit(main({command!r}))"


@pytest.mark.slow
def test_what_was_pushed_comes_back(run: Path, tmp_path: Path, stand_in: tuple[str, type[Hub]]) -> None:
    address, server = stand_in
    pushed = at_the_hub(address, tmp_path / "home", pushing(run, tmp_path / "out", "ada/heads"))
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.splitlines()[-1] == f"{address}/ada/heads/commit/1"
    assert server.made[0]["name"] == "heads" and server.made[0]["organization"] == "ada"
    assert server.made[0].get("private") is True or server.made[0].get("visibility") == "private"
    assert server.made[0]["token"] == "Bearer hf_ada"
    assert server.files["rig.safetensors"] == (run / "rig.safetensors").read_bytes()
    assert b"ada/heads" in server.files["README.md"]
    back = at_the_hub(
        address,
        tmp_path / "home",
        f"""
from portraitgan.inference.hub import Generator
generator = Generator.from_pretrained("ada/heads")
assert generator.deformation is not None
generator.save_pretrained({str(tmp_path / "back")!r})
print(generator.push_to_hub("ada/again", card="---\\nlicense: mit\\n---\\n# Again"))
""",
    )
    assert back.returncode == 0, back.stderr
    name = "generator_ema.safetensors"
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert server.files["README.md"].endswith(b"# Again")
    missing = at_the_hub(
        address,
        tmp_path / "home",
        """
from portraitgan.commands.main import main
from portraitgan.inference.hub import Generator
from portraitgan.inference.errors import InferenceError
try:
    Generator.from_pretrained("ada/nobody")
except InferenceError as error:
    print(error)
""",
    )
    assert "ada/nobody, and it cannot be had from the Hugging Face Hub" in missing.stdout, missing.stderr


def test_a_hub_that_does_not_answer_is_one_sentence(run: Path, tmp_path: Path) -> None:
    failed = at_the_hub("http://127.0.0.1:9", tmp_path / "home", pushing(run, tmp_path / "out", "a/b"))
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert "portraitgan export: a/b cannot be uploaded" in failed.stderr

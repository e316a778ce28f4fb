import hashlib
import io
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from phq_data import camera, schema
from phq_data.records import Decision
from phq_data.release.build import ReleaseOptions
from phq_data.release.manifest import Manifest
from phq_data.review import decisions
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace

SIDE = 16
DAY = "2026-11-25"


def rig(body="anny"):
    return PortraitRig(
        vertices=np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]], np.float32),
        faces=np.array([[0, 1, 2]], np.int32),
        weights=np.array([[0, 0], [0.5, 0.5], [0, 1]], np.float32),
        head_joint=np.array([0, 0.0649, 0.05], np.float32),
        landmarks=np.zeros((1, 3), np.float32),
        landmark_weights=np.zeros((1, 2), np.float32),
        landmark_names=("neck",),
        body=body,
    )


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def picture(seed, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def resign(folder):
    """Make the manifest fit the files again, as somebody would who edits a release carefully."""
    document = json.loads((folder / "manifest.json").read_text())
    for entry in [*document["shards"], *document["files"]]:
        data = (folder / entry["path"]).read_bytes()
        entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    document.pop("digest")
    document["digest"] = "?"
    plain = {k: v for k, v in document.items() if k != "digest"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    document["digest"] = hashlib.sha256(text).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(document))
    assert Manifest.from_bytes((folder / "manifest.json").read_bytes(), "m").digest == document["digest"]


class Maker:
    """Writes photos and their portraits into a workspace, a part at a time, as the stages would."""

    def __init__(self, folder, body="anny"):
        self.workspace = Workspace.open(folder, create=True)
        self.workspace.write_bytes("rig.safetensors", rig(body).to_bytes())
        self.body = body
        self.part = 0
        self.seed = 0

    def photo(self, **changes):
        """A spec of a photo; `people` portraits are cut from it."""
        self.seed += 1
        spec = {
            "seed": self.seed, "people": 1, "author": f"Author {self.seed}", "time": None, "kept": True,
            "provider": "wikimedia", "license": "CC-BY-4.0", "page_url": f"https://example.org/{self.seed}",
            "phash": None, "error_probability": 0.1, "permission": None, "photo_id": None, "picture": None,
            "yaw": 0.7 * self.seed, "file_url": None, "window": (0.0, 0.0, 64.0), "consent": None,
            "source": "test", "reasons": ["too_blurry"], "age_screen": None,
        }  # fmt: skip
        unknown = set(changes) - set(spec)
        assert not unknown, unknown
        return {**spec, **changes}

    def add(self, *specs, part=None):
        """Write one part; returns the portrait ids in order."""
        number = self.part if part is None else part
        self.part = max(self.part, number + 1)
        tables = {name: [] for name in ("photos", "fits", "portraits", "screened")}
        for spec in specs:
            photo_id = spec["photo_id"] or hashlib.sha256(f"photo {spec['seed']}".encode()).hexdigest()
            tables["photos"].append(self._photo(photo_id, spec))
            for person in range(spec["people"]):
                self._portrait(tables, photo_id, spec, person)
        for name, rows in tables.items():
            self.workspace.write_part(f"tables/{name}", number, schema.to_table(name, rows), "test")
        return [row["portrait_id"] for row in tables["portraits"]]

    def _photo(self, photo_id, spec):
        return {
            "photo_id": photo_id, "key": "photos/x", "width": 64, "height": 64, "format": "PNG", "bytes": 10,
            "orientation": 1, "color": "sRGB", "phash": spec["seed"], "exif_time": spec["time"],
            "provider": spec["provider"], "source": spec["source"], "uri": f"test:{spec['seed']}",
            "page_url": spec["page_url"], "file_url": spec["file_url"], "title": "A title",
            "author": spec["author"], "author_url": None, "license": spec["license"],
            "license_url": None, "rights_checked_at": "2026-11-01", "rights_evidence": "the page",
            "permission": spec["permission"], "consent": spec["consent"],
        }  # fmt: skip

    def _portrait(self, tables, photo_id, spec, person):
        key = f"{photo_id}-{person}"
        portrait_id = hashlib.sha256(key.encode()).hexdigest()[:32]
        pixels = picture(spec["seed"] * 10 + person) if spec["picture"] is None else spec["picture"]
        yaw = (spec["yaw"] + np.pi) % (2 * np.pi) - np.pi
        label = camera.to_label(camera.from_angles(yaw, 0.1, 0.02)).tolist()
        tables["fits"].append(
            {
                "fit_id": f"fit-{key}", "person_id": f"person-{key}", "photo_id": photo_id, "fitter": "test",
                "body": self.body, "focal": 1000.0, "principal": [32.0, 32.0], "root_orient": [0.0] * 3,
                "translation": [0.0, 0.0, 2.7], "pose": [0.0] * 6, "shape": [0.0], "joints": [0.0] * 39,
                "residual": 0.01, "residuals": [0.0] * 17, "hypotheses": [0.0, 1.0], "converged": True,
            }
        )  # fmt: skip
        common = {
            "portrait_id": portrait_id, "photo_id": photo_id, "effective_resolution": 1.5, "padding": 0.0,
            "landmark_error": 0.02, "shoulder_error": 0.01,
        }  # fmt: skip
        tables["portraits"].append(
            {
                **common, "person_id": f"person-{key}", "fit_id": f"fit-{key}", "camera": label,
                "pose": [0.01 * i for i in range(6)], "yaw": yaw, "pitch": 0.1, "roll": 0.02,
                "window": list(spec["window"]), "size": SIDE, "crop_mode": "fit",
                "keypoints": [float("nan")] + [1.0] * 50, "codec": "png",
                "models": '{"detector": "movenet:1", "rig": "anny"}',
                "image": {"bytes": png(pixels), "path": f"{portrait_id}.png"},
                "mask": {"bytes": png(pixels[..., 0]), "path": f"{portrait_id}-mask.png"},
            }
        )  # fmt: skip
        code = int.from_bytes(hashlib.sha256(f"hash {key}".encode()).digest()[:8], "big")
        tables["screened"].append(
            {
                **common, "kept": spec["kept"], "reasons": [] if spec["kept"] else spec["reasons"],
                "blur": 1.0, "exposure_low": 0.0, "exposure_high": 0.0, "contrast": 1.0, "mask_share": 0.5,
                "overlap": 0.0, "error_probability": spec["error_probability"],
                "phash": code if spec["phash"] is None else spec["phash"], "overlay": None,
                "age_screen": spec["age_screen"],
            }
        )  # fmt: skip

    def decide(self, verdicts, reviewer="rosa", at=0):
        """Append decisions: portrait id -> verdict."""
        start = datetime(2026, 11, 20, tzinfo=UTC) + timedelta(seconds=at)
        rows = [
            Decision(
                decision_id=decisions.ulid(), portrait_id=portrait, verdict=verdict, reason="",
                reviewer=reviewer, time=start + timedelta(seconds=i), seconds=0.0, client="",
            )
            for i, (portrait, verdict) in enumerate(verdicts.items())
        ]  # fmt: skip
        decisions.append(self.workspace, rows)
        return rows


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path / "ws")


@pytest.fixture
def releases(tmp_path):
    return tmp_path / "releases"


def options(**changes):
    """Unreviewed unless said otherwise, always of the same day."""
    return ReleaseOptions(**{"unreviewed": True, "created": DAY, **changes})

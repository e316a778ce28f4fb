"""What the page of a run can show: addresses a browser reaches, and sheets small enough for a database."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from phq_data.typed_json import ConfigError
from phq_data.workspace import Workspace
from phq_flows import artifacts


def test_an_address_is_found_for_what_lies_below_a_served_folder(monkeypatch):
    monkeypatch.setenv(
        "PHQ_ARTIFACTS_URL", "/data=https://files.example.org/phq/ s3://bucket/=http://store:9000/bucket"
    )
    page = artifacts.public_url("/data/my ws/report/index.html")
    assert page == "https://files.example.org/phq/my%20ws/report/index.html"
    assert artifacts.public_url("s3://bucket/ws/a.png") == "http://store:9000/bucket/ws/a.png"
    assert artifacts.public_url("/database/a.png") == ""
    monkeypatch.delenv("PHQ_ARTIFACTS_URL")
    assert artifacts.public_url("/data/a.png") == ""


@pytest.mark.parametrize("setting", ["/data", "=https://x", "/data=files.example.org", "/data=file:///data"])
def test_a_setting_that_no_browser_understands_is_refused(monkeypatch, setting):
    monkeypatch.setenv("PHQ_ARTIFACTS_URL", setting)
    with pytest.raises(ConfigError, match="PHQ_ARTIFACTS_URL is FOLDER=ADDRESS"):
        artifacts.public_url("/data/a.png")


def test_a_sheet_of_any_size_is_embedded_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4000, 3000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "sheet.png")  # the worst to compress
    text = artifacts._embedded((tmp_path / "sheet.png").read_bytes())
    assert text.startswith("data:image/jpeg;base64,") and len(text) <= 400_000
    with Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))) as image:
        assert image.width / image.height == pytest.approx(0.75, abs=0.01) and image.width > 400
    Image.new("RGB", (1200, 900)).save(tmp_path / "flat.png")
    with Image.open(
        io.BytesIO(base64.b64decode(artifacts._embedded((tmp_path / "flat.png").read_bytes())[23:]))
    ) as image:
        assert image.size == (1200, 900)


def test_counts_are_those_of_the_ledger(small):
    rows = {row["stage"]: row for row in artifacts.counts(Workspace.open(small))}
    assert list(rows) == ["ingest", "detect", "fit", "align_crop", "screen"]
    assert rows["ingest"] == {
        "stage": "ingest", "parts": 2, "items": 3, "kept": 3, "rejected": 0, "failed": 0,
    }  # fmt: skip

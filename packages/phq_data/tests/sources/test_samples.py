import importlib.util
import subprocess
import sys
from io import BytesIO

import pytest
from PIL import Image

from phq_data.sources import SourceError
from phq_data.sources.samples import SAMPLES, SamplesSource

pytest.importorskip("skimage")


def test_the_samples_of_scikit_image_are_free_pictures_of_people():
    source = SamplesSource()
    files = {file.uri: file for file in source.files()}
    for name in ("astronaut.png", "camera.png"):
        file = files[f"sample:{name}"]
        data = source.open(file).read()
        assert Image.open(BytesIO(data)).size == (512, 512)
        assert (file.size, file.mtime_ns) == (len(data), -1)
        rights = file.provenance
        assert rights.license in ("PDM-1.0", "CC0-1.0")
        assert all([rights.author, rights.page_url, rights.license_url, rights.rights_evidence])
    assert list(files) == sorted(files)


def test_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "ultralytics"
    (package / "assets").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    for name in ("bus.jpg", "zidane.jpg"):
        (package / "assets" / name).write_bytes(b"photo " + name.encode())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ultralytics", raising=False)
    importlib.invalidate_caches()
    source = SamplesSource()
    files = {file.uri: file for file in source.files()}
    assert source.open(files["sample:bus.jpg"]).read() == b"photo bus.jpg"
    assert files["sample:zidane.jpg"].provenance.license is None  # nobody says, so nothing is claimed
    assert "AGPL" in files["sample:zidane.jpg"].provenance.rights_evidence
    assert "ultralytics" not in sys.modules


def test_listing_samples_imports_no_scikit_image():
    code = (
        "import sys; from phq_data.sources.samples import SamplesSource; list(SamplesSource().files());"
        "sys.exit('skimage' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_any_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match="scikit-image"):
        SamplesSource()


def test_every_sample_says_how_its_rights_are_known():
    assert all(s.provenance.rights_evidence and s.provenance.rights_checked_at for s in SAMPLES)

"""A screen for minors from `phq models add age` to the report: what is made again, and what is not."""

from __future__ import annotations

from pathlib import Path

import age_networks as made
import pytest

from phq_data import config
from phq_data.errors import ModelError
from phq_data.models import importers
from phq_data.pipeline import whole
from phq_data.pipeline.local import run_inline
from phq_data.pipeline.model_set import load_terms, models_for
from phq_data.records import Screened
from phq_data.report.page import write_report
from phq_data.sources.resolve import resolve
from phq_data.synthesis.photograph import take
from phq_data.workspace import Workspace

ON = config.default().replace_setting("screen.age_model=age")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))
    models_for.cache_clear()
    yield
    models_for.cache_clear()


def test_a_network_that_is_not_there_is_told_before_photos_are_read(tmp_path):
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    with pytest.raises(ModelError, match=r"the model age is not here; .* phq models add age FILE"):
        whole.prepare(workspace, ON)
    with pytest.raises(ModelError, match=r"screen\.age_model is age, age:FILE"):
        whole.prepare(workspace, config.default().replace_setting("screen.age_model=deepface"))


@pytest.mark.slow
def test_only_the_screening_is_done_again_where_an_age_network_comes_or_thresholds_change(tmp_path):
    (tmp_path / "photos").mkdir()
    for index in (1, 13):
        (tmp_path / "photos" / f"{index}.jpg").write_bytes(take(11, index).jpeg)
    source = [resolve(str(tmp_path / "photos"))]
    workspace = Workspace.open(tmp_path / "workspace", create=True)
    run_inline(workspace, config.default(), source)
    content = workspace.part_info("tables/screened", 0).content
    assert {row.age_screen for row in workspace.records(Screened)} == {None}
    assert "no screen for minors was run" in Path(write_report(workspace)).read_text()

    # Everybody is 12, then 40: by the scale that the network's JSON says.
    importers.add("age", made.write(tmp_path / "net.onnx", scale=0.0001, offset=12.0, license="MIT"))
    screened = run_again(workspace, ON, source)
    assert screened == ["screen"]
    rows = workspace.records(Screened)
    seen = [row for row in rows if row.age_years is not None]
    assert seen and all(row.age_screen == "minor" and row.reasons[0] == "minor" for row in seen)
    assert "MIT" in {terms.license for terms in load_terms(workspace).values()}
    assert "screen for minors, portraits: minor" in Path(write_report(workspace)).read_text()
    assert run_again(workspace, ON, source) == []
    lower = ON.replace_setting("screen.minor_below=10")
    assert run_again(workspace, lower, source) == ["screen"]
    assert {row.age_screen for row in workspace.records(Screened)} == {"unsure"}

    # Without it all is as it was.
    assert run_again(workspace, config.default(), source) == ["screen"]
    assert workspace.part_info("tables/screened", 0).content == content


def run_again(workspace, settings, source) -> list[str]:
    """The stages of which a build does a part again."""
    models_for.cache_clear()
    report = run_inline(workspace, settings, source)
    assert not report.errors
    return [one.stage for one in report.reports if not one.skipped]

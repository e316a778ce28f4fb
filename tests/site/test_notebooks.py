"""The notebooks run, and git holds them without outputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
SHOWN = {  # what each must have shown: texts, and how many images
    "explore-a-release": (["portraits, splits ('train',)", "<table", "<th>side</th>"], 2),
    "judge-labels": (["4 cameras, 8 photos", "labels; [", "<table"], 1),
    "train-and-look": (["checking 1 shards", "<table"], 2),
}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.delitem(sys.modules, "notebooks", raising=False)
    import notebooks

    return notebooks


def test_git_holds_no_outputs(tool):
    assert {path.stem for path in NOTEBOOKS} == set(SHOWN)
    for path in NOTEBOOKS:
        assert tool.stripped(path.read_text()) == path.read_text(), (
            f"python tools/notebooks.py strip {path.name}"
        )


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(tool, path, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    tool.write_page(path, tmp_path, run=True)
    page = (tmp_path / f"{path.stem}.md").read_text()
    texts, images = SHOWN[path.stem]
    assert [text for text in texts if text not in page] == []
    assert len(list(tmp_path.glob("*.png"))) == images


def cells(tool: Any, *sources: str) -> list[Any]:
    return [tool.Cell("code", source) for source in sources]


def test_cells_share_names_and_show_their_last_value(tool):
    first, second = tool.execute(cells(tool, "!echo shell\nx = 20\nprint('said')", "x + 1"))
    assert "".join(one.text for one in first) == "shell\nsaid\n"
    assert [one.text for one in second if one.text] == ["21"]


def test_a_failing_cell_or_command_ends_the_notebook_and_the_folder_is_the_former_one(tool):
    before = Path.cwd()
    with pytest.raises(ZeroDivisionError):
        tool.execute(cells(tool, "1 / 0"))
    with pytest.raises(RuntimeError, match="ended with 3"):
        tool.execute(cells(tool, "!exit 3"))
    assert Path.cwd() == before

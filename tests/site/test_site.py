"""The documentation site: it builds without a warning, links lead somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phq_data import config

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("docs_site", "notebooks", "reference_pages")


@pytest.fixture(scope="module")
def tool() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        import docs_site

        yield docs_site


@pytest.fixture(scope="module")
def built(tool: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, notebooks without their outputs."""
    folder = tmp_path_factory.mktemp("site")
    tool.write_pages(folder / "pages")
    settings = (ROOT / "mkdocs.yml").read_text()
    settings = settings.replace("docs_dir: site-out/pages", f"docs_dir: {folder}/pages")
    settings = settings.replace("[packages/", f"[{ROOT}/packages/").replace(
        ", packages/", f", {ROOT}/packages/"
    )
    (folder / "mkdocs.yml").write_text(settings)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder / "html")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_pages_load_nothing_from_elsewhere(built):
    loading = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//[^\s>]+"
        r"|<link[^>]*rel=\"?(?:stylesheet|preconnect|preload)[^>]*href=\"?(?:https?:)?//[^\s>]+"
    )
    pages = list(built.rglob("*.html"))
    assert len(pages) > 35
    assert {
        page.name: loading.findall(page.read_text()) for page in pages if loading.search(page.read_text())
    } == {}
    for sheet in built.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet.name


def test_every_setting_of_the_build_and_every_command_has_its_place(tool):
    made = tool.reference_pages.pages()
    settings = made["reference/settings.md"]
    for name in ("min_side", "flip_tta", "max_error_probability", "r1_gamma", "until_kimg"):
        assert re.search(rf"^\| `{name}` \| `[^`]+` \| .*\S \|$", settings, re.MULTILINE), name
    for group in vars(config.default()).values():
        assert not dataclasses.is_dataclass(group) or f"### {type(group).__name__}" in settings
    for heading in ("## phq build", "## phq release takedown", "## phq review invite"):
        assert heading in made["reference/phq.md"]
    assert re.search(r"^\| `--workspace, -w` \| \w+ \| .* \|$", made["reference/phq.md"], re.MULTILINE)
    assert "| `--device` | cpu, cuda |" in made["reference/portraitgan.md"].replace("cpu\\|cuda", "cpu, cuda")


@pytest.mark.parametrize(
    ("github", "site"),
    [
        ("text\n* one\n  more\n* two", "text\n\n* one\n    more\n* two\n"),
        ("text\n| a |\n| --- |\n| b |", "text\n\n| a |\n| --- |\n| b |\n"),
        ("1. one\n\n   ```json\n   {}\n   ```\n\nend", "1. one\n\n    ```json\n    {}\n    ```\n\nend\n"),
        ("```\n  * no list\n```", "```\n  * no list\n```\n"),
        ("[a](../CONTRIBUTING.md#model)", "[a](contributing.md#model)\n"),
        ("[a](../packages/x.py) [b](review.md#keys)", "a [b](review.md#keys)\n"),
        ("[a](notebooks/explore-a-release.ipynb)", "[a](notebooks/explore-a-release.md)\n"),
    ],
)
def test_githubs_markdown_becomes_that_of_the_site(tool, github, site):
    assert tool.page(github, ROOT / "docs/index.md") == site

"""What README, CONTRIBUTING and docs/ name is there: links, settings, make targets, files."""

import dataclasses
import re
from pathlib import Path

import pytest

from phq_data import config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"`([\w./-]+\.(?:py|md|yaml|toml|json|safetensors))`")
# Files that programs write into workspaces, releases and runs, or that users and websites have.
ELSEWHERE = {
    "seen.json",
    "export.json",
    "labels.json",
    "lease.json",
    "samples.json",
    "tasks.json",
    ".incomplete.json",
    "Calib.toml",
    "config.json",
    "converted.json",
    "corrections.json",
    "manifest.json",
    "models.json",
    "removed.json",
    "shelves.json",
    "recipes.json",
    "rights.json",
    "rights.toml",
    "rtmpose-m.json",
    "settings.toml",
    "tdmrep.json",
    "views.json",
    "withheld.json",
}


def settings():
    groups = {}
    for field in dataclasses.fields(config.default()):
        value = getattr(config.default(), field.name)
        groups[field.name] = (
            {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else None
        )
    return groups


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not link.startswith("http") and not (
            target.exists() and (not anchor or anchor in anchors(target))
        ):
            broken.append(link)
    assert broken == []


def test_settings_of_the_build_exist():
    groups = settings()
    unknown = [
        f"{page.name}: {group}.{name}"
        for page in PAGES
        for group, name in re.findall(r"(?:--set |`)(\w+)\.(\w+)(?==)", page.read_text())
        if groups.get(group) and name not in groups[group]
    ]
    assert unknown == []


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    unknown = [
        f"{page.name}: make {target}"
        for page in PAGES
        for target in re.findall(r"`make ([a-z][a-z-]*)", page.read_text())
        if target not in targets and target != "bench-"  # bench-NAME
    ]
    assert unknown == []


def test_files_of_the_repository_exist():
    there = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if not hidden(path)]
    named = [(page.name, Path(name)) for page in PAGES for name in FILE.findall(page.read_text())]
    lost = [
        f"{page}: {name}"
        for page, name in named
        if name.name not in ELSEWHERE
        and not any(part.isupper() for part in (*name.parts, name.stem))  # a placeholder: NAME.py
        and not any(f"/{path}".endswith(f"/{name}") for path in there)
    ]
    assert lost == []


def hidden(path):
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)

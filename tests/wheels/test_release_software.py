"""`make release-software`: dry it changes nothing; applied it commits, tags and begins the next version."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TODAY = datetime.date(2030, 1, 2)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tools")
    for name in ("release_software", "wheels"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import release_software

    monkeypatch.setattr("wheels.build", fake_build)
    monkeypatch.setattr("wheels.check", lambda wheel, copy: [])
    return release_software


def fake_build(out: Path, root: Path) -> list[Path]:
    """A file named as hatchling would name it, by the version that stands in the copy."""
    version = (root / "packages/phq_data/src/phq_data/__init__.py").read_text().split('"')[1]
    out.mkdir()
    wheel = out / f"phq-{version}-py3-none-any.whl"
    wheel.write_text("wheel")
    return [wheel]


@pytest.fixture
def checkout(tool: Any, tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for folder in tool.wheels.FOLDERS:
        (root / folder).mkdir(parents=True)
        (root / folder / "pyproject.toml").write_text('dependencies = ["phq-data~=0.2.0.dev0"]\n')
    version = root / tool.VERSION_FILE
    version.parent.mkdir(parents=True)
    version.write_text('__version__ = "0.2.0.dev0"  # of all\n')
    (root / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [0.2.0] - unreleased\n\n* {'Something new. ' * 5}\n\n## [0.1.0]\n\n* First.\n"
    )
    (root / ".gitignore").write_text("dist/\n")
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "config", "user.name", "A")
    git(root, "config", "user.email", "a@example.org")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "Begin")
    return root


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def state(root: Path) -> tuple[str, ...]:
    asked = (["rev-parse", "HEAD"], ["tag", "--list"], ["status", "--porcelain"], ["worktree", "list"])
    return tuple(git(root, *arguments) for arguments in asked)


def test_dry_it_changes_nothing(tool, checkout):
    before = state(checkout)
    assert "PHQ 0.2.0 could be released" in tool.release(checkout, TODAY, apply=False)
    assert state(checkout) == before and not (checkout / "dist").exists()


def test_applied_it_tags_the_version_and_begins_the_next(tool, checkout):
    said = tool.release(checkout, TODAY, apply=True)
    assert "git push origin HEAD v0.2.0" in said
    assert (checkout / "dist/phq-0.2.0-py3-none-any.whl").is_file()

    def at(commit: str, name: str) -> str:
        return git(checkout, "show", f"{commit}:{name}")

    assert '"0.2.0"' in at("v0.2.0", tool.VERSION_FILE)
    assert 'phq-data~=0.2.0"' in at("v0.2.0", "flows/pyproject.toml")
    assert "## [0.2.0] - 2030-01-02" in at("v0.2.0", "CHANGELOG.md")
    assert '"0.2.1.dev0"' in at("HEAD", tool.VERSION_FILE)
    assert 'phq-data~=0.2.1.dev0"' in at("main", "flows/pyproject.toml")
    assert at("HEAD", "CHANGELOG.md").index("## [0.2.1] - unreleased") < at("HEAD", "CHANGELOG.md").index(
        "## [0.2.0]"
    )
    assert "Something new." in git(checkout, "tag", "--list", "--format=%(contents)", "v0.2.0")
    assert git(checkout, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "left.txt").write_text("x"), "the checkout has changes"),
        (lambda root: git(root, "tag", "v0.2.0"), "there is a tag v0.2.0 already"),
        (lambda root: commit(root, "CHANGELOG.md", "## [0.1.0]\n"), "no section '## \\[0.2.0\\]"),
        (
            lambda root: commit(root, "CHANGELOG.md", "## [0.2.0] - unreleased\n\n## [0.1.0]\n"),
            "says nothing",
        ),
    ],
)
def test_what_cannot_be_released_stays_as_it_is(tool, checkout, spoil, said):
    spoil(checkout)
    before = state(checkout)
    with pytest.raises(tool.ReleaseError, match=said):
        tool.release(checkout, TODAY, apply=True)
    assert state(checkout) == before


def commit(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)
    git(root, "commit", "--quiet", "--all", "--message", "Change")


def test_a_wheel_that_fails_its_check_moves_neither_branch_nor_tag(tool, checkout, monkeypatch):
    monkeypatch.setattr(tool.wheels, "check", lambda wheel, copy: ["LICENSE is missing"])
    before = state(checkout)
    with pytest.raises(tool.ReleaseError, match="LICENSE is missing"):
        tool.release(checkout, TODAY, apply=True)
    assert state(checkout) == before

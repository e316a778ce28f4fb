"""Make a release of the software: version, date in the changelog, wheels, tag. Dry, unless told otherwise.

    python tools/release_software.py            try everything in a copy of the last commit; nothing is kept
    python tools/release_software.py apply      the same, then commit, tag, and begin the next version

The version is the one that is being developed: 0.2.0.dev0 becomes 0.2.0. Nothing leaves this machine: what to
push and to upload is printed. All is made in a copy; the branch moves only when everything went well.
"""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import wheels

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = "packages/phq_data/src/phq_data/__init__.py"
VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)


class ReleaseError(Exception):
    """The software cannot be released as it is; the message says why."""


def main(arguments: list[str]) -> None:
    if arguments not in ([], ["apply"]):
        sys.exit(__doc__)
    try:
        print(release(ROOT, datetime.date.today(), apply=bool(arguments)))
    except ReleaseError as error:
        sys.exit(f"not released: {error}")


def release(root: Path, today: datetime.date, apply: bool) -> str:
    """What was made, in sentences. Raises `ReleaseError`; then branch, tags and `dist` are as before."""
    developed = VERSION.search((root / VERSION_FILE).read_text())
    if developed is None or not re.fullmatch(r"\d+\.\d+\.\d+\.dev\d+", developed[1]):
        raise ReleaseError(f"{VERSION_FILE} holds no version like 0.2.0.dev0")
    version = developed[1].partition(".dev")[0]
    if _git(root, "status", "--porcelain"):
        raise ReleaseError("the checkout has changes: commit them, or put them away")
    if _git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"there is a tag v{version} already")
    if apply and not _git(root, "branch", "--show-current"):
        raise ReleaseError("no branch is checked out")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "copy"
        _git(root, "worktree", "add", "--quiet", "--detach", str(copy), "HEAD")
        try:
            return _in_copy(root, copy, developed[1], today, apply)
        finally:
            _git(root, "worktree", "remove", "--force", str(copy))


def _in_copy(root: Path, copy: Path, developed: str, today: datetime.date, apply: bool) -> str:
    version = developed.partition(".dev")[0]
    _set_version(copy, developed, version)
    changelog = copy / "CHANGELOG.md"
    opened, closed = f"## [{version}] - unreleased\n", f"## [{version}] - {today.isoformat()}\n"
    text = changelog.read_text()
    if opened not in text:
        raise ReleaseError(f"CHANGELOG.md has no section '{opened.strip()}'")
    section = text.partition(opened)[2].partition("\n## ")[0]
    if len(section.strip()) < 40:
        raise ReleaseError(f"CHANGELOG.md says nothing of {version}")
    changelog.write_text(text.replace(opened, closed))
    made = wheels.build(copy / "dist", copy)
    faults = [f"{wheel.name}: {fault}" for wheel in made for fault in wheels.check(wheel, copy)]
    faults += [f"{wheel.name} has another version" for wheel in made if f"-{version}-" not in wheel.name]
    if faults:
        raise ReleaseError("\n".join(faults))
    listed = "".join(f"{wheel.stat().st_size / 1e6:8.2f} MB  {wheel.name}\n" for wheel in made)
    if not apply:
        return f"{listed}PHQ {version} could be released. Nothing was changed; `apply` commits and tags it."
    _git(copy, "commit", "--quiet", "--all", "--message", f"PHQ {version}")
    released = _git(copy, "rev-parse", "HEAD")
    following = _following(version)
    _set_version(copy, version, f"{following}.dev0")
    changelog.write_text(
        changelog.read_text().replace(closed, f"## [{following}] - unreleased\n\nNothing yet.\n\n{closed}")
    )
    _git(copy, "commit", "--quiet", "--all", "--message", f"Begin {following}")
    _git(root, "merge", "--quiet", "--ff-only", _git(copy, "rev-parse", "HEAD"))
    _git(
        root, "tag", "--annotate", f"v{version}", "--message", f"PHQ {version}\n{section.rstrip()}", released
    )
    (root / "dist").mkdir(exist_ok=True)
    for wheel in made:
        shutil.copy2(wheel, root / "dist")
    return (
        f"{listed}PHQ {version} is committed and tagged; its wheels are in dist. To publish it:\n"
        f"    git push origin HEAD v{version}\n    twine upload dist/*-{version}-*.whl"
    )


def _set_version(copy: Path, old: str, new: str) -> None:
    """The version, and the bounds that our packages set each other, in their manifests."""
    manifests = [f"{folder}/pyproject.toml" for folder in wheels.FOLDERS]
    for name in (VERSION_FILE, *manifests):
        text = (copy / name).read_text()
        text = text.replace(f'__version__ = "{old}"', f'__version__ = "{new}"')
        (copy / name).write_text(re.sub(rf'~={re.escape(old)}(?=")', f"~={new}", text))


def _following(version: str) -> str:
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])

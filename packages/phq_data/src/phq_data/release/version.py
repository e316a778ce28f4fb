"""Semantic versions of data: what a version number promises about the rows.

MAJOR: rows were removed or changed. MINOR: rows were only added. PATCH: the same rows, packed anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from phq_data.errors import ReleaseError

Bump = Literal["major", "minor", "patch"]
_PATTERN = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:\+([0-9A-Za-z.-]+))?", re.ASCII)


class VersionError(ReleaseError):
    """A version number that is none, or that says the wrong thing about the rows."""


@dataclass(frozen=True, order=True)
class Version:
    """MAJOR.MINOR.PATCH, and for local copies a build mark such as `+filled`."""

    major: int
    minor: int
    patch: int
    build: str = ""

    @classmethod
    def parse(cls, text: str) -> Version:
        """The version that `text` writes; `VersionError` when it writes none."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise VersionError(f"a version is written MAJOR.MINOR.PATCH, for example 1.2.0, not {text!r}")
        return cls(int(match[1]), int(match[2]), int(match[3]), match[4] or "")

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"+{self.build}" if self.build else "")

    def next(self, bump: Bump) -> Version:
        """The lowest version that is a `bump` away."""
        if bump == "major":
            return Version(self.major + 1, 0, 0)
        if bump == "minor":
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


def step(parent: Version, child: Version) -> Bump:
    """Which kind of step leads from `parent` to `child`. Raises `VersionError` unless it goes up cleanly."""
    if (child.major, child.minor, child.patch) <= (parent.major, parent.minor, parent.patch):
        raise VersionError(f"version {child} does not come after its parent {parent}")
    if child.major > parent.major:
        kind: Bump = "major"
        clean = child.minor == child.patch == 0
    elif child.minor > parent.minor:
        kind, clean = "minor", child.patch == 0
    else:
        kind, clean = "patch", True
    if not clean:
        raise VersionError(
            f"after {parent}, a {kind.upper()} version ends in zeros: {parent.next(kind)}, not {child}"
        )
    return kind


def required(added: int, removed: int, changed: int) -> Bump:
    """What the rows ask for."""
    if removed or changed:
        return "major"
    return "minor" if added else "patch"


def check_step(parent: Version, child: Version, added: int, removed: int, changed: int) -> Bump:
    """Raise `VersionError` with the reason unless `child` is the right kind of number for what changed."""
    wanted = required(added, removed, changed)
    given = step(parent, child)
    if given != wanted:
        what = f"{added} rows added, {removed} removed, {changed} changed since {parent}"
        rule = {
            "major": "a removed or changed row makes a MAJOR version",
            "minor": "rows that were only added make a MINOR version",
            "patch": "the same rows, packed anew, make a PATCH version",
        }[wanted]
        raise VersionError(f"version {child} is the wrong number: {what}; {rule}: {parent.next(wanted)}")
    return wanted

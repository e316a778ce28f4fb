"""What an installation of our packages asks for, by their metadata."""

from __future__ import annotations

import importlib.metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = ("phq-data", "portraitgan", "phq-flows", "phq-review", "phq")


def requirements(package: str) -> list[Requirement]:
    return [Requirement(line) for line in importlib.metadata.requires(package) or []]


def reached(package: str, extras: frozenset[str]) -> set[str]:
    """Names of all packages that an installation asks for, and `name[extra]` of ours."""
    found = {f"{package}[{extra}]" for extra in extras}
    for wanted in requirements(package):
        environments = [{"extra": extra} for extra in (extras or {""})]
        if wanted.marker and not any(wanted.marker.evaluate(one) for one in environments):
            continue
        name = canonicalize_name(wanted.name)
        found |= {name} | (reached(name, frozenset(wanted.extras)) if name in PACKAGES else set())
    return found

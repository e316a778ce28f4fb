"""`phq-serve.toml`: the deployments of a team, checked before a server hears of them."""

from __future__ import annotations

import re
import tomllib
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from phq_data import typed_json
from phq_data.files import read_written_text, writing
from phq_data.foreign import parse_toml
from phq_data.text import suggestion
from phq_data.typed_json import ConfigError
from phq_flows.environment import HEARTBEAT_SECONDS

_PERIOD = re.compile(r"(\d{1,9}) ?(s|min|h|d)")
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3660)  # dates have an end
_LOST = (2 * HEARTBEAT_SECONDS, 86_400)  # one heartbeat may come late
Count = Annotated[int, Field(gt=0, le=1_000_000)]

EXAMPLE = """\
# Deployments of PHQ on a Prefect server: `phq serve` runs them on this machine, `phq serve --work-pool NAME`
# hands them to the workers of a pool. Names and types of parameters are those of the flows.

limit = 2               # runs at once in this process; the others wait their turn
lost_after_seconds = 120  # a run that says nothing for so long has lost its machine, and is taken up again

[limits]                # parts at once on all machines together; a build may name one
phq-gpu = 1

[[deployments]]
flow = "scrape"         # scrape, build, report or release
name = "commons"        # default: the flow's name
every = "1 d"           # or cron = "0 2 * * *"; neither: it runs when somebody asks for it
parameters = { workspace = "/data/workspace", source = "wikimedia", limit = 1000 }

[[deployments]]
flow = "build"
name = "nightly"
cron = "0 3 * * *"
timezone = "Europe/Berlin"
concurrency_limit = 1   # runs of this deployment at once
tags = ["team"]
[deployments.parameters]
workspace = "/data/workspace"
sources = ["/data/photos"]
concurrency_limit = "phq-gpu"
report = true           # on the run's page: counts, overlays, a link to the page (docs/deployment.md)

[[deployments]]
flow = "report"
every = "6 h"
parameters = { workspace = "/data/workspace" }

[[deployments]]
flow = "release"        # no schedule: its version is set with every run
parameters = { workspace = "/data/workspace", releases = "/data/releases", version = "1.0.0" }
"""


@dataclass(frozen=True)
class Deployment:
    """One flow with a name, a schedule and parameters."""

    flow: Literal["scrape", "build", "report", "release"]
    name: str = ""
    description: str = ""
    cron: str = ""
    every: str = ""
    timezone: str = "UTC"  # of `cron`
    paused: bool = False
    concurrency_limit: Count | None = None
    tags: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """The deployment's name."""
        return self.name or self.flow

    def period(self) -> timedelta | None:
        """The time between two runs; None without one. Raises `ConfigError`."""
        found = _PERIOD.fullmatch(self.every)
        if found and timedelta() < (period := timedelta(**{_UNITS[found[2]]: int(found[1])})) <= _LONGEST:
            return period
        if self.every:
            raise ConfigError(
                f"every is a number with s, min, h or d, at most '{_LONGEST.days} d', for example '6 h', "
                f"not {self.every!r}"
            )
        return None


@dataclass(frozen=True)
class ServeFile:
    """What `phq serve` serves, and what it sets up on the server."""

    deployments: tuple[Deployment, ...]
    limit: Count | None = None
    lost_after_seconds: int = 120
    limits: Mapping[str, Count] = field(default_factory=dict)


def read(path: Path) -> ServeFile:
    """The file, checked. Raises `ConfigError` that names the setting and what it can be."""
    try:
        values = parse_toml(read_written_text(path))
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}: `phq serve --init` writes an example") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    try:
        return _checked(typed_json.read(ServeFile, values))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def write_example(path: Path) -> None:
    """Write a file with comments to start from. Raises `ConfigError` where there is a file already."""
    if path.exists():
        raise ConfigError(f"{path} is there already: it is left as it is")
    with writing(path) as temporary:
        temporary.write_text(EXAMPLE, encoding="utf-8")


def _checked(file: ServeFile) -> ServeFile:
    """What types do not say."""
    if not file.deployments:
        raise ConfigError("there is no [[deployments]]: `phq serve --init` writes an example")
    if not _LOST[0] <= file.lost_after_seconds <= _LOST[1]:
        raise ConfigError(
            f"lost_after_seconds is {_LOST[0]} to {_LOST[1]}, not {file.lost_after_seconds}: a healthy run "
            f"gives a sign of life every {HEARTBEAT_SECONDS} s, and one may come late"
        )
    seen = set[str]()
    for number, one in enumerate(file.deployments):
        try:
            _check(one)
        except ConfigError as error:
            raise ConfigError(f"deployments.{number} ({one.called}): {error}") from error
        if f"{one.flow}/{one.called}" in seen:
            raise ConfigError(f"deployments.{number}: another {one.flow} has the name {one.called!r}, too")
        seen.add(f"{one.flow}/{one.called}")
        asked = one.parameters.get("concurrency_limit")
        if asked and asked not in list(file.limits):  # a list: also of what cannot be a name
            raise ConfigError(
                f"deployments.{number} ({one.called}): [limits] has no {asked!r}, which its parameters name"
            )
    return file


def _check(one: Deployment) -> None:
    if "/" in one.called or "%" in one.called:
        raise ConfigError("a name holds no / and no %")
    if one.cron and one.every:
        raise ConfigError("give cron or every, not both")
    one.period()
    if one.timezone not in zoneinfo.available_timezones():
        known = sorted(zoneinfo.available_timezones())
        raise ConfigError(f"there is no timezone {one.timezone!r}; {_near(one.timezone, known)}")


def _near(name: str, known: list[str]) -> str:
    return told if (told := suggestion(name, known)).startswith("did") else "one is 'Europe/Berlin'"

"""docker/: every line of the files against what the packages offer. Nothing is built: no engine is needed."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from wheel_extras import PACKAGES, reached

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, the rest) of every line; continued lines are one, comments are left out."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def recipe(target: str) -> str:
    makefile = (ROOT / "Makefile").read_text()
    (found,) = re.findall(rf"^{target}:.*\n\t(.*)$", makefile, flags=re.MULTILINE)
    return str(found)


def installed(target: str) -> set[str]:
    """Names of packages that a target of the Makefile installs, without those of development."""
    line = recipe(target)
    extras = frozenset(re.findall(r"--extra (\S+)", line))
    if "--all-extras" in line:
        return set().union(*(reached(one, extras_of(one)) for one in PACKAGES))
    chosen = re.findall(r"--package (\S+)", line) or ["phq-data", "phq-flows"]
    assert extras <= frozenset().union(*(extras_of(one) for one in chosen)), (
        f"{target} names an unknown extra"
    )
    return set(chosen).union(*(reached(one, extras & extras_of(one)) for one in chosen))


def extras_of(package: str) -> frozenset[str]:
    return frozenset(importlib.metadata.metadata(package).get_all("Provides-Extra") or [])


def names(found: set[str]) -> set[str]:
    return {one for one in found if "[" not in one and one != "phq"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_line_of_a_dockerfile_is_one_that_works(path: Path) -> None:
    allowed = {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "ENV", "ENTRYPOINT", "CMD"}
    scripts = {
        one.name for package in PACKAGES for one in importlib.metadata.distribution(package).entry_points
    }
    for instruction, rest in instructions(path):
        assert instruction in allowed
        if instruction == "FROM":
            version = re.fullmatch(r"python:(\d+)\.(\d+)-slim-bookworm", rest)
            assert version and (int(version[1]), int(version[2])) >= (3, 11)
        elif instruction == "RUN" and rest.startswith("make "):
            target = rest.split()[1]
            assert target == "${TARGET}" or recipe(target)
        elif instruction == "RUN":
            assert rest.startswith("apt-get update && apt-get install -y --no-install-recommends make git ")
        elif instruction == "ARG":
            assert recipe(rest.removeprefix("TARGET="))
        elif instruction == "ENV":
            assert '"/phq/.venv/bin:${PATH}"' in rest
        elif instruction == "ENTRYPOINT":
            assert set(json.loads(rest)) <= scripts
        elif instruction in ("WORKDIR", "COPY"):
            assert rest in ("/phq", ". .")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_a_dockerfile_says_of_extras_is_what_its_target_installs(path: Path) -> None:
    said = re.findall(r"(setup[\w-]*) is (phq[\w-]*)(?:\[([\w,]+)\])?", path.read_text())
    used = {service["build"].get("args", {}).get("TARGET") for service in OURS.values()} - {None}
    used |= set(re.findall(r"ARG TARGET=(\S+)", path.read_text()))
    assert {target for target, _, _ in said} == (used if "${TARGET}" in path.read_text() else {"setup"})
    for target, package, extras in said:
        wanted = names(reached(package, frozenset(filter(None, extras.split(","))))) | names({package})
        got = names(installed(target))
        if extras == "all":  # a checkout has all extras, those that bind, too
            assert wanted <= got and got - wanted == {"smplx", "ultralytics", "opencv-python-headless"}, (
                target
            )
        else:
            assert got == wanted, (target, got ^ wanted)


def test_services_are_built_from_files_and_run_programs_that_there_are() -> None:
    scripts = {
        one.name for package in PACKAGES for one in importlib.metadata.distribution(package).entry_points
    }
    for name, service in OURS.items():
        build = service["build"]
        assert (ROOT / "docker" / build["context"] / build["dockerfile"]).resolve() in FILES, name
        program = (service.get("entrypoint") or ["phq"])[0]
        assert program in scripts | {"make", "prefect", "python"}, name
        if service.get("command"):
            assert service["command"][0] in {*scripts, "report", "build", "review", "serve"} | {"worker"}, (
                name
            )
    for name, service in SERVICES.items():
        assert "build" in service or ":" in service["image"], f"{name}: an image without a version"

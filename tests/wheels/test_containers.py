"""docker/: every line of the files against what the packages offer. Nothing is built: no engine is needed."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from wheel_extras import PACKAGES, reached

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
BASE = "python:3.12-slim-bookworm"
INSTALL = 'pip install --no-cache-dir --find-links /wheels "$(echo /wheels/phq-*.whl)[${EXTRAS}]"'
DEBIAN = {
    "libegl1": "rendering without a screen", "libegl-mesa0": "its driver on a CPU",
    "libgl1-mesa-dri": "the same", "libgl1": "OpenGL, which PyOpenGL looks for",
    "gcc": "torch.compile and Triton", "libc6-dev": "its headers",
}  # fmt: skip
"""Packages of Debian 12 that images may hold, and what for."""
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, the rest) of every line; continued lines are one, comments are left out."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def stages(path: Path) -> list[list[tuple[str, str]]]:
    """The instructions of a file from each FROM on."""
    found: list[list[tuple[str, str]]] = []
    for instruction, rest in instructions(path):
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, rest))
    return found


def extras_of(package: str) -> frozenset[str]:
    return frozenset(importlib.metadata.metadata(package).get_all("Provides-Extra") or [])


def scripts() -> set[str]:
    """The programs that our packages install."""
    return {
        one.name
        for package in PACKAGES
        for one in importlib.metadata.distribution(package).entry_points
        if one.group == "console_scripts"
    }


def built_with(service: dict[str, Any]) -> frozenset[str]:
    """The extras of a service's image: of its argument, or the file's default."""
    file = ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]
    (default,) = (rest.removeprefix("EXTRAS=") for name, rest in instructions(file) if name == "ARG")
    return frozenset(service["build"].get("args", {}).get("EXTRAS", default).split(","))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_first_stage_makes_the_wheels_of_all_packages(path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    import wheels

    first, _ = stages(path)
    assert first[:3] == [("FROM", f"{BASE} AS wheels"), ("WORKDIR", "/src"), ("COPY", ". .")]
    ((instruction, rest),) = first[3:]
    folders = [f"./{folder}" for folder in wheels.FOLDERS]
    assert instruction == "RUN"
    assert rest.split() == ["pip", "wheel", "--no-cache-dir", "--no-deps", "--wheel-dir", "/wheels", *folders]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        assert not any(folder.startswith(line.rstrip("/")) for folder in (*wheels.FOLDERS, "docker"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_line_of_the_second_stage_is_one_that_works(path: Path) -> None:
    _, second = stages(path)
    assert second[0] == ("FROM", BASE)
    for instruction, rest in second[1:]:
        if instruction == "RUN" and rest.startswith("apt-get "):
            steps = [step.strip() for step in rest.split("&&")]
            command = "apt-get install -y --no-install-recommends "
            assert steps[0] == "apt-get update" and steps[2] == "rm -rf /var/lib/apt/lists/*"
            assert steps[1].startswith(command)
            assert set(steps[1].removeprefix(command).split()) <= set(DEBIAN)
        elif instruction == "RUN":
            assert rest == INSTALL
        elif instruction == "ARG":
            chosen = rest.removeprefix("EXTRAS=").split(",")
            assert set(chosen) <= extras_of("phq"), path.name
        elif instruction == "ENV":
            assert rest == "NVIDIA_DRIVER_CAPABILITIES=all"
        elif instruction == "ENTRYPOINT":
            (program,) = json.loads(rest)
            assert program in scripts()
        elif instruction == "CMD":
            assert json.loads(rest) == ["--help"]
        elif instruction == "WORKDIR":
            assert rest == "/phq"
        else:
            assert instruction == "COPY"
            source, target = rest.split()[-2:]
            assert rest == "--from=wheels /wheels /wheels" or (
                (ROOT / source).is_file() and target == f"{Path(source).parent}/"
            )
    names = [instruction for instruction, _ in second]
    assert names.index("ARG") < len(names) - 1 - names[::-1].index("RUN"), "an extra that comes too late"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_has_the_package_of_the_program_that_it_runs(path: Path) -> None:
    _, second = stages(path)
    told = dict(second)
    (program,) = json.loads(told["ENTRYPOINT"])
    whole = reached("phq", frozenset(told["ARG"].removeprefix("EXTRAS=").split(",")))
    (package,) = (
        package
        for package in PACKAGES
        for one in importlib.metadata.distribution(package).entry_points
        if one.group == "console_scripts" and one.name == program
    )
    assert package in whole


def test_the_glob_of_the_install_names_one_wheel(tmp_path: Path) -> None:
    """The shell's part of the line, with wheels named as ours are."""
    line = INSTALL.replace("/wheels", str(tmp_path)).replace("pip install", "echo")
    for name in ("phq", "phq_data", "phq_flows", "phq_review", "portraitgan"):
        (tmp_path / f"{name}-0.2.0.dev0-py3-none-any.whl").touch()
    done = subprocess.run(["sh", "-c", line], env={"EXTRAS": "a,b"}, capture_output=True, text=True)
    assert done.stdout.split()[-1] == f"{tmp_path}/phq-0.2.0.dev0-py3-none-any.whl[a,b]"


def test_services_have_the_extras_that_their_commands_need() -> None:
    """The review in PostgreSQL, the object store, the generator; each extra that is named there is."""
    wanted = {"phq review": "phq-review", "postgresql://": "psycopg", "AWS_ENDPOINT_URL": "s3fs"}
    for name, service in OURS.items():
        extras = built_with(service)
        assert extras <= extras_of("phq"), (name, extras - extras_of("phq"))
        told = f"phq {' '.join(service.get('command', []))} {service.get('environment', {})}"
        for sign, package in wanted.items():
            assert sign not in told or package in reached("phq", extras), (name, sign)
    assert "torch" in reached("phq", built_with(OURS["generator"]))


def test_services_are_built_from_files_and_run_programs_that_there_are() -> None:
    for name, service in OURS.items():
        build = service["build"]
        assert (ROOT / "docker" / build["context"] / build["dockerfile"]).resolve() in FILES, name
        program = (service.get("entrypoint") or ["phq"])[0]
        assert program in scripts() | {"sh", "prefect", "python"}, name
        if program == "sh":
            (script,) = service["command"]
            assert {step.split()[0] for step in script.split("&&")} <= scripts(), name
            continue
        if service.get("command"):
            assert service["command"][0] in {"report", "build", "review", "serve"}, name
    for name, service in SERVICES.items():
        assert "build" in service or ":" in service["image"], f"{name}: an image without a version"

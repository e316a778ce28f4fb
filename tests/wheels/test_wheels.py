"""The wheels of all packages: what they carry, what they ask for, and that they work without the checkout."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from wheel_extras import PACKAGES, reached, requirements

import phq_data

ROOT = Path(__file__).resolve().parents[2]
GUESSED = {"review", "scrape", "train", "gpu", "ray", "dask", "s3", "paper", "all"}
BINDING = {"ultralytics": "yolo", "smplx": "smpl"}
"""Packages of the AGPL or not for commercial use, and the extra that asks for each by name."""


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        patch.delitem(sys.modules, "wheels", raising=False)
        import wheels

        yield wheels


@pytest.fixture(scope="module")
def built(tool: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tool.build(tmp_path_factory.mktemp("dist"))
    return {wheel.name.partition("-")[0].replace("_", "-"): wheel for wheel in made}


def test_every_package_is_a_wheel_that_carries_what_it_should(tool, built):
    assert set(built) == set(PACKAGES)
    assert {name: list(tool.check(wheel)) for name, wheel in built.items()} == {name: [] for name in PACKAGES}
    for wheel in built.values():
        with zipfile.ZipFile(wheel) as archive:
            license = next(name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
            assert archive.read(license) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("drop", "phq_flows/py.typed"), "phq_flows/py.typed is missing"),
        (("drop", "licenses/NOTICE"), "NOTICE is missing"),
        (("add", "tests/test_flow.py"), "tests/test_flow.py does not belong there"),
        (("replace", "License-Expression: "), "no license_expression"),
        (("replace", "Version: "), "'version' is a required field"),
    ],
)
def test_a_wheel_that_lacks_or_holds_something_is_named(tool, built, tmp_path, change, said):
    kind, what = change
    spoiled = tmp_path / built["phq-flows"].name
    with zipfile.ZipFile(built["phq-flows"]) as archive, zipfile.ZipFile(spoiled, "w") as out:
        for name in archive.namelist():
            content = archive.read(name)
            if kind == "replace" and name.endswith("METADATA"):
                lines = content.splitlines(keepends=True)
                content = b"".join(line for line in lines if not line.startswith(what.encode()))
                assert len(content.splitlines()) == len(lines) - 1
            if not (kind == "drop" and name.endswith(what)):
                out.writestr(name, content)
        if kind == "add":
            out.writestr(what, "")
    assert any(said in problem for problem in tool.check(spoiled))


def test_our_packages_ask_each_other_for_their_own_version():
    for package in PACKAGES:
        for wanted in requirements(package):
            if canonicalize_name(wanted.name) in PACKAGES and not (package == wanted.name == "phq"):
                assert str(wanted.specifier) == f"~={phq_data.__version__}", (package, wanted)


def test_the_extras_are_those_that_people_guess():
    extras = set(importlib.metadata.metadata("phq").get_all("Provides-Extra"))
    assert extras >= GUESSED
    readme = (ROOT / "packages/phq/README.md").read_text()
    assert {extra for extra in extras if f"[{extra}]`" not in readme} == set()
    assert "torch" in reached("phq", frozenset({"train"}))
    assert "torch" not in reached("phq", frozenset({"review", "scrape", "ray", "dask", "s3", "heic"}))


def test_what_binds_is_asked_for_by_name_and_all_is_all_the_rest():
    whole = reached("phq", frozenset({"all"}))
    assert whole.isdisjoint(BINDING)
    for package, extra in BINDING.items():
        assert package in reached("phq", frozenset({extra}))
    extras = {
        package: set(importlib.metadata.metadata(package).get_all("Provides-Extra") or [])
        - {*BINDING.values()}
        for package in PACKAGES
    }
    for extra in extras.pop("phq") - {"all"}:
        assert reached("phq", frozenset({extra})) - {f"phq[{extra}]"} <= whole, f"phq[all] lacks phq[{extra}]"
    offered = {f"{package}[{extra}]" for package, names in extras.items() for extra in names}
    assert offered - whole == set(), "an extra that phq[all] does not reach"


@pytest.mark.skipif("TEST_WHEELS" not in os.environ, reason="make test-wheels: it asks the package index")
@pytest.mark.timeout(1800)
def test_an_empty_environment_does_the_quick_start_without_a_checkout(built, tmp_path):
    """`TEST_WHEELS=pip` installs with pip, another value with uv, which takes seconds."""
    environment = Environment(tmp_path, next(iter(built.values())).parent)
    environment.install("phq")
    for command in quick_start():
        environment.run(command)
    assert (tmp_path / "demo/report/index.html").is_file()
    assert "phq-review" in environment.run("phq review -w demo", code=1)
    environment.install("phq[review]")
    assert "--no-browser" in environment.run("phq review --help")


@pytest.mark.skipif("TEST_WHEELS" not in os.environ, reason="make test-wheels: it asks the package index")
@pytest.mark.timeout(1800)
def test_a_generator_trains_from_wheels_and_all_extras_fit_together(built, tmp_path):
    environment = Environment(tmp_path, next(iter(built.values())).parent)
    resolved = environment.install("phq[all]", "--dry-run")
    assert "ultralytics" not in resolved and "smplx" not in resolved
    environment.install("phq[train]")
    assert "train" in environment.run("portraitgan --help")
    done = environment.run("python -c 'import portraitgan.networks, phq_data as d; print(d.__file__)'")
    assert str(tmp_path) in done


def quick_start() -> list[str]:
    """The commands of the README of `phq`, the first block; the synthetic people are fewer."""
    text = (ROOT / "packages/phq/README.md").read_text()
    (block,) = re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    first, *rest = block.strip().splitlines()
    assert first == "pip install phq"
    return [line.partition("#")[0].strip().replace("synthetic:24", "synthetic:4") for line in rest]


class Environment:
    """An empty virtual environment, and programs of it, in a folder that knows no checkout."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder, self.wheels = folder, wheels
        self.bin = folder / "env/bin"
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
        self.variables = {
            "PATH": f"{self.bin}:{os.defpath}", "HOME": str(folder), "NO_COLOR": "1", "COLUMNS": "120",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip

    def install(self, wanted: str, *options: str) -> str:
        if os.environ["TEST_WHEELS"] == "pip":
            command = [f"{self.bin}/pip", "install"]
        else:
            uv = os.environ.get("UV") or shutil.which("uv")
            # The overrides of the workspace must not help: who installs wheels has none.
            command = [str(Path(uv or "uv").absolute()), "pip", "install", "--no-config"]
            command += ["--python", f"{self.bin}/python"]
        command += ["--find-links", str(self.wheels), *options, wanted]
        own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            command, cwd=self.folder, env=own, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def run(self, command: str, code: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.variables, capture_output=True, text=True
        )  # fmt: skip
        assert done.returncode == code, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr

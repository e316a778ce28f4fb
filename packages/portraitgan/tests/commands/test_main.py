"""The program: its help is light, and lists only what exists."""

from __future__ import annotations

import subprocess
import sys

import pytest

import phq_data
from portraitgan.commands.main import COMMANDS, main


def test_import_and_help_need_no_torch() -> None:
    code = (
        "import sys, portraitgan.commands.main\n"
        "assert portraitgan.commands.main.main(['--help']) == 0\n"
        "assert not {'torch', 'warp', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "convert" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"portraitgan {name}" in capsys.readouterr().out


def test_the_version_is_that_of_all_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"portraitgan {phq_data.__version__}\n"


def test_unknown_commands_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "No such command 'nonsense'" in capsys.readouterr().err

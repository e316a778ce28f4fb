"""The program: its help is light, and lists only what exists."""

from __future__ import annotations

import subprocess
import sys

import pytest

from portraitgan.commands.main import build_parser


def test_import_and_help_need_no_torch() -> None:
    code = (
        "import sys, portraitgan, portraitgan.commands.main\n"
        "try: portraitgan.commands.main.main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'warp', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "convert" in done.stdout


def test_unknown_commands_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["nonsense"])
    assert "invalid choice" in capsys.readouterr().err

"""Every option of both programs: one that is given twice counts twice, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

import phq_data.cli.main
import portraitgan.commands.main

PROGRAMS = {
    "phq": typer.main.get_command(phq_data.cli.main.make_app()),
    "portraitgan": typer.main.get_command(portraitgan.commands.main.make_app()),
}
REPEATABLE = {
    "--set", "--query", "--name", "--photos", "--key-pose", "--id", "--url", "--author", "--permission",
    "--scope", "--consent-of", "--portrait", "--photo", "--person", "--runs",
}  # fmt: skip

ONE_OF_A_KIND = {
    "phq review invite --url",
    "phq release build --name",
    "phq release build --url",
    "phq models add --url",
    "portraitgan invert --portrait",
}
"""Options that mean something else than their namesakes, of which there can be one."""


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


OPTIONS: list[Any] = [
    pytest.param(command, option, id=" ".join([*path, option.opts[0]]))
    for program, whole in PROGRAMS.items()
    for path, command in commands(whole, (program,))
    for option in command.params
    if option.param_type_name == "option" and option.name != "help"
]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_option_given_twice_counts_twice_or_is_refused(command: Any, option: Any) -> None:
    once = [option.opts[-1]] if option.is_flag else [option.opts[-1], *["7"] * option.nargs]
    context = command.context_class(command)
    parser = command.make_parser(context)
    if option.multiple:
        values, _, _ = parser.parse_args([*once, *once])
        assert values[option.name] == ["7", "7"]
        return
    with pytest.raises(typer.BadParameter, match="was given twice"):
        parser.parse_args([*once, *once])
    parser.parse_args(list(once))


def test_those_that_are_called_repeatable_are() -> None:
    repeatable = {option.values[1].opts[0] for option in OPTIONS if option.values[1].multiple}
    assert repeatable == REPEATABLE
    for option in OPTIONS:
        said = "epeatable" in (option.values[1].help or "")
        assert not said or option.values[1].multiple, f"{option.id} says that it repeats"
        alone = option.id in ONE_OF_A_KIND or option.values[1].opts[0] not in REPEATABLE
        assert alone or option.values[1].multiple, f"{option.id} repeats elsewhere"


@pytest.mark.parametrize(
    "arguments",
    [["export", "-w", "w", "s3://bucket/out"], ["release", "diff", "a", "b", "--out", "s3://b/c"]],
)
def test_a_url_where_a_file_of_this_machine_is_meant_makes_no_folder_of_that_name(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        PROGRAMS["phq"](arguments)
    assert f"{arguments[-1]} is a URL" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())

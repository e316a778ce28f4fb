"""Settings that people write as JSON, as frozen dataclasses: pydantic checks, messages name the setting."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from phq_data.errors import PhqError
from phq_data.foreign import JsonError, parse_json

T = TypeVar("T")


class ConfigError(PhqError, ValueError):
    """A setting that does not exist or cannot have that value; the message names it and what it can be."""


def read(kind: type[T], values: object, *, complete: bool = False) -> T:
    """Parsed JSON `values` as the (nested) dataclass `kind`. Names and types are checked, nothing converted.

    `complete`: every setting must be there, so that no default is taken silently. Raises `ConfigError`.
    """
    from pydantic import ValidationError

    if not isinstance(values, Mapping):
        raise ConfigError(f"settings are a JSON object, not {values!r}")
    try:
        text = json.dumps([values])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"settings are JSON values: {error}") from error
    adapter: Any = _adapter(kind)  # type: ignore[arg-type]
    try:
        (made,) = adapter.validate_json(text)
    except ValidationError as error:
        raise ConfigError(_explained(kind, error.errors()[0])) from error
    if complete:
        lacking = list(_lacking(dataclasses.asdict(made), values))
        if lacking:
            raise ConfigError(f"the settings lack {', '.join(repr(path) for path in lacking)}")
    assert isinstance(made, kind)
    return made


def read_text(kind: type[T], text: str, *, complete: bool = False) -> T:
    """`read` of JSON text."""
    return read(kind, parsed(text), complete=complete)


def parsed(text: str) -> Any:
    """JSON text as plain values. Raises `ConfigError`."""
    try:
        return parse_json(text)
    except JsonError as error:
        raise ConfigError(f"the settings are not JSON: {error}") from error


Migrations = dict[int, Callable[[dict[str, Any]], dict[str, Any]]]
"""From a version to the next one: a function from its JSON object to the newer one's."""


def upgraded(data: dict[str, Any], version: object, newest: int, migrations: Migrations) -> dict[str, Any]:
    """A JSON object of `version` as the `newest` version has it. Raises `ConfigError` saying why not."""
    if not isinstance(version, int):
        raise ConfigError(f"the config's version is {version!r}, which is no number")
    if version > newest:
        raise ConfigError(f"the config has version {version}, this program knows up to {newest}: update it")
    for number in range(version, newest):
        if number not in migrations:
            raise ConfigError(
                f"the config has version {version}; what changed from version {number} to {number + 1} "
                "cannot be carried over: use the program that wrote it"
            )
        try:
            data = migrations[number](data)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"the config has version {number}, but not what that version had ({error!r}): it was changed"
            ) from error
    return data


def plain(config: Any) -> dict[str, Any]:
    """A (nested) dataclass as JSON values that may be changed: `read` is the way back."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def assign(kind: type, values: dict[str, Any], path: str, value: Any) -> None:
    """Set one of the `values` of a `kind` by its dotted path, as in `stages.0.until_kimg`.

    Raises `ConfigError` for a path that leads nowhere, or to a group of settings.
    """
    target: Any = values
    *parents, name = path.split(".")
    for depth, step in enumerate([*parents, name]):
        where = ".".join(path.split(".")[:depth]) or "the settings"
        if isinstance(target, list):
            if not (step.isdigit() and int(step) < len(target)):
                raise ConfigError(f"{where} has entries 0 to {len(target) - 1}, no '{step}'")
        elif not isinstance(target, dict) or step not in target:
            raise ConfigError(unknown(kind, path))
        if depth < len(parents):
            target = target[int(step) if isinstance(target, list) else step]
    key: Any = int(name) if isinstance(target, list) else name
    if isinstance(target[key], dict) and not isinstance(value, dict | None):
        raise ConfigError(unknown(kind, path))
    target[key] = value


def value_of(text: str) -> Any:
    """The value that a text on a command line means: JSON, or else the text itself."""
    try:
        return parse_json(text)
    except JsonError:
        return text


def unknown(kind: type, path: str) -> str:
    """That `kind` has no such setting, and which one may be meant."""
    known = list(_paths(kind))
    general = ".".join("0" if step.isdigit() else step for step in path.split("."))
    close = difflib.get_close_matches(general, known, n=1, cutoff=0.75)
    members = {name.rpartition(".")[2]: name for name in known}
    member = general.rpartition(".")[2]
    if not close and (near := difflib.get_close_matches(member, members, n=1, cutoff=0.8)):
        close = [members[near[0]]]
    if close and close[0] != general:
        return f"there is no setting '{path}'; did you mean '{close[0]}'?"
    group = f"{general}." if general in known else ""
    there = [name for name in known if name.startswith(group)] if group else []
    return f"there is no setting '{path}'; there are {', '.join(there or _groups(known))}"


def _groups(known: list[str]) -> list[str]:
    return [name for name in known if "." not in name]


@functools.cache
def _adapter(kind: type[Any]) -> Any:
    """Pydantic's reader of a list of one `kind`: a config given to a list holds for dataclasses inside it."""
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(tuple[kind], config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))  # type: ignore[valid-type]


_KINDS: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "list_type": "a list",
}


def _explained(kind: type, error: Any) -> str:
    """One of pydantic's errors in our words."""
    path, value = ".".join(str(step) for step in error["loc"][1:]), _short(error.get("input"))
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])  # of a dataclass that checks itself
        case "unexpected_keyword_argument" | "extra_forbidden":
            return unknown(kind, path)
        case "dataclass_type" | "dataclass_exact_type":
            return f"setting '{path}' is a group of settings, not {value}"
        case "literal_error":
            choices = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
            return f"setting '{path}' is one of {choices}, not {value}"
        case "missing" | "missing_argument" if isinstance(error["loc"][-1], str):
            return f"there is no '{path}', which must be given"
        case "missing" | "too_short" | "too_long":
            return f"setting '{path}' has too few or too many entries: {value}"
        case "greater_than" | "greater_than_equal" | "finite_number":
            limits = {"greater_than": "greater than {gt}", "greater_than_equal": "{ge} or greater"}
            limit = limits.get(error["type"], "").format(**error.get("ctx", {}))
            return f"setting '{path}' must be a finite number{limit and ', '}{limit}, not {value}"
    wanted = _KINDS.get(error["type"])
    if wanted is None:
        return f"setting '{path}': {error['msg']}, not {value}"
    return f"setting '{path}' wants {wanted}, not {value}"


def _short(value: Any) -> str:
    """A value as messages show it: of a large one its beginning."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _paths(kind: type, before: str = "") -> Iterator[str]:
    """Dotted paths of all settings of a dataclass; entries of lists are number 0."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        path = before + field.name
        yield path
        yield from _inner_paths(hints[field.name], path)


def _inner_paths(hint: Any, path: str) -> Iterator[str]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield from _paths(hint, f"{path}.")
    elif get_origin(hint) is not Literal:
        inner = f"{path}.0" if get_origin(hint) in (tuple, list) else path
        for part in get_args(hint):
            yield from _inner_paths(part, inner)


def _lacking(made: Any, given: Any, before: str = "") -> Iterator[str]:
    """Paths of what was made but not given."""
    if isinstance(made, dict) and isinstance(given, Mapping):
        for name, value in made.items():
            if name not in given:
                yield before + name
            else:
                yield from _lacking(value, given[name], f"{before}{name}.")
    elif isinstance(made, list | tuple) and isinstance(given, list):
        for index, (value, other) in enumerate(zip(made, given, strict=True)):
            yield from _lacking(value, other, f"{before}{index}.")

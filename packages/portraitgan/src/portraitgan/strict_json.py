"""Frozen dataclass configs to JSON and strictly back: unknown, missing and ill-typed keys are errors."""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from phq_data.errors import PhqError

T = TypeVar("T")


class ConfigError(PhqError, ValueError):
    """A configuration that cannot be built; the message names the field."""


def write_json(config: Any) -> str:
    """A (nested) dataclass as indented JSON text."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def read_strict(kind: type[T], text: str) -> T:
    """The dataclass `kind` from `write_json`'s text; `ConfigError` names what does not fit."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"the config is not JSON: {error}") from error
    config = _parse(kind, data, "config")
    assert isinstance(config, kind)
    return config


def _parse(expected: Any, value: Any, where: str) -> Any:
    """`value` (from JSON) as the annotated type `expected`, or `ConfigError`."""
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be an object, not {value!r}")
        hints = get_type_hints(expected)
        names = [f.name for f in dataclasses.fields(expected)]
        unknown, missing = sorted(set(value) - set(names)), sorted(set(names) - set(value))
        if unknown or missing:
            raise ConfigError(f"{where}: unknown keys {unknown}, missing keys {missing}")
        return expected(**{name: _parse(hints[name], value[name], f"{where}.{name}") for name in names})
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _parse(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, not {value!r}")
        repeated = len(arguments) == 2 and arguments[1] is Ellipsis
        if not repeated and len(value) != len(arguments):
            raise ConfigError(f"{where} must have {len(arguments)} entries, not {len(value)}")
        inner = [arguments[0]] * len(value) if repeated else list(arguments)
        return tuple(_parse(t, v, f"{where}[{i}]") for i, (t, v) in enumerate(zip(inner, value, strict=True)))
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not expected:
        raise ConfigError(f"{where} must be {expected.__name__}, not {value!r}")
    return value

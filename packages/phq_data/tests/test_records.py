"""Records have the columns of the schema, and go to tables and back as they were."""

from __future__ import annotations

import dataclasses
import datetime
import types
import typing

import numpy as np
import pyarrow as pa
import pytest

from phq_data import records, schema
from phq_data.arrays import FloatArray
from phq_data.records import EncodedImage, Record

TABLES = sorted(records.TABLES)


def expected_type(column: pa.Field) -> object:
    """What a record holds for a column of the schema."""
    kind = column.type
    if kind == schema.IMAGE:
        plain: object = EncodedImage
    elif kind == schema.TEXT_LIST:
        plain = tuple[str, ...]
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        plain = FloatArray
    elif pa.types.is_timestamp(kind):
        plain = datetime.datetime
    elif pa.types.is_boolean(kind):
        plain = bool
    elif pa.types.is_integer(kind):
        plain = int
    elif pa.types.is_floating(kind):
        plain = float
    else:
        assert kind == pa.string()
        plain = str
    return plain | None if column.nullable else plain  # type: ignore[operator]


def value_of(column: pa.Field, shape: tuple[int, ...], seed: int) -> object:
    kind = column.type
    if shape:
        length = [3 if side == -1 else side for side in shape]
        return np.random.default_rng(seed).normal(size=length).astype(np.float32).astype(np.float64)
    if kind == schema.IMAGE:
        return EncodedImage(b"\x00\xff", f"{seed}.png")
    if kind == schema.TEXT_LIST:
        return ("a", "b")[:seed]
    if pa.types.is_timestamp(kind):
        return datetime.datetime(2026, 3, 1, 12, 30, seed, tzinfo=datetime.UTC)
    if pa.types.is_boolean(kind):
        return seed % 2 == 0
    if kind == pa.uint64():
        return 2**64 - seed - 1
    if pa.types.is_integer(kind):
        return seed + 3
    if pa.types.is_floating(kind):
        return seed + 0.25
    return f"{column.name} {seed}"


def record_of(name: str, seed: int, *, optional: bool = True) -> Record:
    kind = records.TABLES[name]
    shapes = records._shapes(kind)
    values = {
        column.name: value_of(column, shapes[column.name], seed)
        for column in schema.SCHEMAS[name]
        if optional or not column.nullable
    }
    return kind(**values)


def test_every_table_that_the_pipeline_writes_has_its_record() -> None:
    assert set(records.TABLES) == set(schema.SCHEMAS) - {"release"}


@pytest.mark.parametrize("name", TABLES)
def test_fields_are_the_columns_of_the_schema(name: str) -> None:
    kind = records.TABLES[name]
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    assert sorted(fields) == sorted(schema.SCHEMAS[name].names)
    for column in schema.SCHEMAS[name]:
        hint = hints[column.name]
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
            hint = typing.get_args(hint)[0] | None
        assert hint == expected_type(column), column.name
        assert (fields[column.name].default is None) == column.nullable, column.name
        shape = records._shapes(kind)[column.name]
        if pa.types.is_fixed_size_list(column.type):
            assert np.prod(shape) == column.type.list_size, column.name
        else:
            assert bool(shape) == (pa.types.is_list(column.type) and column.type != schema.TEXT_LIST)


@pytest.mark.parametrize("name", TABLES)
def test_records_go_to_a_table_and_back(name: str) -> None:
    kind = records.TABLES[name]
    whole = [record_of(name, seed) for seed in range(3)]
    bare = record_of(name, 4, optional=False)
    for given in (whole, [*whole, bare], []):
        table = records.to_table(kind, given)
        assert table.schema.equals(schema.SCHEMAS[name])
        assert records.from_table(kind, table) == given
    several = pa.concat_tables([records.to_table(kind, [one]) for one in whole])
    assert records.from_table(kind, several.slice(1)) == whole[1:]


def test_equality_sees_every_field_and_takes_nan_for_nan() -> None:
    one: typing.Any = record_of("fits", 1)
    assert one == record_of("fits", 1)
    unused = dataclasses.replace(one, residuals=np.full(17, np.nan), residual=float("nan"))
    assert unused == dataclasses.replace(unused, residuals=np.full(17, np.nan))
    for name in ("fit_id", "joints", "residual", "orientation_prior"):
        assert one != dataclasses.replace(one, **{name: getattr(record_of("fits", 2), name)}), name
    assert one != dataclasses.replace(one, orientation_prior=None)
    assert one != record_of("people", 1)


def test_a_smaller_class_reads_some_columns() -> None:
    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Place(Record):
        table = "people"
        person_id: str
        box: records.Box

    table = records.to_table(records.Person, [record_of("people", 2)])
    assert records.columns(Place) == ("person_id", "box")
    (place,) = records.from_table(Place, table.select(records.columns(Place)))
    assert place.person_id == "person_id 2" and place.box.shape == (4,)
    with pytest.raises(schema.SchemaError, match="'people' lacks column 'box'"):
        records.from_table(Place, table.drop_columns("box"))


def test_a_table_older_than_an_optional_column_has_none() -> None:
    table = records.to_table(records.Fit, [record_of("fits", 1)]).drop_columns("orientation_prior")
    assert records.from_table(records.Fit, table)[0].orientation_prior is None


def test_a_value_that_does_not_fit_is_named() -> None:
    one: typing.Any = record_of("people", 1)
    wrong = dataclasses.replace(one, box=np.zeros(3))
    with pytest.raises(schema.SchemaError, match=r"'people'.*'box'"):
        records.to_table(records.Person, [record_of("people", 0), wrong])

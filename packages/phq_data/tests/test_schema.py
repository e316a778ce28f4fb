"""Every table goes to Parquet and back as it was, and rows that do not fit are named."""

import datetime
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phq_data import schema
from phq_data.schema import SchemaError, check_table, make_id, to_table

TABLES = sorted(schema.SCHEMAS)


def value_of(kind):
    """Something of type `kind` that a careless conversion would change."""
    if kind == pa.uint64():
        return 2**64 - 3
    if pa.types.is_integer(kind):
        return -(2 ** (kind.bit_width - 1)) + 5
    if kind == pa.float64():
        return 0.1234567890123456
    if kind == pa.float32():
        return 0.25
    if kind == pa.string():
        return "Zoë 頭 'quoted'\n"
    if kind == pa.bool_():
        return True
    if kind == pa.binary():
        return b"\x00\xff\x89PNG"
    if pa.types.is_timestamp(kind):
        return datetime.datetime(2026, 3, 1, 12, 30, 5, 123000, tzinfo=datetime.UTC)
    if pa.types.is_fixed_size_list(kind):
        return [value_of(kind.value_type)] * kind.list_size
    if pa.types.is_list(kind):
        return [value_of(kind.value_type)] * 3
    if pa.types.is_struct(kind):
        return {field.name: value_of(field.type) for field in kind}
    raise AssertionError(f"no test value for {kind}")


def row_of(name, **changes):
    return {field.name: value_of(field.type) for field in schema.SCHEMAS[name]} | changes


@pytest.mark.parametrize("name", TABLES)
def test_a_table_survives_parquet(name, tmp_path):
    full = row_of(name)
    bare = {f.name: None if f.nullable else full[f.name] for f in schema.SCHEMAS[name]}
    table = to_table(name, [full, bare])
    pq.write_table(table, tmp_path / "part.parquet", compression="zstd")
    back = check_table(name, pq.read_table(tmp_path / "part.parquet"))
    assert back.schema.equals(schema.SCHEMAS[name])
    assert back.to_pylist() == [full, bare]


@pytest.mark.parametrize("name", TABLES)
def test_no_rows_are_a_table_too(name):
    assert to_table(name, []).schema.equals(schema.SCHEMAS[name])


@pytest.mark.parametrize("name", sorted(schema.KEYS))
def test_keys_are_required_text_columns(name):
    field = schema.SCHEMAS[name].field(schema.KEYS[name])
    assert field.type == pa.string() and not field.nullable


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_unknown_or_null_column_is_named(name):
    required = next(f.name for f in schema.SCHEMAS[name] if not f.nullable)
    lacking = row_of(name)
    del lacking[required]
    with pytest.raises(SchemaError, match=f"'{name}', row 1: column '{required}' is missing"):
        to_table(name, [row_of(name), lacking])
    with pytest.raises(SchemaError, match=f"'{name}', row 0: column '{required}' is missing"):
        to_table(name, [row_of(name, **{required: None})])
    with pytest.raises(SchemaError, match=f"'{name}', row 0: unknown column 'extra'"):
        to_table(name, [row_of(name, extra=1)])


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("photos", "width", "wide"),
        ("photos", "width", 2**40),
        ("photos", "width", 2.5),
        ("photos", "phash", -1),
        ("photos", "photo_id", 7),
        ("photos", "title", "half a surrogate \udcff"),
        ("people", "box", [1.0, 2.0, 3.0]),
        ("portraits", "camera", [0.0] * 24),
        ("portraits", "camera", 3.0),
        ("portraits", "image", b"bytes without a name"),
        ("screened", "kept", "yes"),
        ("screened", "reasons", "too_blurry"),
        ("ledger", "outputs", [1, 2]),
        ("decisions", "time", "yesterday"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_table_and_column(name, column, value):
    with pytest.raises(SchemaError, match=f"'{name}'.*'{column}'"):
        to_table(name, [row_of(name), row_of(name, **{column: value})])


def test_nan_is_a_number_and_stays_one():
    row = row_of("fits", residuals=[float("nan")] * 17)
    back = to_table("fits", [row]).to_pylist()[0]["residuals"]
    assert all(math.isnan(value) for value in back)


def test_a_table_without_a_column_is_refused_and_extra_ones_are_dropped():
    table = to_table("photos", [row_of("photos")])
    with pytest.raises(SchemaError, match="'photos' lacks column 'phash'"):
        check_table("photos", table.drop_columns("phash"))
    more = table.append_column("extra", pa.array([1]))
    assert check_table("photos", more).equals(table)


def test_a_table_of_narrower_types_is_widened_and_one_that_cannot_be_is_refused():
    table = to_table("photos", [row_of("photos", width=640)])
    index = table.schema.get_field_index("width")
    narrow = table.set_column(index, "width", pa.array([640], pa.int16()))
    assert check_table("photos", narrow).equals(table)
    words = table.set_column(index, "width", pa.array(["wide"]))
    with pytest.raises(SchemaError, match="'photos'"):
        check_table("photos", words)
    nulls = table.set_column(index, "width", pa.array([None], pa.int32()))
    with pytest.raises(SchemaError, match=r"'photos'.*'width'"):
        check_table("photos", nulls)


def test_ids_depend_on_every_part_and_on_where_one_ends():
    assert make_id("a", 1, 0.5, b"x", [1.0, 2.0]) == make_id("a", 1, 0.5, b"x", [1.0, 2.0])
    different = [
        ("ab",),
        ("a", "b"),
        ("b", "a"),
        ("a", "b", ""),
        ("a", 1),
        ("a", "1 "),
        ("a", 1.5),
        ("a", [1, 5]),
    ]
    ids = [make_id(*parts) for parts in different]
    assert len(set(ids)) == len(ids)
    assert all(len(i) == 32 and int(i, 16) >= 0 for i in ids)


def test_the_id_of_given_parts_never_changes():
    # sha256 over: 8-byte length, "photo", 8-byte length, "[1.5,2]"
    assert make_id("photo", [1.5, 2]) == "0e8542f6a3f973d07d60d644cf77c0e5"

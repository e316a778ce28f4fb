import io
import lzma
import struct
import zipfile

import pyarrow as pa
import pytest
import torch

from phq_data.errors import ModelError, ReleaseError
from phq_data.foreign import JsonError, check_stored, parse_json, parse_toml, read_member, reading
from phq_data.weights import tensor_file


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": NaN}', "NaN, which is no number"),
        ("[-Infinity]", "-Infinity"),
        ("[1e999]", "beyond all numbers"),
        ("[" * 100 + "]" * 100, "nested deeper than 64 levels"),
        ("[" * 200_000, "nested deeper than 64 levels"),
        ('{"a": ' + "9" * 10_000 + "}", "digits"),
        (b"{\xff\xfe}", "utf-8"),
        ("{", "Expecting"),
        ('{"a" "b"}', "Expecting ':'"),
    ],
)
def test_json_is_what_the_standard_says(text, why):
    with pytest.raises(JsonError, match=why):
        parse_json(text)


def test_toml_that_is_nested_too_deeply_is_a_sentence():
    assert parse_toml("a = [[1]]") == {"a": [[1]]}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml("a = " + "[" * 5000)


def test_json_that_is_fine_comes_as_it_is():
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
    assert parse_json("[NaN]", finite=False) != [0]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            pa.ArrowNotImplementedError("no such codec\nmore"),
            r"^f\.bin is damaged \(no such codec\): pull it$",
        ),
        (KeyError("name"), r"^f\.bin is damaged \(it lacks 'name'\): pull it$"),
        (struct.error("short"), r"damaged \(short\)"),
        (OSError(5, "Input/output error"), r"^f\.bin cannot be read \(Input/output error\): pull it$"),
        (MemoryError(), "more memory than there is"),
        (RecursionError(), "nested too deeply"),
        (AttributeError(), r"damaged \(AttributeError\)"),
    ],
)
def test_what_readers_raise_becomes_one_sentence(raised, said):
    with pytest.raises(ReleaseError, match=said), reading("f.bin", ReleaseError, "pull it"):
        raise raised


def test_members_of_a_zip_are_read_within_bounds(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("large", bytes(100_000))
        archive.writestr("small", bytes(range(256)) * 9)
    with zipfile.ZipFile(path) as archive:
        assert read_member(archive, "small") == bytes(range(256)) * 9
        with pytest.raises(zipfile.BadZipFile, match="states 100,000 bytes"):
            read_member(archive, "large", most=99_999)
        at = archive.getinfo("small").header_offset + 60
    data = bytearray(path.read_bytes())
    data[at : at + 40] = bytes(40)
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        with pytest.raises(zipfile.BadZipFile, match="small"):
            read_member(archive, "small")
        with pytest.raises((lzma.LZMAError, EOFError, zipfile.BadZipFile)):
            archive.read("small")


def packed(members, method=zipfile.ZIP_DEFLATED):
    """A file of `torch.save` whose members are packed."""
    sink, tighter = io.BytesIO(), io.BytesIO()
    torch.save(members, sink)
    with zipfile.ZipFile(sink) as old, zipfile.ZipFile(tighter, "w", method) as made:
        for one in old.infolist():
            made.writestr(one.filename, old.read(one))
    return tighter.getvalue()


def test_tensors_that_unpack_to_more_than_the_file_are_refused_where_pytorch_unpacks_them(tmp_path):
    bomb = packed({"a": torch.zeros(1 << 24)})
    assert len(bomb) < 100_000
    assert torch.load(io.BytesIO(bomb), weights_only=True)["a"].numel() == 1 << 24
    (tmp_path / "bomb.pth").write_bytes(bomb)
    for file in (tmp_path / "bomb.pth", io.BytesIO(bomb)):
        with pytest.raises(zipfile.BadZipFile, match="packed"):
            check_stored(file)
    with pytest.raises(ModelError, match=r"bomb\.pth is damaged .*packed"):
        tensor_file.read(tmp_path / "bomb.pth")
    twice = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 10)}, twice)
    with zipfile.ZipFile(twice, "a") as archive:  # a member whose bytes are another's
        name = next(one for one in archive.infolist() if one.filename.endswith("data/0"))
        archive.filelist += [name] * 3
        archive._didModify = True  # type: ignore[attr-defined] # so that the directory is written anew
    with pytest.raises(zipfile.BadZipFile, match="packed"):
        check_stored(twice)


def test_files_of_torch_save_pass_in_both_forms(tmp_path):
    for zipped in (True, False):
        sink = io.BytesIO()
        torch.save({"a": torch.ones(3), "b": torch.zeros(0)}, sink, _use_new_zipfile_serialization=zipped)
        check_stored(sink)
        assert sink.tell() == 0
    check_stored(io.BytesIO(b""))

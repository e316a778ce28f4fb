import io
import lzma
import pickle
import struct
import sys
import time
import zipfile
from collections import Counter, OrderedDict

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
        ("[" + "9" * 400 + "]", "beyond all numbers"),
        ("[-" + "9" * 400 + "]", "beyond all numbers"),
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
    assert parse_json("[-1e3, 1" + "0" * 300 + "]") == [-1000.0, 10**300]
    with pytest.raises(JsonError, match="beyond all numbers"):
        parse_json("1" + "0" * 400, finite=False)


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


def with_pickle(path, data):
    """A file of `torch.save` whose pickle is another."""
    sink = io.BytesIO()
    torch.save({}, sink)
    with zipfile.ZipFile(sink) as old, zipfile.ZipFile(path, "w") as made:
        for one in old.infolist():
            made.writestr(one.filename, data if one.filename.endswith("data.pkl") else old.read(one))


ONE_HASH = [
    b"\x8a" + bytes([len(one)]) + one
    for one in (pickle.encode_long(k * sys.hash_info.modulus) for k in range(1, 60_001))
]


def nested():
    """A tuple of twice a tuple of twice ...: its hash takes 2**60 steps."""
    return b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (k, k, k + 1) for k in range(60))


HANGING = {
    "numbers of one hash": b"}(" + b"N".join(ONE_HASH) + b"Nu.",
    "a tuple as a key": b"}" + nested() + b"Ns.",
    "a set of numbers": b"cbuiltins\nset\n(](" + b"".join(ONE_HASH) + b"etR.",
    "a counter of numbers": b"ccollections\nCounter\n(](" + b"".join(ONE_HASH) + b"etR.",
    "a table of pairs": b"ccollections\nOrderedDict\n(](](" + nested() + b"NeetR.",
    "attributes of pairs": b"ccollections\nOrderedDict\n)R](](" + nested() + b"Neeb.",
    "the name of a tensor's memory": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + nested()
    + b"X\x03\x00\x00\x00cpuK\x01tQ.",
}  # fmt: skip


@pytest.mark.parametrize("data", HANGING.values(), ids=HANGING)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_pytorch_would_hash_for_ever_is_refused_at_once(tmp_path, data, zipped):
    path, started = tmp_path / "w.pth", time.monotonic()
    if zipped:
        with_pickle(path, b"\x80\x02" + data)
    else:
        sink = io.BytesIO()
        torch.save({}, sink, _use_new_zipfile_serialization=False)
        path.write_bytes(sink.getvalue().replace(pickle.dumps({}, 2), b"\x80\x02" + data, 1))
    with pytest.raises(ModelError, match=r"w\.pth is (refused|damaged)"):
        tensor_file.read(path)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("zipped", [True, False])
def test_what_networks_and_their_optimizers_save_is_read(tmp_path, zipped):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.5, "params": [0, 1]}]}
    content = {
        "state_dict": network.state_dict(), "optimizer": optimizer, "epoch": 3,
        "size": torch.Size([2]), "device": torch.device("cpu"), "kinds": [torch.float32, torch.bool],
        "parameter": network[0].weight, "milestones": Counter({5: 1}), "more": OrderedDict(a=1),
        "other": [torch.zeros(2, dtype=kind) for kind in (torch.bfloat16, torch.bool, torch.int64)],
    }  # fmt: skip
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = tensor_file.read(tmp_path / "w.pth")
    assert found.keys() == content.keys() and found["optimizer"]["param_groups"][0]["params"] == [0, 1]
    assert torch.equal(found["state_dict"]["0.weight"], network.state_dict()["0.weight"])

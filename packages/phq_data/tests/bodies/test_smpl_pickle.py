"""SMPL's official file format becomes arrays; anything else in a pickle ends the reading."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
import pytest
import smpl_files as files

from phq_data import restricted_pickle
from phq_data.bodies.smpl_pickle import read_smpl_pickle
from phq_data.errors import ModelError
from phq_data.weights import array_pickle


@pytest.fixture(scope="module")
def values():
    return files.body_values()


@pytest.fixture
def write(tmp_path):
    def make(data):
        path = tmp_path / "model.pkl"
        path.write_bytes(data)
        return path

    return make


def test_a_python_2_file_with_chumpy_and_sparse_matrices_becomes_arrays(values, write):
    data = files.python2_pickle(values)
    for name in (b"cchumpy.ch\nCh\n", b"cchumpy.reordering\nSelect\n", b"cscipy.sparse.csc\ncsc_matrix\n"):
        assert name in data
    body = read_smpl_pickle(write(data))
    assert "chumpy" not in sys.modules
    pairs = {"v_template": "v_template", "shapedirs": "shapedirs", "posedirs": "posedirs",
             "J_regressor": "j_regressor", "weights": "weights", "f": "faces"}  # fmt: skip
    for theirs, ours in pairs.items():
        np.testing.assert_array_equal(getattr(body, ours), values[theirs].astype(getattr(body, ours).dtype))


class _Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path, write, protocol):
    target = tmp_path / "made"
    attacks = [
        _Call(os.mkdir, str(target)),
        _Call(eval, f"__import__('os').mkdir({str(target)!r})"),
        _Call(getattr, "text", "upper"),
        _Call(pickle.loads, pickle.dumps(_Call(os.mkdir, str(target)))),
        _Call(np.load, str(target)),
    ]
    for attack in attacks:
        with pytest.raises(ModelError, match=r"model\.pkl is refused: it asks for"):
            read_smpl_pickle(write(pickle.dumps({"v_template": attack}, protocol=protocol)))
        assert not target.exists()


def test_the_readers_own_functions_cannot_be_changed_or_misused(write):
    # Change a function's __call__; an array of objects; an array of a class that is none.
    change = b"cnumpy\ndtype\n}X\x08\x00\x00\x00__call__X\x01\x00\x00\x00xsb."
    objects = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8K\x00K\x01tR."
    other_class = b"cnumpy.core.multiarray\n_reconstruct\n(c__builtin__\nset\n(K\x00tX\x01\x00\x00\x00btR."
    for data in (change, objects, other_class):
        with pytest.raises(ModelError, match="refused"):
            read_smpl_pickle(write(b"\x80\x02" + data))


def test_files_that_are_no_smpl_are_named(values, write, tmp_path):
    with pytest.raises(ModelError, match="there is no file"):
        read_smpl_pickle(tmp_path / "nothing.pkl")
    whole = files.python2_pickle(values)
    with pytest.raises(ModelError, match="damaged"):
        read_smpl_pickle(write(whole[: len(whole) // 2]))
    with pytest.raises(ModelError, match="damaged or no pickle"):
        read_smpl_pickle(write(b"plain text"))
    with pytest.raises(ModelError, match="has no 'posedirs'"):
        read_smpl_pickle(write(files.python2_pickle({k: v for k, v in values.items() if k != "posedirs"})))
    few = values | {"f": values["f"][:100]}
    with pytest.raises(ModelError, match=r"not SMPL's body.*\[100, 3\]"):
        read_smpl_pickle(write(files.python2_pickle(few)))
    tree = values["kintree_table"].copy()
    tree[0, 12] = 4
    with pytest.raises(ModelError, match="tree of joints"):
        read_smpl_pickle(write(files.python2_pickle(values | {"kintree_table": tree})))
    broken = values["posedirs"].copy()
    broken[5, 1, 7] = np.nan
    with pytest.raises(ModelError, match="'posedirs' holds numbers that are not finite"):
        read_smpl_pickle(write(files.python2_pickle(values | {"posedirs": broken})))


def _sparse(**changed):
    """A column matrix of the regressor's size whose parts are these."""
    from scipy import sparse

    matrix = sparse.csc_matrix((24, 6890))
    for name, value in changed.items():
        setattr(matrix, name, value)
    return matrix


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("J_regressor", _sparse(indptr=np.array([0] + [2**40] * 6890))),
        ("J_regressor", _sparse(indptr=np.zeros(100_001, np.int64), _shape=(100_000, 100_000))),
        ("J_regressor", _sparse(indptr=np.array([0] + [1] * 6890), indices=np.array([99]), data=np.ones(1))),
        ("J_regressor", _sparse(data="text")),
        ("kintree_table", np.full((2, 24), np.nan)),
        ("f", np.full((13776, 3), 0.5)),
        ("v_template", np.full((6890, 3), 1e300)),
        ("v_template", {"x": 1}),
    ],
)
def test_parts_that_do_not_fit_are_told_before_they_unfold(values, write, key, value):
    with pytest.raises(ModelError, match=rf"model\.pkl.*({key}|{key.lower()}|no whole numbers)"):
        read_smpl_pickle(write(files.python2_pickle(values, {key: value})))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_file_saved_again_by_a_newer_python_is_read(values, write, protocol):
    ordered = {key: np.asfortranarray(array) for key, array in values.items()}
    body = read_smpl_pickle(write(pickle.dumps(ordered, protocol=protocol)))
    np.testing.assert_array_equal(body.posedirs, values["posedirs"].astype(np.float32))


def one_hash(count):
    numbers = (pickle.encode_long(k * sys.hash_info.modulus) for k in range(1, count + 1))
    return b"\x80\x02}(" + b"".join(b"\x8a" + bytes([len(one)]) + one + b"N" for one in numbers) + b"u."


def test_a_pickle_cannot_make_its_reader_keep_or_do_more_than_its_size(write):
    end = (2**40).to_bytes(8, "little")
    bombs = {
        "a gap in the memory of objects": b"\x80\x02}r\xff\xff\xff\x7f.",
        "a text of a terabyte": b"\x80\x04\x8d" + end + b"abc.",
        "bytes of a terabyte": b"\x80\x05\x96" + end + b"abc.",
        "a frame of a terabyte": b"\x80\x04\x95" + end + b"}.",
        "a number of a gigabyte": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
        "a key whose hash takes 2**60 steps": b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",
        "keys that have one hash": one_hash(60_000),
        "too many objects": b"\x80\x02" + b"]" * (restricted_pickle.MOST_STEPS + 1) + b".",
        "a table inside itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
        "another protocol": b"\x80\x09}.",
    }
    for data in bombs.values():
        with pytest.raises(ModelError, match=r"model\.pkl is"):
            read_smpl_pickle(write(data))


def test_an_array_type_cannot_be_given_flags_of_another(write):
    # A dtype of plain numbers that says it holds references: NumPy itself would follow them.
    kind = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR(K\x03X\x01\x00\x00\x00<NNN"
    kind += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tX\x01\x00\x00\x00btR"
    state = b"(K\x01(K\x02t" + kind + b"I00\nX\x10\x00\x00\x00" + b"A" * 16 + b"tb"
    held = array_pickle.read(b"\x80\x02" + made + state + b".")
    np.testing.assert_array_equal(held.numbers(), np.frombuffer(b"A" * 16, np.float64))
    fields = kind.replace(b"<NNN", b"<NN}", 1)
    with pytest.raises(ModelError, match="unusual kind of array"):
        read_smpl_pickle(write(b"\x80\x02" + fields + b"."))


def test_damage_anywhere_is_one_sentence(write):
    few = {"v_template": np.arange(6.0).reshape(2, 3), "bs_type": "lrotmin", "f": np.arange(3)}
    whole = pickle.dumps(few, protocol=2)
    rng = np.random.default_rng(5)
    for _ in range(500):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        data[rng.integers(len(data))] = rng.integers(256)
        with pytest.raises(ModelError, match=r"model\.pkl"):
            read_smpl_pickle(write(bytes(data)))

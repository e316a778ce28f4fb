"""SMPL's official file format becomes arrays; anything else in a pickle ends the reading."""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from phq_data.models.registry import ModelError
from phq_data.models.smpl_pickle import read_smpl_pickle

_SPEC = importlib.util.spec_from_file_location("smpl_files", Path(__file__).with_name("smpl_files.py"))
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)


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

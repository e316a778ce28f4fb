"""A small ONNX network written byte by byte, without the package `onnx`: x * w, averaged over the image.

Numbers of fields are those of onnx.proto; the bytes are Protocol Buffers' (keys, varints, lengths).
"""

from __future__ import annotations

import struct

_FLOAT, _EXTERNAL = 1, 1


def onnx_network(external: str = "", shape: tuple[int, ...] = (0, 3, 112, 112)) -> bytes:
    """A network of images of `shape`, 0 where any size goes, to vectors of three numbers.

    Its weights w = (1, 1, 1) stand in the network, or in the file at the path `external`.
    """
    weights = b"".join(_field(1, side) for side in (1, 3, 1, 1)) + _field(2, _FLOAT) + _field(8, "w")
    if external:
        weights += _field(13, _field(1, "location") + _field(2, external)) + _field(14, _EXTERNAL)
    else:
        weights += _field(9, struct.pack("<3f", 1, 1, 1))
    nodes = (("Mul", ("x", "w"), "a"), ("GlobalAveragePool", ("a",), "b"), ("Flatten", ("b",), "y"))
    graph = b"".join(_field(1, _node(*node)) for node in nodes)
    graph += _field(2, "graph") + _field(5, weights)
    graph += _field(11, _value("x", shape)) + _field(12, _value("y", (0, 3)))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def _node(operator: str, inputs: tuple[str, ...], output: str) -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, operator)


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sides = b"".join(_field(1, _field(1, side) if side else _field(2, "n")) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, sides)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])

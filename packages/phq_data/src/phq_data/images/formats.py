"""What an image file says of itself before it is decoded: its format, its size, and whether it is whole.

Pillow reads what there is and can be told by any library in the process to fill the rest with grey, so the
checks that a file is complete are made here, on the bytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from mmap import mmap
from typing import Any, Literal

from phq_data.errors import PhqError

Bytes = bytes | mmap
"""A file's bytes, in memory or where they lie."""


class PhotoError(PhqError, ValueError):
    """A file that cannot be used as a photo. `reason` is a short stable word, the text a sentence, `numbers`
    what the verdict rests on.

    Reasons: empty, not_an_image, truncated, corrupt, too_many_pixels, too_small, animated, raw_photo,
    unsupported_mode, heic_unsupported, avif_unsupported, codec_missing, changed.
    """

    def __init__(self, reason: str, message: str, numbers: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.numbers = dict(numbers or {})

    def __reduce__(self) -> tuple[type[PhotoError], tuple[str, str, dict[str, int]]]:
        return type(self), (self.reason, str(self), self.numbers)  # to come back from a worker process


_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # lengths of the known BMP headers

# A marker that means something inside a JPEG scan: not a stuffed zero, restart or fill byte.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)


def stream_of(data: Bytes) -> Any:
    """A stream of a file's bytes, from their beginning, without a copy of them."""
    if isinstance(data, bytes):
        return BytesIO(data)
    data.seek(0)
    return data


def sniff(head: bytes) -> str | None:
    """Format of a file by its first bytes (32 are enough, 64 better): JPEG, PNG, WebP, TIFF, HEIC, AVIF,
    GIF, BMP, or None when they are of no image format that PHQ reads. The file name is never asked.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, length - 3, 4))]
        if not _AVIF_BRANDS.isdisjoint(brands):
            return "AVIF"
        if not _HEIC_BRANDS.isdisjoint(brands):
            return "HEIC"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return None


def check_whole(data: Bytes, kind: str) -> None:
    """Raise `PhotoError` (truncated, corrupt) when the bytes of a `kind` file end too early or are damaged in
    a way that the container shows. GIF and BMP say nothing of themselves and pass.
    """
    if kind == "JPEG":
        _check_jpeg(data)
    elif kind == "PNG":
        for _ in png_chunks(data):
            pass
    elif kind == "WebP":
        stated = int.from_bytes(data[4:8], "little") + 8
        if len(data) < stated:
            raise _truncated(f"it says {stated:,} bytes and has {len(data):,}")
    elif kind in ("HEIC", "AVIF"):
        _check_boxes(data)
    elif kind == "TIFF":
        order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
        big = data[2:4] in (b"+\x00", b"\x00+")
        first = int.from_bytes(data[8:16] if big else data[4:8], order)
        if first + 2 > len(data):
            raise _truncated(f"its directory lies at byte {first:,} of {len(data):,}")


def jpeg_segments(data: Bytes, marker: int, prefix: bytes) -> Iterator[bytes]:
    """What the segments of a marker hold behind `prefix`, of a JPEG's header (up to the first scan)."""
    position = 2
    while data[position : position + 1] == b"\xff":
        kind = data[position + 1 : position + 2]
        if kind == b"\xff":  # a fill byte
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if kind == b"\xda" or end < position + 4:
            return
        if kind == bytes([marker]) and data[position + 4 : position + 4 + len(prefix)] == prefix:
            yield bytes(data[position + 4 + len(prefix) : end])
        position = end


def png_text(data: Bytes, keyword: bytes, most: int) -> bytes:
    """The first international text of a PNG under this keyword, wherever it stands; at most `most` bytes."""
    for kind, content in png_chunks(data):
        name, _, rest = bytes(content[:100]).partition(b"\0") if kind == b"iTXt" else (b"", b"", b"")
        if name != keyword or len(rest) < 2:
            continue
        text = bytes(content)[len(name) + 3 :].split(b"\0", 2)[2:]  # behind language and translated keyword
        if text and rest[0]:
            return zlib.decompressobj().decompress(text[0], most)
        return text[0][:most] if text else b""
    return b""


def webp_chunk(data: Bytes, name: bytes) -> bytes:
    """The first RIFF chunk of this name in a WebP; empty where there is none."""
    position = 12
    while position + 8 <= len(data):
        end = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] == name:
            return bytes(data[position + 8 : end])
        position = end + (end - position) % 2
    return b""


def png_chunks(data: Bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The chunks of a PNG in order: type, content. Raises `PhotoError` for a wrong check sum or no end."""
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            break
        kind = data[position + 4 : position + 8]
        stated = int.from_bytes(data[end - 4 : end], "big")
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != stated:
            raise PhotoError("corrupt", f"the PNG is damaged: chunk {kind!r} has a wrong check sum")
        yield kind, memoryview(data)[position + 8 : end - 4]
        if kind == b"IEND":
            return
        position = end
    raise _truncated("the PNG has no end chunk")


def webp_size(data: Bytes) -> tuple[int, int] | None:
    """(width, height) of a WebP's canvas from its header. Asked before libwebp, which allocates the canvas
    when it is handed the file.
    """
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8 " and len(data) >= 30:
        width, height = int.from_bytes(data[26:28], "little"), int.from_bytes(data[28:30], "little")
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    return None


def _check_jpeg(data: Bytes) -> None:
    """Follow the markers to the end of the (first) image; what a phone appends after it does not matter."""
    position, seen_scan = 2, False
    while match := _JPEG_MARKER.search(data, position):
        marker = match[1][0]
        if marker == 0xD9:
            if not seen_scan:
                raise PhotoError("corrupt", "the JPEG ends before its image begins")
            return
        position = match.end()
        if marker == 0xD8:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2:
            raise PhotoError("corrupt", f"the JPEG is damaged: a segment of {length} bytes")
        position += length
        seen_scan = seen_scan or marker == 0xDA
    raise _truncated("the JPEG has no end marker")


def _check_boxes(data: Bytes) -> None:
    """Walk the top-level boxes of an ISO media file."""
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 0:  # "to the end of the file"
            return
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8:
            raise PhotoError("corrupt", f"the file is damaged: a box of {length} bytes")
        position += length
    if position > len(data):
        raise _truncated(f"it says {position:,} bytes and has {len(data):,}")


def _truncated(detail: str) -> PhotoError:
    return PhotoError("truncated", f"the file is cut short: {detail}")

"""What a photo says of itself: who made it, what may be done with it, and whether it was made by a model.

Read from XMP (JPEG, PNG, WebP, TIFF, HEIC, AVIF) and IPTC-IIM (JPEG, TIFF), as IPTC's Photo Metadata Standard
2023.1 and later, the PLUS vocabulary and the TDM Reservation Protocol have the words. Files beside the photo
are not asked. C2PA (`images.c2pa_claims`): where its package is installed.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from dataclasses import dataclass

from phq_data.images import c2pa_claims, xmp
from phq_data.images.codecs import header
from phq_data.images.formats import Bytes, PhotoError, jpeg_segments, png_text, webp_chunk
from phq_data.text import printable

_PLUS = "http://ns.useplus.org/ldf/xmp/1.0/"
_NAMES = {
    "http://purl.org/dc/elements/1.1/ creator": "creator",
    "http://purl.org/dc/elements/1.1/ rights": "copyright",
    "http://ns.adobe.com/xap/1.0/rights/ UsageTerms": "terms",
    "http://ns.adobe.com/xap/1.0/rights/ WebStatement": "license_url",
    "http://creativecommons.org/ns# license": "license_url",
    f"{_PLUS} DataMining": "data_mining",
    f"{_PLUS} OtherConstraints": "constraints",
    "http://www.w3.org/ns/tdmrep/ reservation": "tdm_reservation",
    "http://www.w3.org/ns/tdmrep# reservation": "tdm_reservation",
    "http://www.w3.org/ns/tdmrep reservation": "tdm_reservation",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/ DigitalSourceType": "source_type",
}
_IPTC = {(2, 80): "creator", (2, 116): "copyright"}
_UTF8 = b"\x1b%G"  # what data set 1:90 holds where the texts are UTF-8

GENERATED = frozenset({
    "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia",
    "compositeSynthetic", "virtualRecording",
})  # fmt: skip
"""IPTC's digital source types of media that show no photographed person, or not only."""


@dataclass(frozen=True)
class SelfStated:
    """What a photo says; None = nothing. Texts are as they stand there, at most 1,000 letters."""

    creator: str | None = None
    copyright: str | None = None
    terms: str | None = None
    license_url: str | None = None
    data_mining: str | None = None  # plus:DataMining, or the C2PA assertion that forbids it
    constraints: str | None = None
    tdm_reservation: str | None = None  # 1 = reserved
    source_type: str | None = None  # IPTC's digital source type
    problem: str | None = None  # why something that is there was not read

    def to_json(self) -> str | None:
        """What the column `self_stated` holds; None where nothing is said."""
        said = {name: value for name, value in dataclasses.asdict(self).items() if value}
        return json.dumps(said, sort_keys=True, ensure_ascii=False) if said else None

    @classmethod
    def from_json(cls, text: str | None) -> SelfStated:
        """The way back."""
        return cls(**json.loads(text)) if text else cls()

    @property
    def opt_out(self) -> str:
        """Why nobody may mine it or train on it, in its own words; "" where it says nothing of the kind."""
        term = _term(self.data_mining)
        if term.upper().startswith(("DMI-PROHIBITED", "C2PA ")):
            return f"the photo itself forbids data mining and training ({term})"
        if (self.tdm_reservation or "").strip().lower() in ("1", "true"):
            return "the photo itself reserves text and data mining (tdm:reservation)"
        return ""

    @property
    def generated(self) -> str:
        """The digital source type of a photo that a model or a program made, else ""."""
        term = _term(self.source_type)
        return next((one for one in GENERATED if one.lower() == term.lower()), "")


def read(data: Bytes, kind: str) -> SelfStated:
    """What a file of format `kind` says. What is damaged is said to be, and says nothing else."""
    said: dict[str, str] = {}
    problems: list[str] = []
    try:
        packet, block = _blocks(data, kind)
        said |= _iptc(block)
        said |= xmp.read(packet, _NAMES) if packet else {}
    except (xmp.XmpError, zlib.error) as error:
        problems.append(str(error))
    except PhotoError:
        pass  # ingest tells of it
    said |= c2pa_claims.read(data, kind, problems)
    told = {name: printable(text) for name, text in said.items()}
    return SelfStated(**told, problem="; ".join(problems) or None)


def _blocks(data: Bytes, kind: str) -> tuple[bytes, bytes]:
    """(XMP packet, IPTC-IIM block) of a file, empty where it has none. Raises `PhotoError`."""
    if kind == "JPEG":
        packets = jpeg_segments(data, 0xE1, b"http://ns.adobe.com/xap/1.0/\0")
        return next(packets, b""), _photoshop(b"".join(jpeg_segments(data, 0xED, b"Photoshop 3.0\0")))
    if kind == "PNG":
        return png_text(data, b"XML:com.adobe.xmp", xmp.MOST_BYTES), b""
    if kind == "WebP":
        return webp_chunk(data, b"XMP "), b""
    image = header(data, kind)
    try:
        tags = image.tag_v2 if kind == "TIFF" else {}
        found = [tags.get(700) or image.info.get("xmp") or b"", tags.get(33723) or b""]
    except Exception as error:  # tags are read when they are asked for, and damaged ones raise anything
        raise PhotoError("corrupt", f"its tags are damaged: {error}") from error
    packet, block = (bytes(one) if isinstance(one, bytes) else b"" for one in found)
    return packet, block


def _photoshop(resources: bytes) -> bytes:
    """The IPTC-IIM block among Photoshop's image resources."""
    position = 0
    while resources[position : position + 4] == b"8BIM":
        number = int.from_bytes(resources[position + 4 : position + 6], "big")
        start = position + 6 + (resources[position + 6] // 2 * 2 + 2 if position + 6 < len(resources) else 0)
        size = int.from_bytes(resources[start : start + 4], "big")
        if number == 0x0404:
            return resources[start + 4 : start + 4 + size]
        position = start + 4 + size + size % 2
    return b""


def _iptc(block: bytes) -> dict[str, str]:
    """Texts of the data sets of `_IPTC`; repeated ones joined by commas."""
    position, encoding = 0, "latin-1"
    found: dict[str, list[str]] = {}
    while block[position : position + 1] == b"\x1c" and position + 5 <= len(block):
        record, number = block[position + 1], block[position + 2]
        size = int.from_bytes(block[position + 3 : position + 5], "big")
        value = block[position + 5 : position + 5 + size]
        if (record, number) == (1, 90) and value == _UTF8:
            encoding = "utf-8"
        if name := _IPTC.get((record, number)):
            found.setdefault(name, []).append(value.decode(encoding, "replace"))
        position += 5 + size  # a size above 32,767 means an extended one, which no text of ours has: it ends
    texts = {name: " ".join(", ".join(values).split())[:1000] for name, values in found.items()}
    return {name: text for name, text in texts.items() if text}


def _term(address: str | None) -> str:
    """The word of a vocabulary, also where its whole address is given."""
    return (address or "").strip().rstrip("/").rpartition("/")[2].rpartition("#")[2]

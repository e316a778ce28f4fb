"""What photos say of themselves, in files that are written here."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from phq_data.images import xmp
from phq_data.images.formats import sniff
from phq_data.images.self_stated import GENERATED, SelfStated, read

PROHIBITED = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-GENAIMLTRAINING"
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" '
    'xmlns:tdm="http://www.w3.org/ns/tdmrep/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
)


def packet(inside="", attributes=""):
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {SPACES}><rdf:Description rdf:about="" {attributes}>{inside}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def image(kind, said=b""):
    """A file of a format with an XMP packet where that format has it."""
    stream = io.BytesIO()
    picture = Image.new("RGB", (64, 48), (90, 120, 30))
    if kind == "PNG-late":
        picture.save(stream, "PNG")
        return with_late_text(stream.getvalue(), said, compressed=True)
    if kind == "TIFF":
        picture.save(stream, kind, tiffinfo={700: said} if said else {})
    elif kind == "PNG":
        picture.save(stream, kind)
        return with_late_text(stream.getvalue(), said, compressed=False)
    elif kind == "HEIC":
        heif = pytest.importorskip("pillow_heif")
        heif.from_pillow(picture).save(stream, xmp=said)
    else:
        picture.save(stream, kind, xmp=said)
    return stream.getvalue()


def with_late_text(data, said, compressed):
    """A PNG with the packet behind its pixels, where Pillow sees it only when it has decoded them."""
    text = zlib.compress(said) if compressed else said
    content = b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + text
    chunk = struct.pack(">I", len(content)) + b"iTXt" + content
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    return data[:-12] + chunk + data[-12:]


def told(data):
    return read(data, sniff(data[:64]))


KINDS = ["JPEG", "PNG", "PNG-late", "WebP", "TIFF", "HEIC", *(["AVIF"] if features.check("avif") else [])]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_says_who_made_it_and_that_nobody_may_train(kind):
    inside = (
        "<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li><rdf:li>Bo &amp; Co</rdf:li></rdf:Seq></dc:creator>"
        '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">(c) 2026 Ada</rdf:li></rdf:Alt></dc:rights>'
        f'<plus:DataMining rdf:resource="{PROHIBITED}"/>'
    )
    found = told(image(kind, packet(inside)))
    assert (found.creator, found.copyright) == ("Ada, Bo & Co", "(c) 2026 Ada")
    assert "DMI-PROHIBITED-GENAIMLTRAINING" in found.opt_out and found.problem is None
    assert SelfStated.from_json(found.to_json()) == found
    silent = told(image(kind, packet()))
    assert silent == SelfStated() and silent.to_json() is None and silent.opt_out == silent.generated == ""


@pytest.mark.parametrize(
    "value, out",
    [
        ("DMI-UNSPECIFIED", False), ("DMI-ALLOWED", False), ("DMI-PROHIBITED", True),
        ("DMI-PROHIBITED-AIMLTRAINING", True), ("DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING", True),
        ("DMI-PROHIBITED-SEECONSTRAINT", True), ("dmi-prohibited", True), ("somebody: DMI", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["http://ns.useplus.org/ldf/vocab/{}", "{}"])
def test_the_words_of_plus_are_understood_as_attribute_and_as_text(value, out, place):
    text = place.format(value)
    for said in (
        packet(attributes=f'plus:DataMining="{text}"'),
        packet(f"<plus:DataMining>{text}</plus:DataMining>"),
    ):
        assert bool(told(image("JPEG", said)).opt_out) == out


def test_a_reservation_of_text_and_data_mining_counts():
    assert "tdm:reservation" in told(image("JPEG", packet("<tdm:reservation>1</tdm:reservation>"))).opt_out
    assert told(image("JPEG", packet("<tdm:reservation>0</tdm:reservation>"))).opt_out == ""


@pytest.mark.parametrize("kind", [*sorted(GENERATED), "digitalCapture", "minorHumanEdits"])
def test_the_kinds_of_generated_media_are_known(kind):
    found = told(image("WebP", packet(attributes=f'Iptc4xmpExt:DigitalSourceType="{SOURCE}{kind}"')))
    assert found.generated == (kind if kind in GENERATED else "")


def test_what_is_said_of_ingredients_and_history_is_not_said_of_the_photo():
    inside = (
        '<xmpMM:Pantry><rdf:Bag><rdf:li rdf:parseType="Resource"><plus:DataMining>DMI-PROHIBITED'
        "</plus:DataMining></rdf:li></rdf:Bag></xmpMM:Pantry>"
        "<xmpMM:Ingredients><rdf:Bag><rdf:li "
        f'Iptc4xmpExt:DigitalSourceType="{SOURCE}algorithmicMedia"/></rdf:Bag></xmpMM:Ingredients>'
    )
    assert told(image("JPEG", packet(inside))) == SelfStated()


def iptc(*sets):
    """A JPEG with data sets of IPTC-IIM in its segment APP13."""
    block = b"".join(b"\x1c" + bytes(number) + struct.pack(">H", len(text)) + text for number, text in sets)
    block += b"\0" * (len(block) % 2)
    resource = b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(block)) + block
    segment = b"Photoshop 3.0\0" + resource
    data = image("JPEG")
    return data[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def test_iptc_names_the_author_in_either_encoding():
    found = told(iptc(((2, 80), "Zo\u00eb".encode("latin-1")), ((2, 116), b"(c) Z")))
    assert (found.creator, found.copyright) == ("Zo\u00eb", "(c) Z")
    found = told(iptc(((1, 90), b"\x1b%G"), ((2, 80), "Zo\u00eb".encode()), ((2, 80), b"Bo")))
    assert found.creator == "Zo\u00eb, Bo"


def entity(depth):
    rules = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, depth))
    return (
        f'<!DOCTYPE x [<!ENTITY a0 "DMI-PROHIBITED">{rules}]>'.encode()
        + packet(f"<plus:DataMining>&a{depth - 1};</plus:DataMining>").split(b"?>", 1)[1]
    )


@pytest.mark.parametrize(
    "said, why",
    [
        (entity(9), "document type"),
        (packet("<a>" * 100 + "</a>" * 100), "deeper"),
        (b"<x:xmpmeta", "no XML"),
        (packet("<dc:rights>&unknown;</dc:rights>"), "no XML"),
    ],
)
def test_hostile_and_damaged_packets_are_not_read_and_that_is_said(said, why):
    with pytest.raises(xmp.XmpError, match=why):
        xmp.read(said, {})
    found = told(image("WebP", said))
    assert why in found.problem and found.opt_out == found.generated == ""


def test_sizes_are_bounded():
    with pytest.raises(xmp.XmpError, match="limit"):
        xmp.read(b" " * (xmp.MOST_BYTES + 1), {})
    bomb = image("PNG-late", packet("<dc:rights>" + "x" * 20_000_000 + "</dc:rights>"))
    assert len(bomb) < 100_000 and told(bomb).problem  # cut short, and so no XML
    many = packet("".join(f"<dc:rights>{n} {'y' * 500}</dc:rights>" for n in range(1000)))
    assert len(told(image("WebP", many)).copyright) == 1000
    control = told(image("WebP", packet("<dc:rights>a&#x202e;b</dc:rights>")))
    assert control.copyright == "a\\u{202e}b"


def test_bytes_that_are_no_whole_image_say_nothing():
    data = image("JPEG", packet(f'<plus:DataMining rdf:resource="{PROHIBITED}"/>'))
    for cut in range(0, len(data), 97):
        read(data[:cut], "JPEG")
    for kind in ("PNG", "WebP", "TIFF", "JPEG"):
        assert read(b"\0" * 100, kind) == SelfStated()


@pytest.mark.parametrize("kind", KINDS)
def test_damage_at_random_places_raises_nothing(kind):
    whole = image(kind, packet(f"<plus:DataMining>{PROHIBITED}</plus:DataMining>"))
    random = np.random.default_rng(7)
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 6):
            data[place] = random.integers(0, 256)
        said = read(bytes(data), kind.removesuffix("-late"))
        assert said.to_json() is None or SelfStated.from_json(said.to_json()) == said

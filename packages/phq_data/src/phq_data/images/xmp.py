"""XMP: what the authors of a photo wrote into it as RDF in XML, read as text by property.

It is XML from strangers: at most `MOST_BYTES`, no document type and so no entities, no deep nesting. Only
properties of the photo itself are taken, not those of its history, its ingredients or its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.parsers import expat

from phq_data.errors import PhqError

MOST_BYTES = 1 << 20
_DEEPEST = 64
_LONGEST = 1000  # characters of a value that are kept
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_SEPARATOR = " "


class XmpError(PhqError, ValueError):
    """A packet that is not read; the text says why."""


def read(packet: bytes, names: Mapping[str, str]) -> dict[str, str]:
    """The properties of the photo that `names` asks for: `namespace name` -> the key of what is returned.

    Members of a list are joined by commas. Raises `XmpError`.
    """
    if len(packet) > MOST_BYTES:
        raise XmpError(f"{len(packet):,} bytes of XMP; the limit is {MOST_BYTES:,}")
    reader = _Reader(names)
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(packet.strip(b" \t\r\n\0"), True)
    except expat.ExpatError as error:
        raise XmpError(f"the XMP is no XML: {error}") from error
    return {key: ", ".join(values)[:_LONGEST] for key, values in reader.found.items() if values}


def _refuse(*unused: object) -> None:
    raise XmpError("the XMP has a document type, which it never needs: it is not read")


class _Reader:
    """Handlers of the parser, and what they found."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.found: dict[str, list[str]] = {}
        self._names = names
        self._stack: list[str] = []
        self._key = ""  # of the property that is being read
        self._words: list[str] = []
        self._size = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._stack) == _DEEPEST:
            raise XmpError(f"the XMP is nested deeper than {_DEEPEST} levels")
        depth = self._stack.index(f"{_RDF}{_SEPARATOR}RDF") if f"{_RDF}{_SEPARATOR}RDF" in self._stack else -1
        level = len(self._stack) - depth if depth >= 0 else 0  # 1: a description, 2: a property
        self._stack.append(name)
        if level == 1:
            for attribute, value in attributes.items():
                self._add(self._names.get(attribute, ""), value)
        elif level == 2:
            self._key = self._names.get(name, "")
            self._add(self._key, attributes.get(f"{_RDF}{_SEPARATOR}resource", ""))

    def text(self, words: str) -> None:
        if self._key and self._size < _LONGEST:
            self._words.append(words)
            self._size += len(words)

    def end(self, name: str) -> None:
        self._add(self._key, "".join(self._words))  # of a member of a list, or of the property itself
        self._words, self._size = [], 0
        self._stack.pop()
        if len(self._stack) >= 2 and self._stack[-2] == f"{_RDF}{_SEPARATOR}RDF":
            self._key = ""

    def _add(self, key: str, value: str) -> None:
        value = " ".join(value.split())
        if key and value and len(self.found.setdefault(key, [])) < 20:
            self.found[key].append(value)

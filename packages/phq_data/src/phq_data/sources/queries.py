"""What is searched for when nobody says: portraits from all sides, in several languages.

Searches for "portrait" alone bring faces that look into the camera. Half of these ask for the rest: profiles,
heads turned away, heads from behind, and hair that only shows there.
"""

from __future__ import annotations

from collections.abc import Mapping

_BY_VIEW: Mapping[str, tuple[str, ...]] = {
    "front": (
        "portrait photograph", "head and shoulders portrait", "studio portrait", "portrait outdoors",
        "portrait of a man", "portrait of a woman", "portrait of an elderly man",
        "portrait of an elderly woman", "business portrait",
    ),
    "side": (
        "profile portrait", "person in profile", "side view of a face", "three-quarter portrait",
        "looking over the shoulder", "person looking away", "looking up", "looking down", "head tilted",
    ),
    "back": (
        "person from behind", "back of the head", "woman from behind", "man from behind",
        "hair from behind", "braid from behind", "ponytail", "hair bun", "hairstyle back view",
        "bald head from behind", "long hair from behind", "people from behind looking at view",
    ),
    "variety": (
        "portrait with hat", "portrait with headscarf", "portrait with glasses", "curly hair portrait",
        "afro hair portrait", "portrait with beard", "dancer portrait", "musician portrait",
    ),
    "languages": (
        "Porträt einer Frau", "Person von hinten", "Mann im Profil",
        "portrait d'homme", "femme de dos", "femme de profil",
        "retrato de mujer", "persona de espaldas", "hombre de perfil",
        "retrato de homem", "pessoa de costas",
        "ritratto di donna", "persona di spalle",
        "portret mężczyzny", "osoba tyłem",
        "портрет женщины", "человек со спины",
        "人物 肖像 写真", "後ろ姿", "横顔",
        "人像摄影", "背影", "인물 사진", "뒷모습",
        "portre fotoğrafı", "صورة شخصية", "चित्र व्यक्ति",
    ),
}  # fmt: skip


def default_queries() -> tuple[str, ...]:
    """All of them, views in turn, so that a short scrape has every view too."""
    lists = [list(queries) for queries in _BY_VIEW.values()]
    found: list[str] = []
    while any(lists):
        found += [queries.pop(0) for queries in lists if queries]
    return tuple(found)


def by_view() -> Mapping[str, tuple[str, ...]]:
    """The default queries under what they are to show."""
    return _BY_VIEW

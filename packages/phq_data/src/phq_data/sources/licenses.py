"""Licenses in their many spellings to one name each: CC0-1.0, PDM-1.0, PD, CC-BY-4.0, CC-BY-SA-3.0-de.

Sites state licenses as texts ("CC BY-SA 3.0 de", "Attribution 2.0 Generic"), as addresses, as template names
("cc-by-sa-3.0-migrated") and as HTML. Only licenses that let everybody use, change and share a photo are
free here; non-commercial, no-derivatives and unclear ones are not, with a reason for the record.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

REASONS = ("license_nc", "license_nd", "license_nonfree", "license_unknown", "license_unclear")
"""Why a license is not accepted: non-commercial, no derivatives, not free, none stated, not understood."""

FREE = re.compile(
    r"(CC0|PDM|PD|CC-BY|CC-BY-SA)(-\d+(\.\d+)?(-(?!nc|nd|sa)[a-z]{2,3})?)?", re.IGNORECASE | re.ASCII
)
_URLS = {
    "CC0": "https://creativecommons.org/publicdomain/zero/{version}/",
    "PDM": "https://creativecommons.org/publicdomain/mark/{version}/",
    "CC-BY": "https://creativecommons.org/licenses/by/{version}/",
    "CC-BY-SA": "https://creativecommons.org/licenses/by-sa/{version}/",
}
_CC_URL = re.compile(
    r"creativecommons\.org/(?:licen[sc]es|publicdomain)/([a-z+-]+)(?:/(\d+(?:\.\d+)?))?(?:/([a-z]{2,3})(?=[/?#]|$))?",
    re.ASCII,
)
_VERSION = re.compile(r"(?<![\d.])([1-4]\.[05])(?![\d])")
_TAG = re.compile(r"<[^<>]*>")
_LATEST = {"CC0": "1.0", "PDM": "1.0"}
_NOT_COUNTRIES = frozenset({"or", "and", "the", "int", "org", "nc", "nd", "sa", "by", "cc", "all"})


@dataclass(frozen=True)
class License:
    """What a statement about a license came to."""

    name: str | None  # normalised; None when it is not understood
    reason: str = ""  # "" = free; else one of REASONS
    message: str = ""  # a sentence for people, when it is not free

    @property
    def free(self) -> bool:
        """May everybody use, change and share it?"""
        return not self.reason


def is_free(name: str | None) -> bool:
    """Is `name` the normalised name of a free license?"""
    return FREE.fullmatch(name or "") is not None


def license_url(license: str | None) -> str | None:
    """The page of a free license; None for others."""
    match = re.fullmatch(
        r"(CC0|PDM|CC-BY-SA|CC-BY)-(\d+\.\d+)(?:-([a-z]{2,3}))?", license or "", re.IGNORECASE
    )
    if match is None:
        return None
    page = _URLS[match[1].upper()].format(version=match[2])
    return page + (f"{match[3].lower()}/" if match[3] else "")


def plain(text: str | None) -> str:
    """The words of a piece of HTML, on one line."""
    return " ".join(html.unescape(_TAG.sub(" ", text or "")).split())


def normalise(*statements: str | None) -> License:
    """What several statements about one file (a name, an address, a template) say together.

    One that is non-commercial, forbids changes or reserves all rights decides; free ones must agree, and the
    one that says most (version, country) wins; words that mean nothing beside a free license (GFDL, "see
    page") are passed over, because a file under several licenses may be used under any.
    """
    stated = [text for text in (plain(statement) for statement in statements) if text]
    if not stated:
        return License(None, "license_unknown", "nothing says under which license it is")
    found = [_one(text) for text in stated]
    for reason in ("license_nc", "license_nd", "license_nonfree"):
        for license in found:
            if license.reason == reason:
                return license
    free = sorted({license.name or "" for license in found if license.free}, key=len)
    if not free:
        return found[0]
    best = free[-1]
    if any(not _agree(name, best) for name in free):
        return License(None, "license_unclear", f"it is stated as {' and as '.join(free)}")
    return License(best)


def _agree(short: str, full: str) -> bool:
    public = ("PD", "PDM", "CC0")
    if short.split("-")[0] in public and full.split("-")[0] in public:
        return "CC0" not in (short.split("-")[0], full.split("-")[0]) or short.split("-")[0] != "PDM"
    return full == short or (full.startswith(f"{short}-") and full[len(short) + 1 : len(short) + 3] != "SA")


def _one(text: str) -> License:
    lower = text.lower()
    match = _CC_URL.search(lower)
    if match:
        return _creative_commons(match[1], match[2] or "", match[3] or "", text)
    words = re.split(r"[^a-z0-9.]+", lower)
    together = " ".join(words)
    if re.search(r"\bcc ?0\b|\bcc zero\b|\bcczero\b|creative commons zero", together):
        return License("CC0-1.0")
    if re.search(r"\bpublic domain mark\b|\bpdm\b", together):
        return License("PDM-1.0")
    conditions = _conditions(words, together)
    if conditions:
        return _creative_commons(conditions, _version(lower), _country(text), text)
    if re.search(r"\bpublic domain\b|^pd\b|\bpd (self|user|old|author|us|usgov)\b", together):
        return License("PD")
    if re.search(r"all rights reserved|fair use|non ?free|copyrighted(?! free)|©|permission required", lower):
        return License(None, "license_nonfree", f"it is not free: '{_short(text)}'")
    if re.search(r"non ?commercial|\bnc\b", together):
        return License(None, "license_nc", f"it bars commercial use: '{_short(text)}'")
    if re.search(r"no ?deriv|\bnd\b", together):
        return License(None, "license_nd", f"it bars changes: '{_short(text)}'")
    return License(None, "license_unclear", f"'{_short(text)}' is none of the licenses that are accepted")


def _conditions(words: Iterable[str], together: str) -> str:
    """`by`, `by-sa`, `by-nc-nd`, ... of a Creative Commons license in words; "" when it is none."""
    tokens = set(words)
    long = re.search(r"\battribution\b", together) and (
        "creative commons" in together
        or re.search(r"\b[1-4]\.[05]\b|share ?alike|non ?comm|no ?deriv", together)
    )
    if not long and not re.search(r"\bcc by\b|^by( (sa|nc|nd))*( [\d.]+)?( [a-z]{2,3})?$", together):
        return ""
    parts = ["by"]
    parts += ["nc"] if "nc" in tokens or re.search(r"non ?commercial", together) else []
    parts += ["nd"] if "nd" in tokens or re.search(r"no ?deriv", together) else []
    parts += ["sa"] if "sa" in tokens or re.search(r"share ?alike", together) else []
    return "-".join(parts)


def _creative_commons(kind: str, version: str, country: str, text: str) -> License:
    parts = kind.split("-")
    if kind in ("zero", "cc0"):
        return License(f"CC0-{version or '1.0'}")
    if kind in ("mark", "pdm"):
        return License(f"PDM-{version or '1.0'}")
    if kind in ("publicdomain", "certification"):
        return License("PD")
    if "nc" in parts:
        return License(None, "license_nc", f"it bars commercial use: '{_short(text)}'")
    if "nd" in parts:
        return License(None, "license_nd", f"it bars changes: '{_short(text)}'")
    if parts[0] != "by" or not set(parts) <= {"by", "sa"}:
        return License(None, "license_unclear", f"'{_short(text)}' is none of the licenses that are accepted")
    name = "CC-BY-SA" if "sa" in parts else "CC-BY"
    if version:
        name += f"-{version}" + (f"-{country}" if country else "")
    return License(name)


def _version(lower: str) -> str:
    """The newest version named: a file under several may be used under any."""
    return max(_VERSION.findall(lower), default="")


def _country(text: str) -> str:
    """The country code after the version: `CC BY-SA 3.0 de`, `cc-by-2.0-uk`; "" when there is none."""
    match = re.search(r"[1-4]\.[05][\s_-]+([a-zA-Z]{2,3})\s*$", text)
    code = match[1].lower() if match else ""
    return "" if code in _NOT_COUNTRIES else code


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."

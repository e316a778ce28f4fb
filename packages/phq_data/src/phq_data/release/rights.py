"""The gate of a release: may this row be used, may its picture, its ids be published?

Checked row by row when a release is built (`train`) and again when it is pushed (`publish-images`, or
`publish-ids` for a release without pictures). What is not known to be allowed is refused, unless somebody
states a permission; the statement is recorded in the manifest.

The terms of the providers below are facts with a date and a page, not legal advice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from phq_data.release.version import ReleaseError

Use = Literal["train", "publish-images", "publish-ids"]
USES: tuple[Use, ...] = ("train", "publish-images", "publish-ids")

_FREE = re.compile(
    r"(CC0|PDM|PD|CC-BY|CC-BY-SA)(-\d+(\.\d+)?(-(?!nc|nd|sa)[a-z]{2,3})?)?", re.IGNORECASE | re.ASCII
)
_URLS = {
    "CC0": "https://creativecommons.org/publicdomain/zero/{version}/",
    "PDM": "https://creativecommons.org/publicdomain/mark/{version}/",
    "CC-BY": "https://creativecommons.org/licenses/by/{version}/",
    "CC-BY-SA": "https://creativecommons.org/licenses/by-sa/{version}/",
}


class RightsError(ReleaseError):
    """Rows that may not be used or published; the message says which, why and what would help."""


@dataclass(frozen=True)
class ProviderTerms:
    """What a provider's own terms allow, whatever licence a file carries."""

    allows: tuple[Use, ...]
    reason: str
    page: str
    checked: str  # ISO date


TERMS: Mapping[str, ProviderTerms] = {
    "pexels": ProviderTerms(
        (),
        "Pexels bars collecting its photos to build data sets or train models without explicit permission",
        "help.pexels.com, article 900005880463",
        "2026-11-22",
    ),
    "unsplash": ProviderTerms(
        (),
        "Unsplash's API guidelines bar data mining and training AI models",
        "help.unsplash.com, article 2511256",
        "2026-11-22",
    ),
    "unsplash-lite": ProviderTerms(
        ("train",),
        "the Unsplash Lite data set may be used internally and no portion of it published",
        "unsplash.com/data, Unsplash Dataset 1.4.0 licence",
        "2026-11-22",
    ),
}


@dataclass(frozen=True)
class Permission:
    """A statement by the user that somebody allowed a use. Recorded with the release."""

    who: str  # who gave it
    scope: tuple[Use, ...]
    date: str  # ISO date
    reference: str  # a letter, a contract, a page: where it can be found
    provider: str = ""  # only rows of this provider; "" = all

    def covers(self, row: Mapping[str, Any], use: Use) -> bool:
        """Does it allow `use` of `row`?"""
        return use in self.scope and self.provider in ("", row.get("provider"))

    def to_dict(self) -> dict[str, Any]:
        """As recorded."""
        return asdict(self)

    @classmethod
    def load(cls, path: str | Path) -> Permission:
        """Read a statement: a JSON file with who, scope, date, reference and perhaps provider."""
        try:
            return cls.parse(json.loads(Path(path).read_text()))
        except (OSError, ValueError) as error:
            raise RightsError(f"the permission {path} cannot be used: {error}") from error

    @classmethod
    def parse(cls, document: Any) -> Permission:
        """A statement from JSON values; `ValueError` says what is wrong."""
        if not isinstance(document, Mapping):
            raise ValueError("it must be a JSON object with who, scope, date and reference")
        unknown = set(document) - {"who", "scope", "date", "reference", "provider"}
        if unknown:
            raise ValueError(f"it has an unknown entry {sorted(unknown)[0]!r}")
        for name in ("who", "date", "reference"):
            if not isinstance(document.get(name), str) or not document[name].strip():
                raise ValueError(f"it does not say '{name}'")
        scope = document.get("scope")
        if not isinstance(scope, list) or not scope or not set(scope) <= set(USES):
            raise ValueError(f"its scope must be a list of {', '.join(USES)}")
        date.fromisoformat(document["date"])
        return cls(
            document["who"],
            tuple(scope),
            document["date"],
            document["reference"],
            str(document.get("provider", "")),
        )


def refusal(row: Mapping[str, Any], use: Use, permissions: Iterable[Permission] = ()) -> str:
    """Why `row` (provenance columns) may not be put to `use`; "" when it may.

    Allowed: a free licence (CC0, public domain, CC BY, CC BY-SA) that the provider's terms do not stand
    against, or a permission that covers it, stated now or recorded in the row. Renders are no exception: a
    photo of the user may be in their background.
    """
    if any(permission.covers(row, use) for permission in (*permissions, *_recorded(row))):
        return ""
    provider, licence = row.get("provider") or "", row.get("licence")
    terms = TERMS.get(provider)
    if terms is not None:
        return "" if use in terms.allows else f"{terms.reason} ({terms.page}, checked {terms.checked})"
    if not licence:
        return f"nothing is known about the licence of photos of '{provider}'"
    if _FREE.fullmatch(licence) is None:
        return f"the licence {licence} is not known to allow it"
    return ""


def check(
    rows: Iterable[Mapping[str, Any]], use: Use, permissions: Iterable[Permission] = ()
) -> dict[str, list[str]]:
    """Reason -> portrait ids of the rows that may not be put to `use`; empty when all may."""
    stated = tuple(permissions)
    found: dict[str, list[str]] = {}
    for row in rows:
        reason = refusal(row, use, stated)
        if reason:
            found.setdefault(reason, []).append(row["portrait_id"])
    return found


def explain(refused: Mapping[str, list[str]], use: Use) -> str:
    """The refusals in sentences, with what the user can do."""
    lines = [
        f"{sum(map(len, refused.values()))} portraits may not be put to the use '{use}':",
        *(
            f"  {len(ids)}: {reason} (first: {ids[0][:12]})"
            for reason, ids in sorted(refused.items(), key=lambda item: (-len(item[1]), item[0]))
        ),
        "State a permission that you have with --permission FILE (JSON: who, scope, date, reference, and "
        f"perhaps provider; scope a list of {', '.join(USES)}); it is recorded with the release.",
    ]
    return "\n".join(lines)


def licence_url(licence: str | None) -> str | None:
    """The page of a free licence; None for others."""
    match = re.fullmatch(r"(CC0|PDM|CC-BY-SA|CC-BY)-(\d+\.\d+)", licence or "", re.IGNORECASE)
    if match is None:
        return None
    return _URLS[match[1].upper()].format(version=match[2])


def _recorded(row: Mapping[str, Any]) -> tuple[Permission, ...]:
    text = row.get("permission")
    if not text:
        return ()
    try:
        return (Permission.parse(json.loads(text)),)
    except ValueError:
        return ()  # a statement in words allows nothing by itself

"""The gate of a release: may this row be used, may its image, its ids be published?

Checked row by row when a release is built (`train`) and again when it is pushed (`publish-images`, or
`publish-ids` for a release without images). What is not known to be allowed is refused, unless somebody
states a permission; the statement is recorded in the manifest.

What providers' terms say is in `phq_data.sources.terms`, what counts as free in `phq_data.sources.licenses`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from phq_data.errors import ReleaseError
from phq_data.sources.licenses import is_free, license_url
from phq_data.sources.terms import TERMS, USES, Permission, Use, recorded, terms_of

__all__ = [
    "TERMS", "USES", "Permission", "RightsError", "Use", "check", "explain", "license_url", "refusal",
    "stated",
]  # fmt: skip


class RightsError(ReleaseError):
    """Rows that may not be used or published; the message says which, why and what would help."""


def refusal(row: Mapping[str, Any], use: Use, permissions: Iterable[Permission] = ()) -> str:
    """Why `row` (provenance columns) may not be put to `use`; "" when it may.

    Allowed: a free license (CC0, public domain, CC BY, CC BY-SA) that the provider's terms do not stand
    against, or a permission that covers it, stated now or recorded in the row. Renders are no exception: a
    photo of the user may be in their background.
    """
    if any(permission.covers(row, use) for permission in (*permissions, *recorded(row))):
        return ""
    terms = terms_of(row)
    verdict = terms.verdict(use) if terms else "per-license"
    if terms is not None and verdict != "per-license":
        return "" if verdict == "allowed" else terms.why(use)
    license = row.get("license")
    if not license:
        return f"nothing is known about the license of photos of '{row.get('provider') or ''}'"
    if not is_free(license):
        return f"the license {license} is not known to allow it"
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


def stated(about: Mapping[str, Any]) -> list[Permission]:
    """The permissions that a manifest records; one of 0.1.0 has at most one. Raises `ValueError`."""
    found = about.get("permissions") or [about.get("permission")]
    return [Permission.parse({**one, "scope": list(one["scope"])}) for one in found if one]


def explain(refused: Mapping[str, list[str]], use: Use) -> str:
    """The refusals in sentences, with what the user can do."""
    lines = [
        f"{sum(map(len, refused.values()))} portraits may not be put to the use '{use}':",
        *(
            f"  {len(ids)}: {reason} (first: {ids[0][:12]})"
            for reason, ids in sorted(refused.items(), key=lambda item: (-len(item[1]), item[0]))
        ),
    ]
    if any("'folder'" in reason for reason in refused):
        lines.append(
            "Your own photos: say what they may be used for with `phq rights init FOLDER`, build again."
        )
    if use == "train":
        lines.append("Without these: --only-permitted.")
    lines.append(
        "State a permission that you have with --permission FILE (JSON: who, scope, date, reference, and "
        f"perhaps provider; scope a list of {', '.join(USES)}); it is recorded with the release."
    )
    return "\n".join(lines)

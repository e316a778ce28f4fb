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
from phq_data.sources.licenses import license_url
from phq_data.sources.rights import how_to_state
from phq_data.sources.terms import TERMS, USES, Permission, Use, refusal
from phq_data.text import counted

__all__ = [
    "TERMS", "USES", "Permission", "RightsError", "Use", "check", "explain", "license_url", "refusal",
    "stated",
]  # fmt: skip
MENDED = 5
"""Folders whose rights are to be stated that a message names."""


class RightsError(ReleaseError):
    """Rows that may not be used or published; the message says which, why and what would help."""


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


def explain(refused: Mapping[str, list[str]], use: Use, folders: Iterable[str] = ()) -> str:
    """The refusals in sentences, with what the user can do; `folders` are sources nobody has spoken for."""
    lines = [
        f"{counted(sum(map(len, refused.values())), 'portrait')} may not be put to the use '{use}':",
        *(
            f"  {len(ids)}: {reason} (first: {ids[0][:12]})"
            for reason, ids in sorted(refused.items(), key=lambda item: (-len(item[1]), item[0]))
        ),
    ]
    if any("'folder'" in reason for reason in refused):
        commands = list(dict.fromkeys(map(how_to_state, folders)))[:MENDED] or ["phq rights init FOLDER"]
        lines.append(
            f"Your own photos: say what they may be used for, then build again: {'; '.join(commands)}"
        )
    if use == "train":
        lines.append("Without these: --only-permitted.")
    lines.append(
        "State a permission that you have with --permission FILE (JSON: who, scope, date, reference, and "
        f"perhaps provider; scope a list of {', '.join(USES)}); it is recorded with the release."
    )
    return "\n".join(lines)

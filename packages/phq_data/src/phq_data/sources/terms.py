"""The terms gate: what each provider's own terms say about each use of its photos. Data, with date and page.

A use is checked where it happens: searching and storing when photos are scraped, training when a release is
built, publishing when it is pushed. A use that the terms stand against stops with the sentence below, unless
somebody states a permission (`Permission`), which is then recorded with every row.

These are facts with a date and a page, not legal advice: read the page before relying on them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from phq_data.files import read_written_text
from phq_data.foreign import parse_json
from phq_data.sources import SourceError
from phq_data.sources.licenses import is_free

Use = Literal["search", "store", "train", "publish-images", "publish-ids"]
USES: tuple[Use, ...] = ("search", "store", "train", "publish-images", "publish-ids")
COLLECTING: tuple[Use, ...] = ("search", "store", "train")
"""What a scrape does: photos are sought by a program and kept to train on."""

Verdict = Literal["allowed", "per-license", "permission", "forbidden"]
"""`per-license`: the terms leave it to each file's license. `permission`: they ask for a written one.
`forbidden`: they bar it outright. The last two differ in what they say, not in what the gate does."""


class TermsError(SourceError):
    """A use that a provider's terms stand against, or a statement of permission that cannot be used."""


@dataclass(frozen=True)
class ProviderTerms:
    """What one provider's terms say, whatever license a file carries."""

    name: str  # as people know it
    uses: Mapping[Use, tuple[Verdict, str]]  # verdict, and one plain sentence why
    page: str
    checked: str  # ISO date
    hosts: tuple[str, ...] = ()  # whose photos these terms are about, with all their subdomains
    also: str = ""  # what a user should know besides

    def verdict(self, use: Use) -> Verdict:
        """The terms' word on `use`."""
        return self.uses[use][0]

    def why(self, use: Use) -> str:
        """The reason, with its source."""
        return f"{self.uses[use][1]} ({self.page}, checked {self.checked})"


def _all(verdict: Verdict, why: str, **other: tuple[Verdict, str]) -> dict[Use, tuple[Verdict, str]]:
    found: dict[Use, tuple[Verdict, str]] = {use: (verdict, why) for use in USES}
    for name, value in other.items():
        use = next(use for use in USES if use.replace("-", "_") == name)
        found[use] = value
    return found


_OWN_LICENSE = "every file has its own license, and that decides"

TERMS: Mapping[str, ProviderTerms] = {
    "pexels": ProviderTerms(
        "Pexels",
        _all(
            "permission",
            "Pexels bars collecting photos to build data sets or train models without explicit permission",
            publish_images=("forbidden", "Pexels bars passing its photos on by themselves"),
        ),
        "help.pexels.com, article 900005880463",
        "2026-11-22",
        ("pexels.com",),
    ),
    "unsplash": ProviderTerms(
        "Unsplash",
        _all(
            "forbidden",
            "Unsplash's API guidelines bar data mining and training AI models",
            search=("forbidden", "Unsplash's API guidelines ask for non-automated use"),
            store=("forbidden", "Unsplash's API guidelines ask to show photos from Unsplash's own addresses"),
        ),
        "help.unsplash.com, article 2511256",
        "2026-11-22",
        ("unsplash.com",),
    ),
    "unsplash-lite": ProviderTerms(
        "the Unsplash Lite data set",
        _all(
            "allowed",
            "the Unsplash Lite data set may be searched, kept and trained on internally",
            publish_images=(
                "forbidden",
                "the Unsplash Lite data set may be used internally and no portion of it published",
            ),
            publish_ids=(
                "forbidden",
                "the Unsplash Lite data set may be used internally and no portion of it published",
            ),
        ),
        "unsplash.com/data, Unsplash Dataset 1.4.0 license",
        "2026-11-22",
        also="delete a photo when its owner disputes it: phq release takedown",
    ),
    "wikimedia": ProviderTerms(
        "Wikimedia Commons",
        _all(
            "per-license",
            _OWN_LICENSE,
            search=("allowed", "searching by program is welcome with a contact, one request at a time"),
            publish_ids=("allowed", "titles and addresses of files are free facts"),
        ),
        "commons.wikimedia.org, Commons:Reusing content outside Wikimedia; wikitech, Robot policy",
        "2026-11-22",
        also="a license says nothing of the rights of the person shown",
    ),
    "openverse": ProviderTerms(
        "Openverse",
        _all(
            "per-license",
            "Openverse only finds; " + _OWN_LICENSE,
            search=(
                "allowed",
                "Openverse may be searched at its published limits; its catalogue must not be copied",
            ),
            publish_ids=("allowed", "linking back is welcome"),
        ),
        "make.wordpress.org/openverse, terms of 2022-08-11",
        "2026-11-22",
        also="the sites behind its results have terms of their own",
    ),
}


def provider_of(row: Mapping[str, Any]) -> str:
    """Whose terms a row (or anything with `provider` and `file_url`) falls under.

    Photos named in a list of addresses fall under the terms of the provider whose host they are on.
    """
    provider: str = row.get("provider") or ""
    if provider == "urls":
        with contextlib.suppress(ValueError):
            host = (urlsplit(row.get("file_url") or "").hostname or "").lower()
            for name, terms in TERMS.items():
                if any(host == known or host.endswith(f".{known}") for known in terms.hosts):
                    return name
    return provider


def terms_of(row: Mapping[str, Any]) -> ProviderTerms | None:
    """The terms that a row falls under (`provider_of`); None = nobody's that are known here."""
    return TERMS.get(provider_of(row))


@dataclass(frozen=True)
class Permission:
    """A statement by the user that somebody allowed a use. Recorded with what was made under it."""

    who: str  # who gave it
    scope: tuple[Use, ...]
    date: str  # ISO date
    reference: str  # a letter, a contract, a page: where it can be found
    provider: str = ""  # only rows of this provider; "" = all

    def covers(self, row: Mapping[str, Any], use: Use) -> bool:
        """Does it allow `use` of `row`?"""
        return use in self.scope and self.provider in ("", row.get("provider"), provider_of(row))

    def to_dict(self) -> dict[str, Any]:
        """As recorded."""
        return asdict(self)

    @classmethod
    def load(cls, path: str | Path) -> Permission:
        """Read a statement: a JSON file with who, scope, date, reference and perhaps provider.

        Raises `TermsError` that says what is wrong with it.
        """
        try:
            return cls.parse(parse_json(read_written_text(path)))
        except (OSError, ValueError) as error:
            raise TermsError(f"the permission {path} cannot be used: {error}") from error

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
        if not isinstance(scope, list) or not scope or not all(use in USES for use in scope):
            raise ValueError(f"its scope must be a list of {', '.join(USES)}")
        date.fromisoformat(document["date"])
        return cls(
            document["who"],
            tuple(scope),
            document["date"],
            document["reference"],
            str(document.get("provider", "")),
        )


def cover(permissions: Iterable[Permission], row: Mapping[str, Any], uses: Iterable[Use]) -> bool:
    """Do they allow all of `uses` of `row` together?"""
    given = list(permissions)
    return all(any(permission.covers(row, use) for permission in given) for use in uses)


def record_of(permissions: Sequence[Permission]) -> str | None:
    """What the `permission` column holds of them: the statement, or a list of several; None without any."""
    found: list[dict[str, Any]] = [permission.to_dict() for permission in permissions]
    return json.dumps(found[0] if len(found) == 1 else found, sort_keys=True) if found else None


def recorded(row: Mapping[str, Any]) -> tuple[Permission, ...]:
    """The permissions in a row's `permission` column, if they are whole statements."""
    text = row.get("permission")
    if not text:
        return ()
    try:
        found = parse_json(text)
        return tuple(Permission.parse(one) for one in (found if isinstance(found, list) else [found]))
    except ValueError:
        return ()  # a statement in words allows nothing by itself


def refusal(row: Mapping[str, Any], use: Use, permissions: Iterable[Permission] = ()) -> str:
    """Why `row` (provenance columns) may not be put to `use`; "" when it may.

    Allowed: a free license (CC0, public domain, CC BY, CC BY-SA) that the provider's terms do not stand
    against, or a permission that covers it, stated now or recorded in the row. Renders are no exception: a
    photo of the user may be in their background. Never allowed: people who do not agree.
    """
    if row.get("consent") == "no":
        return "the people shown do not agree (consent: no)"
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


def said_of(row: Mapping[str, Any]) -> str:
    """Who allowed what with a photo, in a few words (`row`: provenance columns)."""
    given = "; ".join(f"{one.who} allows {', '.join(one.scope)}" for one in recorded(row))
    named = [row.get("license") or "", given]
    return ", ".join(filter(None, named)) or "nobody has said what it may be used for"


def objections(
    row: Mapping[str, Any], uses: Iterable[Use], permissions: Iterable[Permission] = ()
) -> dict[Use, str]:
    """The uses that the provider's terms stand against and no permission covers, each with the reason.

    `row` needs `provider` and, for lists of addresses, `file_url`. Licenses are not checked.
    """
    terms = terms_of(row)
    if terms is None:
        return {}
    given = (*permissions, *recorded(row))
    return {
        use: terms.why(use)
        for use in uses
        if terms.verdict(use) in ("permission", "forbidden") and not any(p.covers(row, use) for p in given)
    }


def require(provider: str, permissions: Iterable[Permission] = (), uses: Iterable[Use] = COLLECTING) -> None:
    """Raise `TermsError` that explains when `provider`'s terms stand against one of `uses`."""
    found = objections({"provider": provider}, uses, permissions)
    if not found:
        return
    by_reason: dict[str, list[str]] = {}
    for use, reason in found.items():
        by_reason.setdefault(reason, []).append(use)
    lines = [f"the terms of {TERMS[provider].name} stand against this:"]
    lines += [f"  {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    scope = json.dumps(list(found))
    lines.append(
        "If you have a permission, state it with --permission FILE, a JSON file like\n"
        f'  {{"who": "...", "scope": {scope}, "date": "{TERMS[provider].checked}", '
        f'"reference": "where it can be found", "provider": "{provider}"}}\n'
        "It is recorded with every photo. Free sources that need none: wikimedia, openverse."
    )
    raise TermsError("\n".join(lines))

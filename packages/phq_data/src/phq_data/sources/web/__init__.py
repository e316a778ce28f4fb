"""Photos from the web: what a provider's client offers, and what may go wrong on the way.

A client (`pexels`, `unsplash`, `unsplash_lite`, `wikimedia`, `openverse`, `urls` in the folder above) turns
queries into pages of candidates with their provenance. Everything else is done here once for all of them:
`http` asks politely, `robots` honours robots.txt and opt-outs, `fetch` downloads, `journal` remembers,
`run` keeps them busy, `planning` writes the plan, `scrape` is the way in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from phq_data.errors import PhqError
from phq_data.sources import Provenance


class FetchError(PhqError):
    """A page or file that could not be had. `reason` is a short stable word.

    Reasons of transient errors are class-like words (`ServerError`): another try may help. Reasons of
    permanent ones are plain words (`not_found`): it will not.
    """

    transient = False

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[FetchError], tuple[str, str]]:
        return type(self), (self.reason, str(self))


class TransientError(FetchError):
    """May pass. `retry_after` is what the server asks for, in seconds; `host` = it speaks for all files."""

    transient = True

    def __init__(
        self, reason: str, message: str, retry_after: float | None = None, *, host: bool = False
    ) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after
        self.host = host


class PermanentError(FetchError):
    """Will not pass by itself."""


class RefusedError(PermanentError):
    """It could be had, and is not taken: robots.txt, an opt-out, a license, a provider's terms."""


@dataclass(frozen=True)
class Candidate:
    """A photo that a search found, before anybody asked for its bytes."""

    uri: str  # unique and stable: wikimedia:48213, pexels:2014422, or an address
    url: str  # where the bytes are
    provenance: Provenance = field(default_factory=Provenance)
    refusal: str = ""  # why it is not taken: a reason of `licenses.REASONS` or "terms"
    message: str = ""  # the same as a sentence
    version: str = ""  # the provider's word for these very bytes; "" = it gives none
    sha1: str = ""  # of the bytes, where the provider says
    size: int = -1  # bytes, where the provider says
    notify: str = ""  # an address that must be called when the photo is downloaded
    stated: dict[str, str] = field(default_factory=dict)  # what was read about rights, for the record


@dataclass(frozen=True)
class Page:
    """One page of search results."""

    candidates: tuple[Candidate, ...]
    next: str | None  # cursor of the next page; None = the end
    total: int | None = None  # results in all, where the provider says


class WebSource(Protocol):
    """A provider's client."""

    provider: str

    def search(self, query: str, cursor: str) -> Page:
        """The page of `query` at `cursor` ("" = the first). Raises `FetchError`, `SourceError`."""
        ...

    def before_download(self, candidate: Candidate) -> None:
        """What the provider wants done before a download. Raises `FetchError`."""
        ...

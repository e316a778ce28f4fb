"""Links to portraits in the review."""

from __future__ import annotations

from urllib.parse import urlsplit

from phq_data.errors import PhqError


class LinkError(PhqError, ValueError):
    """No address that browsers can open."""


def review_address(url: str) -> str:
    """A review's address as browsers see it, scheme and host alone; raises `LinkError` for anything else."""
    address = url.rstrip("/")
    try:
        parts = urlsplit(address)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        right = right and not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:  # half an IPv6 address, a port that is no number
        right = False
    if not right:
        raise LinkError(
            f"{url!r} is no public URL of the review: give scheme and name, without a path, such as "
            "https://review.example.org (cookies and the work without network need a name of their own)"
        )
    return address


def portrait_link(address: str, portrait_id: str) -> str:
    """Where the review at an address shows a portrait."""
    return f"{address}/?portrait={portrait_id}"

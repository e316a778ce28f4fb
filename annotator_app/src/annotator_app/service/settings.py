"""How the service is started, and who may reach it."""

from __future__ import annotations

import getpass
import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from phq_data.errors import PhqError
from phq_data.report.links import LinkError, review_address

LOOPBACK_NAMES = ("localhost", "testserver.localhost")


class AccessError(PhqError, ValueError):
    """The service must not be started like that; the message says what to add."""


@dataclass(frozen=True)
class ServiceSettings:
    """What `create_app` needs to know."""

    workspace: str  # folder or fsspec URL
    database: str | None = None  # URL; None = embedded in the workspace
    host: str = "127.0.0.1"
    port: int = 8765
    password: str | None = None  # shared by the team: with it, anybody may join as a reviewer
    reviewer: str = ""  # who decides on loopback without a login; "" = the user of this computer
    names: tuple[str, ...] = ()  # host names under which the service is reached, beside `host`
    public_url: str = ""  # how browsers reach it through a proxy: https://review.example.org
    app_socket: str = ""  # Unix socket at which the app listens; "" = there is no app
    max_body: int = 1 << 20  # bytes of a request
    sync_seconds: float = 30.0  # how often the workspace is looked at for new portraits
    publish_seconds: float = 300.0  # how often the decisions are written to the workspace's tables
    apply_seconds: float = 60.0  # without a correction, after which those that wait are applied; 0 = never

    @property
    def loopback(self) -> bool:
        """Can only this computer reach it?"""
        return is_loopback(self.host)

    @property
    def login(self) -> bool:
        """Must people log in? On loopback only when a password says so, or a proxy brings others."""
        return not self.loopback or bool(self.password) or bool(self.public_url)

    @property
    def secure(self) -> bool:
        """Does everybody come through HTTPS? The cookie is then sent through nothing else."""
        return self.public_url.startswith("https://")

    @property
    def public_host(self) -> str:
        """Host and port of the public URL, as a Host header spells them; "" without one."""
        return urlsplit(self.public_url).netloc.lower()

    def local_reviewer(self) -> str:
        """The name under which decisions are saved without a login."""
        return self.reviewer or _user()


def is_loopback(host: str) -> bool:
    """Is this an address that other computers cannot reach?"""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_access(settings: ServiceSettings, *, invited: bool) -> None:
    """Refuse to be reachable by others without a password or invitations. Raises `AccessError`."""
    if settings.password is not None and len(settings.password) < 8:
        raise AccessError("the password needs at least 8 characters")
    if settings.public_url:
        check_public_url(settings.public_url)
    if not settings.login or settings.password or invited:
        return
    where = settings.public_url or settings.host
    raise AccessError(
        f"{where} can be reached by other computers, so people must log in: invite them first "
        "(phq review invite NAME --workspace DIR), or set a password that they share (PHQ_REVIEW_PASSWORD)"
    )


def check_public_url(url: str) -> None:
    """Raises `AccessError` unless this is an address of browsers: scheme and host alone."""
    try:
        review_address(url)
    except LinkError as error:
        raise AccessError(str(error)) from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"user-{os.getuid()}"

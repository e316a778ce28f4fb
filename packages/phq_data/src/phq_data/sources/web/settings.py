"""Keys and habits of the web sources: from the environment, else from a settings file others cannot read.

    contact = "ada@example.org"        # or PHQ_CONTACT; sent to every server
    pexels_api_key = "..."             # or PEXELS_API_KEY
    unsplash_access_key = "..."        # or UNSPLASH_ACCESS_KEY
    openverse_token = "..."            # or OPENVERSE_TOKEN
    allow_private_hosts = false        # or PHQ_ALLOW_PRIVATE_HOSTS=1
    [api]                              # other addresses of the interfaces: a proxy, another MediaWiki
    wikimedia = "https://wiki.example.org/w/api.php"       # or PHQ_WIKIMEDIA_API

The file is PHQ_SETTINGS, else `phq/settings.toml` in the user's configuration folder.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phq_data.files import read_written_text
from phq_data.foreign import parse_toml
from phq_data.sources import SourceError
from phq_data.sources.web.http import Secret
from phq_data.text import suggestion

_KEYS = {
    "pexels_api_key": "PEXELS_API_KEY",
    "unsplash_access_key": "UNSPLASH_ACCESS_KEY",
    "openverse_token": "OPENVERSE_TOKEN",
}
_PROVIDERS = ("pexels", "unsplash", "wikimedia", "openverse")
_NAMES = (*_KEYS, "contact", "allow_private_hosts", "api")


@dataclass(frozen=True)
class WebSettings:
    """What a user set. Keys show themselves to nobody."""

    contact: str = ""
    keys: Mapping[str, Secret] = field(default_factory=dict)  # provider -> key
    api: Mapping[str, str] = field(default_factory=dict)  # provider -> address of its interface
    allow_private: bool = False
    file: Path | None = None

    def key(self, provider: str) -> Secret:
        """The key of a provider. Raises `SourceError` saying how to set one."""
        name = next(name for name in _KEYS if name.startswith(provider))
        found = self.keys.get(provider)
        if not found:
            raise SourceError(
                f"{provider} wants a key: set {_KEYS[name]} in the environment, or {name} in "
                f"{self.file or settings_path(os.environ)} (chmod 600)"
            )
        return found

    def require_contact(self) -> str:
        """The contact. Raises `SourceError` saying how to set one."""
        if not self.contact:
            raise SourceError(
                "servers want to know who comes: set PHQ_CONTACT to your mail address or a page of yours"
            )
        return self.contact


def settings_path(environ: Mapping[str, str]) -> Path:
    """Where the settings file is looked for."""
    if environ.get("PHQ_SETTINGS"):
        return Path(environ["PHQ_SETTINGS"])
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(home) / "phq" / "settings.toml"


def load(environ: Mapping[str, str] | None = None) -> WebSettings:
    """The settings. Raises `SourceError` for a file that others can read, or that is not understood."""
    given = os.environ if environ is None else environ
    path = settings_path(given)
    content = _read(path, required="PHQ_SETTINGS" in given)
    api = {name: str(url) for name, url in dict(content.get("api") or {}).items()}
    for provider in _PROVIDERS:
        url = given.get(f"PHQ_{provider.upper()}_API")
        if url:
            api[provider] = url
    unknown = set(api) - set(_PROVIDERS)
    if unknown:
        raise SourceError(f"{path}: [api] knows {', '.join(_PROVIDERS)}, not '{sorted(unknown)[0]}'")
    keys = {
        name.split("_")[0]: _key(given.get(variable) or content.get(name), variable, name)
        for name, variable in _KEYS.items()
    }
    private = given.get("PHQ_ALLOW_PRIVATE_HOSTS", "")
    contact = str(given.get("PHQ_CONTACT") or content.get("contact") or "").strip()
    if any(ord(character) < 32 for character in contact) or not contact.isascii():
        raise SourceError("the contact goes into a header: write it in one line of plain letters")
    return WebSettings(
        contact,
        keys,
        api,
        private.lower() in ("1", "true", "yes") if private else bool(content.get("allow_private_hosts")),
        path if content else None,
    )


def _key(value: object, variable: str, name: str) -> Secret:
    """A key for a header. What cannot stand in one is told by its name; the value is never shown."""
    text = str(value or "").strip()
    if not text.isascii() or not text.isprintable():
        raise SourceError(
            f"{variable} ({name} in the settings file) holds a line break, another control character or a "
            "letter that no key has: copy the key again"
        )
    return Secret(text)


def _read(path: Path, required: bool) -> dict[str, Any]:
    try:
        status = path.stat()
        content = parse_toml(read_written_text(path))
    except FileNotFoundError:
        if required:
            raise SourceError(f"there is no settings file {path}") from None
        return {}
    except tomllib.TOMLDecodeError as error:
        # The error's text may quote the line, and the line may hold a key: only its place is told.
        place = getattr(error, "lineno", None)
        where = f" (line {place})" if place else ""
        raise SourceError(f"the settings {path} are no valid TOML{where}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the settings {path}: {type(error).__name__}") from None
    for name in content:
        if name not in _NAMES:
            raise SourceError(f"{path}: there is no setting '{name}'; {suggestion(name, _NAMES)}")
    holds_keys = any(name in content for name in _KEYS)
    if holds_keys and os.name == "posix" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SourceError(f"{path} holds keys and can be read by others: chmod 600 {path}")
    return content

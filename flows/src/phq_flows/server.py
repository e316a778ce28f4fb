"""A private Prefect server for the flows of this program, where the user has configured none.

Prefect would start one by itself. Ours waits as long as a busy machine needs, keeps its files elsewhere where
there is no home to write to, and ends with this program even when that is killed.

`python -m phq_flows.server SOCKET PARENT` is the server: SOCKET an inherited one that listens already.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from phq_data.errors import PhqError
from phq_data.process_pool import end_with_parent

START_SECONDS = 900.0
PATIENCE_SECONDS = 60.0
_PLACE = "PREFECT_HOME"
_ADDRESS = "PREFECT_API_URL"
_SECRET, _ASKED_SECRET = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"


class ServerError(PhqError, RuntimeError):
    """Prefect's server cannot be started, or does not answer; the message says why."""


def configured() -> bool:
    """Whether the user named a server, in the environment or in Prefect's profile."""
    from phq_data.cli.doctor import prefect_server

    return bool(prefect_server()[0])


def start(say: Callable[[str], None], host: str = "127.0.0.1") -> None:
    """Make sure that flows find a server: the configured one, or a private one until this program ends.

    The private one listens on `host`, an address of this machine, and answers those who know its secret: this
    program and the tasks of its flows. Call before the first import of prefect. Raises `ServerError`.
    """
    _settle(say)
    if configured():
        return
    without_proxy(host)
    secret = f"phq:{secrets.token_hex(32)}"
    with contextlib.closing(_listening(host)) as listening:
        named = f"[{host}]" if ":" in host else host
        address = f"http://{named}:{listening.getsockname()[1]}/api"
        messages = tempfile.TemporaryFile()  # noqa: SIM115 (the server writes to it for as long as it runs)
        server = subprocess.Popen(
            [sys.executable, "-m", "phq_flows.server", str(listening.fileno()), str(os.getpid())],
            pass_fds=[listening.fileno()], start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=messages, env={**os.environ, _ASKED_SECRET: secret},
        )  # fmt: skip
    atexit.register(_stop, server)
    try:
        _await(server, address, messages, say)
    except BaseException:
        _stop(server)
        raise
    os.environ |= {_ADDRESS: address, _SECRET: secret}


def without_proxy(host: str) -> None:
    """Let nothing for `host`, least of all a secret, go to a proxy that the environment names."""
    names = ("no_proxy", "NO_PROXY")
    hosts = ",".join([*(os.environ.get(name, "") for name in names), host]).split(",")
    kept = ",".join(dict.fromkeys(filter(None, (one.strip() for one in hosts))))
    os.environ |= dict.fromkeys(names, kept)


@contextlib.contextmanager
def lost_server_told() -> Iterator[None]:
    """A flow that loses its server ends with a `ServerError` instead of what the HTTP client says."""
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        raise ServerError(
            f"Prefect's server does not answer any more ({error or type(error).__name__})"
        ) from error


def _listening(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, 0), family=family, backlog=64)
    except OSError as error:
        raise ServerError(f"Prefect's server cannot listen on {host} ({error})") from error


def _settle(say: Callable[[str], None]) -> None:
    """Let Prefect keep its files in a folder of ours when it cannot keep them at home."""
    home = None
    try:
        home = Path(os.environ.get(_PLACE) or Path.home() / ".prefect")
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return
    except (OSError, RuntimeError):  # RuntimeError: this user has no home at all
        if home and os.access(home / "profiles.toml", os.R_OK):  # it may name the server
            os.environ.setdefault("PREFECT_PROFILES_PATH", str(home / "profiles.toml"))
        scratch = tempfile.mkdtemp(prefix="phq-prefect-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        say(f"there is no home to write to: Prefect uses a temporary folder ({_PLACE} names another)")
        os.environ[_PLACE] = scratch


def _await(
    server: subprocess.Popen[bytes], address: str, messages: IO[bytes], say: Callable[[str], None]
) -> None:
    opener = build_opener(ProxyHandler({}))
    began = time.monotonic()
    patience, deadline = began + PATIENCE_SECONDS, began + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(f"Prefect's server ended while it started{_last_line(messages)}")
        with contextlib.suppress(URLError, OSError):
            if opener.open(f"{address}/health", timeout=5.0).status == 200:
                return
        if time.monotonic() > patience:
            say("Prefect is still starting: the machine is busy, please wait")
            patience += 4 * PATIENCE_SECONDS
        time.sleep(0.1)
    raise ServerError(f"Prefect's server did not answer within {START_SECONDS:.0f} s")


def _last_line(messages: IO[bytes]) -> str:
    messages.seek(0)
    lines = messages.read().decode("utf-8", "replace").strip().splitlines()
    return f" ({lines[-1][:300]})" if lines else ""


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main() -> None:
    """Serve on the inherited socket until the parent has gone."""
    descriptor, parent = (int(text) for text in sys.argv[1:])
    end_with_parent(parent)
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)  # without its pages and its services
    config = uvicorn.Config(app, log_level="error", lifespan="on", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main()

"""Starting the review: the service and the Streamlit app behind it as child processes, until Ctrl-C.

The children are watched together: when one ends, so does the other. A port that is taken is replaced by a
free one. Streamlit gets a home of its own, so that nothing is written to the user's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx

from annotator_app import serve
from annotator_app.service.security import APP
from annotator_app.service.settings import ServiceSettings, check_public_url
from phq_data.errors import PhqError
from phq_data.workspace import Workspace

SERVICE_PORT = 8765
"""The page keeps unsent decisions by its address, so the port should stay the same from day to day."""
START_SECONDS = 1800.0  # the first look at 100,000 portraits takes a minute or two, on a busy machine more
PATIENCE_SECONDS = 15.0
STOP_SECONDS = 8.0


class LaunchError(PhqError, RuntimeError):
    """The review cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class Address:
    """Where a child listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For browsers on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"


@dataclass
class Child:
    """A running part of the review."""

    name: str
    process: subprocess.Popen[bytes]
    health: str  # URL that answers 200 when it is ready
    socket: str | None = None  # Unix socket at which it answers, if not at the URL's port


@dataclass
class Children:
    """Starts, awaits and ends child processes."""

    running: list[Child] = field(default_factory=list)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], health: str,
        socket: str | None = None,
    ) -> None:  # fmt: skip
        """Start one in a process group of its own, so that Ctrl-C reaches only us."""
        try:
            process = subprocess.Popen(
                list(command), env=dict(environment), start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # Streamlit's greeting; problems go to stderr
            )  # fmt: skip
        except OSError as error:
            raise LaunchError(f"the {name} cannot be started: {error.strerror or error}") from error
        self.running.append(Child(name, process, health, socket))

    def await_healthy(
        self, stopping: Callable[[], bool], say: Callable[[str], None], seconds: float = START_SECONDS
    ) -> None:
        """Return when all answer, or when told to stop. Raises `LaunchError` when one ends or is too slow."""
        began = time.monotonic()
        deadline, patience = began + seconds, began + PATIENCE_SECONDS
        for child in self.running:
            while not stopping() and not _healthy(child):
                self._check_alive()
                if time.monotonic() > patience:
                    say(f"the {child.name} is still starting: a large workspace is read once, please wait")
                    patience += 4 * PATIENCE_SECONDS
                if time.monotonic() > deadline:
                    raise LaunchError(
                        f"the {child.name} did not answer within {seconds:.0f} s: its messages are above"
                    )
                time.sleep(0.1)

    def watch(self, stopping: Callable[[], bool]) -> None:
        """Return when told to stop; raises `LaunchError` when a child ends by itself."""
        while not stopping():
            self._check_alive()
            time.sleep(0.2)

    def stop(self) -> None:
        """End all: kindly, then firmly."""
        for child in self.running:
            _signal(child.process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.running:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(child.process, signal.SIGKILL)
                child.process.wait()

    def _check_alive(self) -> None:
        for child in self.running:
            code = child.process.poll()
            if code is not None:
                how = f"was ended by signal {-code}" if code < 0 else f"ended (exit code {code})"
                raise LaunchError(
                    f"the {child.name} {how}; its messages, if any, are above. Decisions are kept: what was "
                    "shown as saved is in the database, the rest waits in the browser. Run the same command "
                    "to start again"
                )


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):  # it ended in this moment
            os.killpg(process.pid, number)


def _healthy(child: Child) -> bool:
    at = httpx.HTTPTransport(uds=child.socket) if child.socket else None
    try:
        with httpx.Client(transport=at, timeout=2.0, trust_env=False) as client:
            return client.get(child.health).status_code == 200
    except httpx.HTTPError:
        return False


def free_port(host: str, wanted: int) -> int:
    """`wanted` if nobody listens there, otherwise a free port. Raises `LaunchError` for a foreign host."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wanted, 0):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except PermissionError as error:
                raise LaunchError(
                    f"port {port} is reserved for the administrator: choose one above 1023 with --port"
                ) from error
            except OSError as error:
                if port == 0 or not _taken(error):
                    raise LaunchError(f"cannot listen on {host}: {error.strerror or error}") from error
                continue
            return int(probe.getsockname()[1])
    raise LaunchError(f"no free port on {host}")


def _taken(error: OSError) -> bool:
    import errno

    return error.errno == errno.EADDRINUSE


def child_command(module: str, *arguments: str) -> list[str]:
    """`python -m MODULE`, ending with us even when we are killed."""
    return [sys.executable, "-m", "annotator_app.child", str(os.getpid()), module, *arguments]


def app_environment(service: Address, public_url: str, scratch: Path, order: str) -> dict[str, str]:
    """Our environment, with a home of its own for Streamlit's settings and the service's address."""
    return {
        **os.environ,
        "HOME": str(scratch),
        "PHQ_SERVICE_URL": service.url,
        "PHQ_SERVICE_PUBLIC_URL": public_url,
        "PHQ_QUEUE_ORDER": order,
        "PYTHONUNBUFFERED": "1",
    }


def open_browser(url: str) -> bool:
    """Open the page where there is a desktop; False where there is none."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False


class Stop:
    """Ctrl-C and SIGTERM as a question that can be asked."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def __call__(self) -> bool:
        """Has somebody asked us to stop?"""
        return self.asked

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


@dataclass(frozen=True)
class Plan:
    """What `phq review` was asked for."""

    workspace: str
    host: str = "127.0.0.1"
    port: int = SERVICE_PORT
    public_url: str = ""
    database: str | None = None
    password: str | None = None
    reviewer: str = ""
    names: tuple[str, ...] = ()
    order: str = "error_probability"
    with_app: bool = True
    browser: bool = True


def run(plan: Plan, say: Callable[[str], None]) -> None:
    """Run the review until Ctrl-C or SIGTERM. Raises `LaunchError` and `WorkspaceError`."""
    workspace = Workspace.open(plan.workspace)
    if not workspace.parts("tables/portraits"):
        raise LaunchError(
            f"there are no portraits in {plan.workspace} yet: phq build --workspace {plan.workspace} PHOTOS"
        )
    if plan.public_url:
        check_public_url(plan.public_url)
    service = Address(plan.host, free_port(plan.host, plan.port))
    stop = Stop()
    children = Children()
    with tempfile.TemporaryDirectory(prefix="phq-review-") as scratch:
        socket_path = f"{scratch}/app" if plan.with_app else ""
        settings = ServiceSettings(
            workspace=plan.workspace, database=plan.database, host=service.host, port=service.port,
            password=plan.password, reviewer=plan.reviewer, names=plan.names, public_url=plan.public_url,
            app_socket=socket_path,
        )  # fmt: skip
        try:
            children.start(
                "review service", child_command("annotator_app.serve"), serve.environment(settings),
                f"{service.url}/api/health",
            )  # fmt: skip
            if plan.with_app:
                children.start(
                    "review app", child_command("annotator_app.app.serve", socket_path),
                    app_environment(service, plan.public_url, Path(scratch), plan.order),
                    f"http://app{APP}/_stcore/health", socket_path,
                )  # fmt: skip
            children.await_healthy(stop, say)
            if not stop():
                _announce(plan, service, say)
            children.watch(stop)
        finally:
            children.stop()
    say("The review has ended. Decisions are kept: run the same command to go on.")


def _announce(plan: Plan, service: Address, say: Callable[[str], None]) -> None:
    if plan.port != service.port:
        say(f"port {plan.port} is in use: {service.port} is taken instead")
    base = plan.public_url or service.url
    page, app = f"{base}/?order={plan.order}", f"{base}{APP}/"
    say(f"review    {page}")
    if plan.with_app:
        say(f"app       {app}")
    if plan.public_url:
        say(f"A proxy must pass {plan.public_url} on to {service.url}: docs/review.md has an example.")
    say("Ctrl-C ends the review.")
    if plan.browser and not open_browser(app if plan.with_app else page):
        say("There is no desktop here: open the address in your browser.")

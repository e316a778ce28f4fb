"""What a build asks the workers of a cluster before it sends them parts, and what a worker looks at."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

from phq_data.errors import PhqError

Answer = dict[str, str]
"""What a worker says: "host", "Python", "PHQ", "missing" (a package), "problem" (words), digests by stage."""


def question(
    version: str, packages: Sequence[str], settings: str, url: str, key: str, token: str
) -> Callable[[], Answer]:
    """A function for a worker. It travels by value: it says its versions also where PHQ is another or none.

    `settings` is JSON of the build's settings, `url` its workspace, in which file `key` holds `token`.
    """
    wanted, needed = version, tuple(packages)

    def answer() -> Answer:
        import importlib
        import platform
        import socket

        seen = {"host": socket.gethostname(), "Python": ".".join(platform.python_version_tuple()[:2])}
        try:
            seen["PHQ"] = str(importlib.import_module("phq_data").__version__)
            if seen["PHQ"] == wanted:
                look = importlib.import_module("phq_flows.worker_check").look
                seen.update(look(needed, settings, url, key, token))
        except ImportError as error:
            seen["missing"] = str(error.name or error)
        return seen

    return answer


def look(packages: Sequence[str], settings: str, url: str, key: str, token: str) -> Answer:
    """What this worker makes of the settings, by stage, and its first problem with them or the workspace.

    Raises `ImportError` for a package that is not here.
    """
    import importlib

    from phq_data.cli.main import main  # noqa: F401 (one numeric thread a worker)

    for name in packages:
        importlib.import_module(name)
    try:
        seen = recipes(settings)
    except PhqError as error:
        return {"problem": f"cannot use the models or settings: {error}"}
    return {**seen, "problem": _workspace_problem(url, key, token)}


def recipes(settings: str) -> Answer:
    """Digests of what each stage is made with here: its version, its settings, the checksums of its models.

    Raises `ModelError` or another `PhqError` when a model cannot be used.
    """
    from phq_data import config
    from phq_data.foreign import parse_json
    from phq_data.pipeline.engine import STAGES, recipe

    chosen = config.PipelineConfig.from_dict(parse_json(settings))
    return {stage.name: config.digest(*recipe(stage, chosen)) for stage in STAGES}


def reaches(api: str) -> Answer:
    """Whether this worker reaches Prefect's server at `api`, which every task reports to."""
    import httpx

    try:
        answer = httpx.get(f"{api}/health", timeout=30.0)
        problem = "" if answer.is_success else f"it answers {answer.status_code}"  # the address has secrets
    except httpx.HTTPError as error:
        problem = f"{error or type(error).__name__}"
    return {"host": socket.gethostname(), "problem": problem}


def _workspace_problem(url: str, key: str, token: str) -> str:
    from phq_data.workspace import Workspace, WorkspaceError

    try:
        workspace = Workspace.open(url)
    except WorkspaceError as error:
        return f"does not reach the workspace ({error})"
    try:
        there = workspace.read_bytes(key) == token.encode()
    except WorkspaceError:
        there = False
    if not there:
        return f"sees another workspace at {url} than the machine that builds"
    try:
        mine = f"{key}-{socket.gethostname()}-{os.getpid()}"
        workspace.write_bytes(mine, token.encode())
        workspace.remove(mine)
    except (WorkspaceError, OSError) as error:
        return f"cannot write to the workspace ({error})"
    return ""

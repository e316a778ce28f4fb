"""`phq build`, and what it shares with `phq scrape`."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from phq_data.foreign import parse_json

if TYPE_CHECKING:
    from rich.console import Console

    from phq_data.config import PipelineConfig
    from phq_data.pipeline.local import BuildReport, Handover, Progress
    from phq_data.workspace import Workspace
    from phq_flows.cluster import Cluster

ON_CLUSTERS = "On a Ray or Dask cluster"


def register(app: typer.Typer) -> None:
    """Add `build`, `scrape` and `serve` to the phq program."""
    from phq_flows import release_parts, scrape_cli, serve

    release_parts.offer()
    app.command("build")(build)
    scrape_cli.register(app)
    serve.register(app)


def build(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Where photos come from: folders or files, 'samples' (real photos that come with the "
            "installed packages), 'synthetic:COUNT' or 'synthetic:COUNT@SEED' (renders of known truth). "
            "Without any, the build goes on with what the workspace has planned."
        ),
    ] = None,
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="The folder (or fsspec URL) that holds the dataset.")
    ] = "",
    runner: Annotated[
        str,
        typer.Option(
            help="Who runs the parts: Prefect with threads, processes, ray or dask; or inline, in this "
            "process without Prefect's start of some 15 seconds."
        ),
    ] = "threads",
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="How many parts at once on this machine. 0 = one a core. A cluster knows by itself."
        ),
    ] = 0,
    address: Annotated[
        str,
        typer.Option(
            help="A cluster that exists: ray://HOST:10001, HOST:6379 or auto (on one of its nodes) for Ray, "
            "tcp://HOST:8786 for Dask. Its workers are looked at first. Without it: RAY_ADDRESS or "
            "DASK_SCHEDULER_ADDRESS, else a cluster of this machine.",
            rich_help_panel=ON_CLUSTERS,
        ),
    ] = "",
    cpus_per_part: Annotated[
        float, typer.Option(min=0.1, help="Processors that a part takes.", rich_help_panel=ON_CLUSTERS)
    ] = 1.0,
    gpus_per_part: Annotated[
        float,
        typer.Option(
            min=0.0, help="GPUs that a part takes; 0.5: two parts share one.", rich_help_panel=ON_CLUSTERS
        ),
    ] = 0.0,
    preset: Annotated[
        str,
        typer.Option(
            help="The settings to start from. Without it: those that the workspace was built with, in a new "
            "workspace the default ones."
        ),
    ] = "",
    config: Annotated[
        Path | None, typer.Option(help="A JSON file of settings, as config.json has them.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one setting, for example --set crop.size=256. Repeatable."),
    ] = None,
    from_reference: Annotated[
        Path | None,
        typer.Option(
            "--from-reference",
            help="Bring in a folder that the authors' own tools made (the same as phq import), and stop.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed for a reason that may have passed.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Stop at once if another build is working on the workspace.")
    ] = False,
) -> None:
    """Photos into aligned portraits with cameras, poses and masks.

    Run the same command again after a stop, a crash or with more photos: only what is new or changed is done.

    Example: phq build --workspace portraits ~/photos samples

    On a cluster: phq build -w /shared/portraits --runner ray --address ray://head:10001 ~/photos
    """
    from phq_data import config as settings

    if not workspace:
        raise typer.BadParameter("name the workspace: --workspace DIR")
    if from_reference is not None:
        from phq_data.interchange import first_crop, tables
        from phq_data.workspace import Workspace

        if sources:
            raise typer.BadParameter("--from-reference takes no sources beside it: their workspaces differ")
        opened = Workspace.open(workspace, create=True)
        count = tables.into_workspace(first_crop.read_any(from_reference), opened, str(from_reference))
        typer.echo(f"{count} portraits in {workspace}; next: phq report --workspace {workspace}")
        return
    runners = ("threads", "processes", "ray", "dask", "inline")
    if runner not in runners:
        raise typer.BadParameter(f"--runner is one of {', '.join(runners)}, not {runner!r}")
    if preset and preset not in settings.PRESETS:
        raise typer.BadParameter(f"--preset is one of {', '.join(settings.PRESETS)}, not {preset!r}")
    cluster = _cluster(runner, address, cpus_per_part, gpus_per_part)
    if cluster is not None and cluster.address and "://" not in workspace:
        workspace = str(Path(workspace).expanduser().absolute())  # workers have other working directories
    run_build(
        workspace,
        list(sources or []),
        _settings(workspace, preset, config, set_ or []),
        runner=runner if cluster is None else cluster,
        workers=workers or os.cpu_count() or 1,
        retry_failed=retry_failed,
        wait=not no_wait,
    )


def _cluster(runner: str, address: str, cpus: float, gpus: float) -> Cluster | None:
    """The cluster that the options name; None for runners of this machine."""
    from phq_flows import clusters

    if runner in ("ray", "dask"):
        named: Literal["ray", "dask"] = "ray" if runner == "ray" else "dask"
        return clusters.chosen(named, address, cpus, gpus)
    if address or cpus != 1 or gpus:
        raise typer.BadParameter("--address, --cpus-per-part, --gpus-per-part go with --runner ray or dask")
    return None


def _settings(workspace: str, preset: str, file: Path | None, assignments: list[str]) -> PipelineConfig:
    """The settings asked for; those of the workspace's last build where nothing else is."""
    from phq_data import config as settings
    from phq_data.files import read_written_text
    from phq_data.pipeline.engine import load_config
    from phq_data.workspace import Workspace, WorkspaceError

    if file is not None:
        try:
            chosen = settings.PipelineConfig.from_dict(parse_json(read_written_text(file)))
        except (OSError, ValueError) as error:
            raise settings.ConfigError(f"cannot use the settings in {file}: {error}") from error
    elif preset:
        chosen = settings.PRESETS[preset]()
    else:
        try:
            opened = Workspace.open(workspace)
        except WorkspaceError:  # a new workspace; one that is damaged is told of when it is opened to build
            chosen = settings.default()
        else:
            chosen = load_config(opened)
    for assignment in assignments:
        chosen = chosen.replace_setting(assignment)
    return chosen


def _with_prefect(
    host: str | None,
    elsewhere: bool,
    inline: Callable[[Progress, Handover | None], BuildReport],
    flow: Callable[[Progress], BuildReport],
    progress: Progress,
) -> BuildReport:
    """A build under Prefect, which begins in this process where only the private server is waited for.

    `host`: this machine's address for a cluster that the parts are for; such a build does not begin here, nor
    does it end here if that is one of other machines (`elsewhere`): raises `ServerError`.
    """
    from phq_flows import head_start, server

    if host or server.configured():
        progress.say("starting Prefect (some 15 seconds; --runner inline goes without)")
        try:
            server.start(progress.say, host or "127.0.0.1")
            return flow(progress)
        except server.ServerError as lost:
            if elsewhere:
                raise server.ServerError(
                    f"{lost}: finished parts are kept, the same command goes on"
                ) from lost
            progress.say(f"{lost}: going on without Prefect, as --runner inline does")
            return inline(progress, None)
    starting, told = head_start.Starting(progress.say), head_start.Told(progress)
    first = inline(told, starting.handover)
    starting.forget()
    if first.whole:
        return first
    onward = head_start.Onward(told)
    try:
        return head_start.joined(first, flow(onward))
    except server.ServerError as lost:
        progress.say(f"{lost}: going on without Prefect, as --runner inline does")
        return head_start.joined(first, inline(onward, None))


def run_build(
    workspace: str,
    sources: list[str],
    chosen: PipelineConfig,
    *,
    runner: str | Cluster,
    workers: int,
    retry_failed: bool,
    wait: bool,
) -> None:
    """Build with progress on the terminal and a summary at the end; exits 1 when parts broke."""
    from rich.console import Console

    from phq_data.cli.build_progress import TerminalProgress, reasons, summary, without_rights
    from phq_data.pipeline.local import open_to_build, run_inline
    from phq_data.sources.resolve import resolve
    from phq_data.sources.rights import unstated
    from phq_data.text import counted, duration
    from phq_flows.interrupt import stop_at_once_on_interrupt

    console = Console(stderr=True, soft_wrap=True)
    found = [resolve(spec) for spec in sources]  # a misspelt source is told before anything starts
    fresh = "://" not in workspace and not Path(workspace).expanduser().exists()
    opened = open_to_build(workspace, found)
    _take_corrections(opened, console)
    with TerminalProgress(console) as progress, contextlib.ExitStack() as stack:
        stop_at_once_on_interrupt(progress.close)
        stack.callback(_forget, opened, fresh)
        for name in sources:
            if unstated(Path(name).expanduser()):
                progress.say(
                    f"nobody has said what the photos in {name} may be used for, and a release will ask: "
                    f"phq rights init {shlex.quote(name)}"
                )

        def inline(progress: Progress, handover: Handover | None = None) -> BuildReport:
            with opened.lock(wait=wait, on_wait=progress.say):
                return run_inline(
                    opened, chosen, found, workers=workers, retry_failed=retry_failed, progress=progress,
                    handover=handover,
                )  # fmt: skip

        parts: Any = runner
        if not isinstance(runner, str):
            from phq_flows import clusters

            parts = stack.enter_context(clusters.ready(runner, opened, chosen, workers, progress.say))

        def flow(progress: Progress) -> BuildReport:
            from phq_flows.build import run

            return run(
                workspace, sources, chosen, runner=parts, workers=workers, retry_failed=retry_failed,
                wait=wait, progress=progress,
            )  # fmt: skip

        host = None if isinstance(runner, str) else parts.here
        elsewhere = not isinstance(runner, str) and bool(runner.address)
        report = (
            inline(progress) if runner == "inline" else _with_prefect(host, elsewhere, inline, flow, progress)
        )
    console.print()
    console.print(summary(report))
    for line in (*reasons(opened), *without_rights(opened)):
        console.print(line, highlight=False, markup=False)
    kept = report.count("screen", "kept")
    look = f"phq report --workspace {shlex.quote(workspace)}"
    console.print(
        f"\n{counted(kept, 'portrait')} kept in {duration(report.seconds)}. Look at them: {look}",
        markup=False,
    )
    if report.errors:
        for error in report.errors:
            console.print(f"broken: {error}", highlight=False, markup=False, style="red")
        console.print("The other parts are done. Run the same command again to try these once more.")
        sys.exit(1)


def _forget(workspace: Workspace, fresh: bool) -> None:
    """Let nothing stay of a new workspace that nothing was planned in."""
    if fresh and not workspace.parts("plan"):
        workspace.discard(["workspace.json"])


def _take_corrections(workspace: Workspace, console: Console) -> None:
    """Copy corrected labels of the review's database, where there is one, to the workspace's table."""
    from phq_data.review import logs

    if not logs.has_store(workspace):
        return
    from phq_data.review import corrections
    from phq_data.review.database import StoreError

    try:
        corrections.bring_up_to_date(workspace)
    except StoreError as error:  # what was copied before is applied
        console.print(f"corrections may be missing: {error}", markup=False, style="yellow")

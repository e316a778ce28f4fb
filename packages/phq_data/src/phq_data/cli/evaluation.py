"""`phq synthesize` and `phq accuracy`: photos whose truth is known, and how near the pipeline comes to it.
`phq consistency`: how far it contradicts itself on photos whose truth nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from phq_data.rig import PortraitRig
    from phq_data.synthesis.people import Variety
    from phq_data.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(synthesize)
    measured = typer.Typer(invoke_without_command=True)
    measured.callback()(accuracy)
    measured.command()(ablate)
    app.add_typer(measured, name="accuracy")
    app.command()(consistency)


def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder to write to: photos/*.jpg and truth.parquet.")],
    count: Annotated[int, typer.Option(min=1, help="Number of photos.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Equal seeds give equal photos.")] = 0,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of your own photos to put behind half of the people.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 = one a core.")] = 0,
    views: Annotated[
        int,
        typer.Option(min=1, max=64, help="Calibrated cameras that see each of --count instants: views.json."),
    ] = 1,
    variety: Annotated[
        str,
        typer.Option(help="usual: the accuracy series; wide: steep views, turned heads, real carriage."),
    ] = "usual",
) -> None:
    """Render photos of people whose camera, pose and mask are known.

    Stopped, the same command goes on where it was. A folder holds one series: a smaller --count takes its
    last photos away.
    """
    import os

    from rich.progress import track

    from phq_data.sources.synthetic import synthesize as make

    total = count * views
    steps = iter(track(range(total), description="Rendering"))
    next(steps)
    people = make(
        out,
        count,
        seed,
        backgrounds=backgrounds,
        jobs=jobs or os.cpu_count() or 1,
        views=views,
        variety=_variety(variety),
        on_photo=lambda: next(steps, None),
    )
    typer.echo(f"{total} photos of {people} people in {out / 'photos'}, the truth in {out / 'truth.parquet'}")
    typer.echo(f"next: phq build --workspace DIR {out / 'photos'}")


def _variety(name: str) -> Variety:
    if name == "usual":
        return "usual"
    if name == "wide":
        return "wide"
    raise typer.BadParameter(f"--variety is usual or wide, not {name!r}")


def accuracy(
    context: typer.Context,
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="Folder or URL of the built workspace.")
    ] = "",
    truth: Annotated[Path | None, typer.Option(help="truth.parquet of `phq synthesize`.")] = None,
    views: Annotated[
        Path | None, typer.Option(help="Calibrated cameras and their photos, JSON: see docs/accuracy.md.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Compare the cameras, poses, windows and masks of a workspace with the truth.

    Errors are those of kept portraits: of what would enter a dataset. The table also shows them before
    the screening. Plots and the twenty worst are written to the workspace's folder `accuracy`. A workspace
    that is not finished, or being built, is refused: its parts would be measured together.

    The truth is that of rendered people (--truth), or what calibrated cameras triangulate that took
    photos of the same people at the same instants (--views); with both, the two truths are compared.
    """
    if context.invoked_subcommand is not None:
        return
    if not workspace or (truth is None and views is None):
        raise typer.BadParameter(
            "name the workspace and the truth: --workspace DIR --truth truth.parquet, or --views views.json"
        )
    import json

    from phq_data.pipeline.model_set import rig_of
    from phq_data.pipeline.whole import finished
    from phq_data.workspace import Workspace

    opened = Workspace.open(workspace)
    rig = rig_of(opened)
    numbers: dict[str, Any] = {}
    with finished(opened):
        if truth is not None:
            numbers |= _against_truth(opened, truth, rig, quiet=as_json)
        if views is not None:
            numbers["views"] = _against_views(opened, views, truth, rig, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(numbers))


def _against_truth(workspace: Workspace, truth: Path, rig: PortraitRig, *, quiet: bool) -> dict[str, Any]:
    """Measure, report and, unless `quiet`, print errors on rendered people; the numbers."""
    from phq_data.evaluation import accuracy as measures
    from phq_data.evaluation.report import write_accuracy
    from phq_data.evaluation.tables import accuracy_table
    from phq_data.synthesis.truth import read_truth

    known = read_truth(truth)
    errors = measures.measure(workspace, known, rig)
    there = set(workspace.table("photos", ["photo_id"])["photo_id"].to_pylist())
    named = set(known["photo_id"].to_pylist())
    if not named <= there:
        typer.echo(
            f"phq: {len(named & there)} of the {len(named)} photos of {truth} are in {workspace.url}: only "
            "they count",
            err=True,
        )
    written = write_accuracy(workspace, truth, known, errors, rig)
    if not quiet:
        typer.echo(accuracy_table(errors))
        typer.echo("\nThe worst cameras:")
        for e in measures.worst(errors):
            typer.echo(
                f"  photo {e.index:5d} person {e.order}: yaw {e.yaw:6.1f}, true {e.true_yaw:6.1f}; pitch off "
                f"{e.pitch_deg:4.1f}; {'kept' if e.kept else e.reasons}; {e.portrait_id[:12]}"
            )
        typer.echo("\nWritten: " + ", ".join(workspace.shown(key) for key in written))
    return measures.summary(errors)


def _against_views(
    workspace: Workspace, path: Path, truth: Path | None, rig: PortraitRig, *, quiet: bool
) -> dict[str, Any]:
    """Measure, report and, unless `quiet`, print errors against calibrated cameras; the numbers."""
    import json

    from phq_data.evaluation import multiview, multiview_report
    from phq_data.records import TruePerson, from_table
    from phq_data.synthesis.truth import read_truth
    from phq_data.views import read_views

    known = read_views(path)
    result = multiview.measure(workspace, known)
    if result.lacking:
        typer.echo(
            f"phq: {len(result.lacking)} of the {len(known.photos)} photos of {path} are not in "
            f"{workspace.url} and do not count; the first is {result.lacking[0]}",
            err=True,
        )
    numbers = multiview_report.summary(result)
    if truth is not None:
        exact = from_table(TruePerson, read_truth(truth))
        numbers["agreement"] = multiview_report.agreement(result, exact)
    written = multiview_report.write(workspace, path, known, result, rig, numbers)
    if not quiet:
        typer.echo(multiview_report.table(result))
        if truth is not None:
            typer.echo(f"\nTriangulated against exact truth: {json.dumps(numbers['agreement'])}")
        typer.echo("\nWritten: " + ", ".join(workspace.shown(key) for key in written))
    return numbers


def ablate(
    photos: Annotated[Path, typer.Argument(help="Folder `photos` of `phq synthesize`.")],
    truth: Annotated[Path, typer.Option(help="truth.parquet beside it.")],
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Folder to build in.")],
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE[,NAME=VALUE]",
            help="A variant to compare with the default; may be given again. Without: the usual ones.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Parts at a time; 0 = one a core.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list instead of the table.")
    ] = False,
) -> None:
    """Ablation: label the same photos under several settings and compare the errors.

    Everything is built in one workspace of its own, setting by setting. Stopped, the same command
    goes on.

    Example: phq accuracy ablate out/photos --truth out/truth.parquet -w compare \\
    --set fit.initializations=8
    """
    import json
    import os
    from contextlib import AbstractContextManager, nullcontext

    from rich.console import Console

    from phq_data.cli.build_progress import TerminalProgress
    from phq_data.config import ConfigError
    from phq_data.evaluation import ablation as comparing
    from phq_data.pipeline.local import Progress, SilentProgress

    def watch(name: str) -> AbstractContextManager[Progress]:
        console = Console(stderr=True)
        if not console.is_terminal:
            return nullcontext(SilentProgress())
        console.print(f"labelling: {name}", style="dim", highlight=False, markup=False)
        return TerminalProgress(console, transient=True)

    doubled = sorted({text for text in variants or [] if (variants or []).count(text) > 1})
    if doubled:
        raise ConfigError(f"--set {doubled[0]} is given twice")
    wanted = dict(comparing.VARIANTS)
    if variants:
        wanted = {"default": ()} | {text: tuple(text.split(",")) for text in variants}
    shown = [comparing.HEADER]

    def show(one: comparing.Compared) -> None:
        shown.append(comparing.line(one))
        if not as_json:
            typer.echo("\n".join(shown))
            shown.clear()

    results = comparing.compare(
        photos,
        truth,
        workspace,
        wanted,
        show,
        workers=workers or os.cpu_count() or 1,
        watch=watch,
    )
    typer.echo(json.dumps(comparing.as_json(results)) if as_json else comparing.FOOTER)


def consistency(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders or photos, 'samples', 'synthetic:COUNT' or 'synthetic:COUNT@SEED'.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change one setting, e.g. align.joints=reference."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for table, summary and every change (Parquet).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Label real photos, their mirror images and slightly changed copies, and compare the labels.

    No truth is needed: mirrored photos should give mirrored labels, and shifted, smaller or recompressed
    ones the same. Only people large enough for a portrait count. About six times the cost of finding and
    fitting people once; one photo is held at a time.

    Example: phq consistency samples my-photos --out consistency
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from phq_data import config as configs
    from phq_data.evaluation import equivariance as measures
    from phq_data.evaluation.report import write_equivariance
    from phq_data.evaluation.tables import equivariance_table
    from phq_data.pipeline.model_set import models_for
    from phq_data.sources import SourceError
    from phq_data.sources.resolve import resolve

    config = configs.default()
    for assignment in settings or []:
        config = config.replace_setting(assignment)
    found = [resolve(spec) for spec in sources]
    held = next((path for path in (out, *out.parents) if path.exists()), None) if out else None
    if held is not None and not held.is_dir():
        raise SourceError(f"--out {out}: {held} is a file, name a folder")
    total = sum(1 for source in found for _ in source.files())
    if total == 0:
        raise SourceError(f"there are no photos in {', '.join(sources)}")
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Labelling", total=total)
        changes, tally = measures.measure(
            found, models_for(config), config, on_photo=lambda: bar.advance(task)
        )
    if tally.photos == 0:
        name, reason = tally.unread[0]
        raise SourceError(
            f"none of the {total} files in {', '.join(sources)} is a usable photo; {name}: {reason}"
        )
    numbers = measures.summary(changes, tally)
    typer.echo(json.dumps(numbers) if as_json else equivariance_table(numbers))
    written = write_equivariance(out, changes, numbers) if out is not None else []
    if written and not as_json:
        typer.echo("\nWritten: " + ", ".join(map(str, written)))

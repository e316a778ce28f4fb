"""`phq calibrate`: fit offsets, uncertainty and the orientation prior to a user's own people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phq_data.evaluation.accuracy import PersonError
    from phq_data.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(calibrate)


def calibrate(
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="Folder or URL of the built workspace.")
    ],
    truth: Annotated[Path | None, typer.Option(help="truth.parquet of rendered people.")] = None,
    views: Annotated[
        Path | None,
        typer.Option(help="Calibrated cameras and photos, as for `phq accuracy --views`."),
    ] = None,
    corrections: Annotated[
        bool, typer.Option("--corrections", help="Labels that people corrected in `phq review`.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The calibration file to write; its page lies beside it.")] = Path(
        "calibration.json"
    ),
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Write the file also where it did not help.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Learn from people whose truth is known, for photos of people like them.

    From 30 labels on: where keypoints lie on the body, how necks are carried, and the scale of the error
    probability. From 300 labels on also the last layer of the orientation prior. A third of them is held
    out in turn; the page shows their errors before and after. What did not help them is not in the file.
    Corrected labels teach nothing about the error probability: people correct what looks wrong.

    Use it: phq build -w DIR --set fit.calibration=calibration.json ...
    """
    import json
    from dataclasses import asdict

    if [truth is not None, views is not None, corrections].count(True) != 1:
        raise typer.BadParameter(
            "name one truth: --truth truth.parquet, --views views.json, or --corrections"
        )
    from rich.progress import Progress

    from phq_data import files
    from phq_data.evaluation import calibrate as learning
    from phq_data.evaluation.corrected_people import corrected_people
    from phq_data.evaluation.known_people import known_people
    from phq_data.evaluation.plots import calibration_page
    from phq_data.models import calibration as own
    from phq_data.models.orientation.image_prior import load_image_prior
    from phq_data.models.smplify import Smplify2Config
    from phq_data.pipeline.whole import finished
    from phq_data.workspace import Workspace

    opened = Workspace.open(workspace)
    with finished(opened):
        errors = corrected_people(opened) if corrections else _errors(opened, truth, views)
    prior = load_image_prior(Smplify2Config.PRIOR)
    with Progress(transient=True) as bars:
        photos = bars.add_task("looking at photos", total=None)
        people = known_people(
            opened, errors, prior, lambda done, count: bars.update(photos, completed=done, total=count)
        )
        bars.remove_task(photos)
        fits = bars.add_task(f"learning from {len(people)} labels", total=learning.FOLDS + 1)
        found = learning.learn(
            people, prior.digest, lambda: bars.advance(fits), representative=not corrections
        )
    page = out.with_suffix(".png")
    with files.writing(page) as path:
        path.write_bytes(calibration_page(found))
    made, helped = found.calibration, found.labels_helped or found.probability_helped
    if helped or anyway:
        own.write(out, made)
    if as_json:
        verdicts = {"labels_helped": found.labels_helped, "probability_helped": found.probability_helped}
        typer.echo(json.dumps({**verdicts, **asdict(made)}))
        return
    what = "photos" if views is None else "instants"
    typer.echo(f"{made.labels} labels in {made.groups} {what}; errors of people who were held out:")
    typer.echo("            yaw, median / p95   pitch   Brier score of the error probability")
    for name, held in (("before", made.before), ("after", made.after)):
        typer.echo(
            f"  {name:<8} {held.yaw:6.1f}° / {held.yaw_p95:.1f}°    {held.pitch:5.1f}°   {held.brier:.3f}"
        )
    labels = "became better" if found.labels_helped else "are as good with the shipped constants, which stay"
    truer = "became truer" if found.probability_helped else "is as true as it was"
    typer.echo(f"Labels {labels}; the error probability {truer}. The page: {page}")
    if helped or anyway:
        typer.echo(f"next: phq build --workspace DIR --set fit.calibration={out} ...")
    else:
        typer.echo(f"{out} was not written: nothing in it would help (--anyway writes it)")


def _errors(workspace: Workspace, truth: Path | None, views: Path | None) -> Sequence[PersonError]:
    """Labels against their truth; of calibrated cameras only where that can be trusted."""
    from phq_data.evaluation import accuracy, multiview
    from phq_data.pipeline.model_set import rig_of
    from phq_data.synthesis.truth import read_truth
    from phq_data.views import read_views

    if views is not None:
        return [one for one in multiview.measure(workspace, read_views(views)).errors if one.trusted]
    assert truth is not None
    return accuracy.measure(workspace, read_truth(truth), rig_of(workspace))

"""`phq calibrate`: fit offsets, uncertainty and the orientation prior to a user's own people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(calibrate)


def calibrate(
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="Folder or URL of the built workspace.")
    ],
    truth: Annotated[Path, typer.Option(help="truth.parquet: who is known, and how they are seen.")],
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
    out in turn; the page shows their errors before and after. Where those did not fall, no file is written.

    Use it: phq build -w DIR --set fit.calibration=calibration.json ...
    """
    import json
    from dataclasses import asdict

    from rich.progress import Progress

    from phq_data import files
    from phq_data.evaluation import accuracy as measures
    from phq_data.evaluation import calibrate as learning
    from phq_data.evaluation.known_people import known_people
    from phq_data.evaluation.plots import calibration_page
    from phq_data.models import calibration as own
    from phq_data.models.orientation.image_prior import load_image_prior
    from phq_data.models.smplify import Smplify2Config
    from phq_data.rig import PortraitRig
    from phq_data.synthesis.truth import read_truth
    from phq_data.workspace import Workspace

    opened = Workspace.open(workspace)
    errors = measures.measure(opened, read_truth(truth), PortraitRig.load(opened.path("rig.safetensors")))
    prior = load_image_prior(Smplify2Config.PRIOR)
    with Progress(transient=True) as bars:
        photos = bars.add_task("looking at photos", total=None)
        people = known_people(
            opened, errors, prior, lambda done, count: bars.update(photos, completed=done, total=count)
        )
        bars.remove_task(photos)
        fits = bars.add_task(f"learning from {len(people)} labels", total=learning.FOLDS + 1)
        found = learning.learn(people, prior.digest, lambda: bars.advance(fits))
    page = out.with_suffix(".png")
    with files.writing(page) as path:
        path.write_bytes(calibration_page(found))
    if found.helped or anyway:
        own.write(out, found.calibration)
    if as_json:
        typer.echo(json.dumps({"helped": found.helped, **asdict(found.calibration)}))
        return
    made = found.calibration
    typer.echo(f"{made.labels} labels in {made.photos} photos; errors of people who were held out:")
    typer.echo("            yaw, median / p95   pitch   Brier score of the error probability")
    for name, held in (("before", made.before), ("after", made.after)):
        typer.echo(
            f"  {name:<8} {held.yaw:6.1f}° / {held.yaw_p95:.1f}°    {held.pitch:5.1f}°   {held.brier:.3f}"
        )
    verdict = (
        "It helped." if found.helped else "It did not help beyond chance: the shipped constants are as good."
    )
    typer.echo(f"{verdict} The page: {page}")
    if found.helped or anyway:
        typer.echo(f"next: phq build --workspace DIR --set fit.calibration={out} ...")

"""`phq synthesize` and `phq accuracy`: photos whose truth is known, and how near the pipeline comes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""

    @app.command()
    def synthesize(
        out: Annotated[Path, typer.Argument(help="Folder to write to: photos/*.jpg and truth.parquet.")],
        count: Annotated[int, typer.Option(min=1, help="Number of photos.")] = 100,
        seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal photos.")] = 0,
        backgrounds: Annotated[
            Path | None, typer.Option(help="Folder of your own photos to put behind half of the people.")
        ] = None,
        jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 = one a core.")] = 0,
    ) -> None:
        """Render photos of people whose camera, pose and mask are known."""
        import os

        from rich.progress import track

        from phq_data.sources.synthetic import synthesize as make

        steps = iter(track(range(count), description="Rendering"))
        next(steps)
        people = make(
            out,
            count,
            seed,
            backgrounds=backgrounds,
            jobs=jobs or os.cpu_count() or 1,
            on_photo=lambda: next(steps, None),
        )
        typer.echo(
            f"{count} photos of {people} people in {out / 'photos'}, the truth in {out / 'truth.parquet'}"
        )
        typer.echo(f"next: phq build --workspace DIR {out / 'photos'}")

    @app.command()
    def accuracy(
        workspace: Annotated[
            str, typer.Option("--workspace", "-w", help="Folder or URL of the built workspace.")
        ],
        truth: Annotated[Path, typer.Option(help="truth.parquet of `phq synthesize`.")],
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON object instead of the table.")
        ] = False,
    ) -> None:
        """Compare the cameras, poses, windows and masks of a workspace with the truth.

        Errors are those of kept portraits: of what would enter a dataset. The table also shows them before
        the screening. Plots and the twenty worst are written to the workspace's folder `accuracy`.
        """
        import json

        from phq_data import accuracy as measures
        from phq_data.accuracy_table import table
        from phq_data.rig import PortraitRig
        from phq_data.synthesis.truth import read_truth
        from phq_data.workspace import Workspace

        opened = Workspace.open(workspace)
        known = read_truth(truth)
        rig = PortraitRig.load(opened.path("rig.safetensors"))
        errors = measures.measure(opened, known, rig)
        written = measures.write_report(opened, truth, known, errors, rig)
        if as_json:
            typer.echo(json.dumps(measures.summary(errors)))
            return
        typer.echo(table(errors))
        typer.echo("\nThe worst cameras:")
        for e in measures.worst(errors):
            typer.echo(
                f"  photo {e.index:5d} person {e.order}: yaw {e.yaw:6.1f}, true {e.true_yaw:6.1f}; pitch off "
                f"{e.pitch_deg:4.1f}; {'kept' if e.kept else e.reasons}; {e.portrait_id[:12]}"
            )
        typer.echo("\nWritten: " + ", ".join(opened.path(key) for key in written))

"""`phq models`: the models that a user brings or asks for, and what their licenses mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from phq_data.errors import ModelError

if TYPE_CHECKING:
    from phq_data.weights.store import Record

_NAME = typer.Argument(help="Name as in `phq models list`.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    models = typer.Typer(no_args_is_help=True, help="The paper's own models: your files, added once by name.")
    app.add_typer(models, name="models")

    @models.command("list")
    def list_models(
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    ) -> None:
        """Every model that can be used: shipped, added or still to be had, with license and checksum."""
        import dataclasses
        import json

        from phq_data.models import onnx
        from phq_data.weights import store

        shipped, known = onnx.embedded_models(), store.records()
        if as_json:
            rows = [
                {**dataclasses.asdict(model), "record": kept and dataclasses.asdict(kept)}
                for model, kept in known
            ]
            own = [{**dataclasses.asdict(m), "path": str(m.path), "origin": m.origin} for m in shipped]
            typer.echo(json.dumps({"folder": str(store.root()), "shipped": own, "models": rows}, indent=2))
            return
        typer.echo("Shipped with this program:")
        for network in shipped:
            typer.echo(f"  {network.name}: {network.title}")
            typer.echo(f"      {network.license}; {_size(network.bytes)}; from {network.origin}")
            typer.echo(f"      sha256 {network.sha256}")
        typer.echo(f"\nYours, in {store.root()}:")
        for model, kept in known:
            here = "here" if kept else ("on request" if model.url else "bring your file")
            typer.echo(f"  {model.name}: {model.title} [{here}]")
            terms = kept.license if kept and kept.license else model.license
            typer.echo(f"      {terms}. {model.consequence}")
            typer.echo(f"      from {model.origin}: {model.wanted}")
            if kept:
                typer.echo(f"      {kept.file}, {_size(kept.bytes)}, sha256 {kept.sha256}")
                typer.echo(f"      made on {kept.added} from {kept.source}, sha256 {kept.source_sha256}")
                if kept.note:
                    typer.echo(f"      {kept.note}")

    @models.command()
    def add(
        name: Annotated[str, _NAME],
        file: Annotated[Path | None, typer.Argument(help="Your file; left out, it is downloaded.")] = None,
        sha256: Annotated[str, typer.Option(help="What the file's SHA-256 must be.")] = "",
        vposer: Annotated[
            Path | None, typer.Option(help="VPoser 1.0 snapshot, for 3dcrowdnet checkpoints without it.")
        ] = None,
        url: Annotated[str, typer.Option(help="Another address to download from.")] = "",
        license: Annotated[
            str, typer.Option(help="License of a pose or age network's weights, such as Apache-2.0.")
        ] = "",
    ) -> None:
        """Check a model file and keep it. Without a file, models that may be downloaded are."""
        from phq_data.models import importers
        from phq_data.weights.catalogue import known_model

        model = known_model(name)
        typer.echo(f"{model.title}. {model.license}. {model.consequence}")
        if file is None:
            importers.download_address(model, url)  # before a bar is shown
        if file is not None:
            kept = importers.add(name, file, sha256=sha256, vposer=vposer, license=license)
        else:
            kept = _download(name, url, sha256, license)
        typer.echo(f"added {name}: {kept.file}, {_size(kept.bytes)}, sha256 {kept.sha256}")
        if kept.note:
            typer.echo(kept.note)
        if kept.description:
            _say_description(kept, file, license)

    @models.command()
    def verify(
        name: Annotated[str, typer.Argument(help="One model; left out, all that were added.")] = "",
    ) -> None:
        """Compare files with their checksums; exit code 1 when one is missing or damaged."""
        from phq_data.models import onnx
        from phq_data.weights import store

        names = [name] if name else [model.name for model, kept in store.records() if kept]
        faults = 0
        for one in names:
            try:
                kept = store.verify(one)
            except ModelError as error:
                faults += 1
                typer.echo(f"{one}: {error}", err=True)
            else:
                typer.echo(f"{one}: right, {_size(kept.bytes)}, sha256 {kept.sha256}")
        if not name:
            for network in onnx.embedded_models():
                try:
                    onnx.verified_path(network.name)
                except ModelError as error:
                    faults += 1
                    typer.echo(f"{network.name}: {error}", err=True)
                else:
                    typer.echo(f"{network.name}: right, shipped")
        if faults:
            raise typer.Exit(1)

    @models.command()
    def remove(name: Annotated[str, _NAME]) -> None:
        """Delete a model's files from the folder. Your own copy elsewhere is not touched."""
        from phq_data.weights import store

        store.remove(name)
        typer.echo(f"removed {name}")

    rig = typer.Typer(no_args_is_help=True, help="The mesh that labels refer to.")
    app.add_typer(rig, name="rig")

    @rig.callback()
    def about_rigs() -> None:
        """The mesh that labels refer to."""

    @rig.command("build")
    def build_rig(
        out: Annotated[Path, typer.Argument(help="File to write: rig.safetensors.")],
        body: Annotated[Literal["anny", "smpl", "mhr", "soma"], typer.Option(help="Which body.")] = "smpl",
        model: Annotated[
            Path | None,
            typer.Option(
                help="SMPL's file as distributed (default: the one that was added), MHR's lodN.npz with "
                "rig.npz beside it, or SOMA_template_rig.usda."
            ),
        ] = None,
    ) -> None:
        """Build the rig of a body: for releases that carry a recipe instead of a licensed body's numbers, and
        for labels of another body (phq labels convert)."""
        if body == "anny":
            from phq_data.bodies.anny import default_rig

            if model is not None:
                raise ModelError("anny is part of the package and takes no --model")
            made = default_rig()
        elif body == "smpl":
            from phq_data.bodies.smpl import load_body

            made = load_body(model).make_rig()
        elif model is None:
            from phq_data.bodies import mhr, soma

            raise ModelError(f"--body {body} needs --model: {(mhr if body == 'mhr' else soma).ADVICE}")
        else:
            from phq_data.bodies import mhr, soma

            made = (mhr if body == "mhr" else soma).load_rig(model)
        made.save(out)
        typer.echo(f"wrote {out}: {len(made.vertices):,} vertices, digest {made.digest[:16]}")


def _say_description(kept: Record, file: Path | None, license: str) -> None:
    """Show what is now known of a user's network, and write it beside the user's file if nothing is there."""
    from phq_data.files import OutputError, write_text
    from phq_data.models.user_network import UNKNOWN, beside

    typer.echo(kept.description.rstrip())
    if kept.license == UNKNOWN:
        typer.echo("its license is unknown: add it again with --license when you know it")
    if file is not None and (license or not beside(file).exists()):
        try:
            write_text(beside(file), kept.description)
        except OutputError as error:
            typer.echo(f"{error}; it is kept with the network all the same", err=True)
        else:
            typer.echo(f"wrote {beside(file)}: correct what is wrong there and add {file} again")
    setting = "screen.age_model" if kept.name == "age" else "detect.model"
    typer.echo(f"phq build --set {setting}={kept.name} uses it")


def _download(name: str, url: str, sha256: str, license: str) -> Record:
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from phq_data.models import importers

    with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as shown:
        task = shown.add_task(name, total=None)
        return importers.download(
            name,
            url=url,
            sha256=sha256,
            license=license,
            progress=lambda done, total: shown.update(task, completed=done, total=total or None),
        )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"

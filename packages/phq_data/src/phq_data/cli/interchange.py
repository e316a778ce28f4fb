"""`phq export` and `phq import`: portraits to and from the formats of the reference tools."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""

    @app.command()
    def export(
        workspace: Annotated[str, typer.Option("--workspace", "-w", help="Folder or URL of the workspace.")],
        out: Annotated[Path, typer.Argument(help="Folder to write to.")],
        format_: Annotated[str, typer.Option("--format", help="eg3d-zip or first-crop.")] = "eg3d-zip",
        mirror: Annotated[bool, typer.Option("--mirror", help="Add every portrait mirrored.")] = False,
    ) -> None:
        """Write the kept portraits as a zip pair that EG3D, PanoHead and 3DPortraitGAN read.

        With --format first-crop, write the wider images of the reference's first crop for DensePose to look
        at; a build with --set crop.vertex_maps=FOLDER uses its maps. For work on your own machine. To pass
        portraits on, build a release: it checks rights.
        """
        from phq_data.files import new_folder
        from phq_data.interchange import eg3d, first_crop, tables
        from phq_data.interchange.portrait import ExchangeError
        from phq_data.pipeline.whole import finished
        from phq_data.workspace import Workspace

        if format_ not in ("eg3d-zip", "first-crop"):
            raise ExchangeError(f"there is no format {format_!r}; there are eg3d-zip and first-crop")
        opened = Workspace.open(workspace)
        images, masks = out / "dataset.zip", out / "seg_dataset.zip"
        with contextlib.ExitStack() as stack:
            stack.enter_context(finished(opened))
            try:
                stack.enter_context(new_folder(out))
            except OSError as error:
                raise ExchangeError(f"{out} cannot be the folder to write to ({error.strerror})") from error
            if format_ == "first-crop":
                count = first_crop.write(opened, out)
                told = f"{out}; their vertex maps are called NAME_PERSON_segNUMBER.png"
            else:
                count = eg3d.write_pair(tables.kept_portraits(opened), images, masks, mirror=mirror)
                told = f"{images}, their masks in {masks}"
        typer.echo(f"{count} images in {told}")

    @app.command("import")
    def import_(
        folder: Annotated[
            Path, typer.Argument(help="A folder with result.json, or with dataset.zip and seg_dataset.zip.")
        ],
        workspace: Annotated[str, typer.Option("--workspace", "-w", help="A new workspace.")],
        masks: Annotated[
            str, typer.Option(help="For a folder of the first crop: who masks, selfie or deeplab.")
        ] = "selfie",
        published_center_formula: Annotated[
            bool, typer.Option(help="Re-align with the authors' formula instead of the corrected one.")
        ] = False,
    ) -> None:
        """Bring portraits that the authors' own tools made into a new workspace, as they are.

        There they can be reported on, reviewed, released and exported; `phq build` works from photos. A
        folder of the first crop (result.json, images, seg with DensePose maps) is finished here: re-aligned,
        cut from the photos and masked. That needs the SMPL file (phq models add smpl FILE).
        """
        from phq_data.interchange import first_crop, tables
        from phq_data.workspace import Workspace

        portraits = first_crop.read_any(
            folder, masks=masks, published_center_formula=published_center_formula
        )
        opened = Workspace.open(workspace, create=True)
        count = tables.into_workspace(portraits, opened, str(folder))
        typer.echo(f"{count} portraits in {workspace}; next: phq report --workspace {workspace}")

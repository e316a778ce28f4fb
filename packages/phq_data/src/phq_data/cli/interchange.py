"""`phq export` and `phq import`: portraits to and from the formats of the reference tools."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from phq_data.interchange.annotations import Annotated as Labelled
    from phq_data.rig import PortraitRig
    from phq_data.workspace import Workspace


_FORMATS = ("eg3d-zip", "first-crop")
_OTHER_TOOLS = ("fiftyone", "cvat", "label-studio", "webdataset", "coco")
_NEXT = {
    "fiftyone": "; load it as fiftyone.types.FiftyOneDataset",
    "cvat": "; make a task with labels.json and images/, then upload annotations.xml",
    "label-studio": "; use config.xml as the interface, {out} as local storage, and import tasks.json",
}


def _for_others(workspace: Workspace, out: Path, form: str) -> int:
    """Write the kept portraits, with what the reviewers decided so far; returns how many."""
    from phq_data.interchange import annotation_tools, training_formats
    from phq_data.interchange.annotations import annotated, into_folder
    from phq_data.pipeline.whole import finished
    from phq_data.review import decisions
    from phq_data.review.rules import REASONS

    words = {"accepted": "accept", "rejected": "reject", "disputed": "flag"}
    states = {name: one.state for name, one in decisions.current(workspace).items()}
    verdicts = {name: words[state] for name, state in states.items() if state in words}
    writers: dict[str, Callable[[Iterator[Labelled], Path], int]] = {
        "fiftyone": partial(annotation_tools.write_fiftyone, reasons=REASONS),
        "cvat": partial(annotation_tools.write_cvat, reasons=REASONS),
        "label-studio": partial(annotation_tools.write_label_studio, reasons=REASONS),
        "webdataset": training_formats.write_webdataset,
        "coco": training_formats.write_coco,
    }
    with finished(workspace):
        return into_folder(out, lambda folder: writers[form](annotated(workspace, verdicts), folder))


def _labels_of(data: str, given: PortraitRig | None) -> tuple[pa.Table, PortraitRig]:
    """(portrait_id, camera, pose of all portraits of a release or workspace; the rig that they refer to)."""
    from phq_data.errors import ReleaseError
    from phq_data.release import reader
    from phq_data.rig import PortraitRig
    from phq_data.workspace import Workspace

    columns = ["portrait_id", "camera", "pose"]
    try:
        release = reader.open(data)
    except ReleaseError:
        workspace = Workspace.open(data)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rig.safetensors"
            if given is None:
                file.write_bytes(workspace.read_bytes("rig.safetensors"))
            return workspace.table("portraits", columns), given or PortraitRig.load(file)
    return release.all().metadata(columns), given or release.rig()


def _converted(table: pa.Table, source: PortraitRig, target: PortraitRig, out: Path) -> str:
    """Write the converted labels of `table`; what to say of them."""
    import numpy as np
    import pyarrow as pa

    from phq_data import parquet
    from phq_data.files import writing
    from phq_data.interchange.convert_labels import convert

    rows = table.num_rows
    cameras, poses = (
        np.array(table[name].to_pylist(), np.float64).reshape(rows, size)
        for name, size in (("camera", 25), ("pose", 6))
    )
    made = convert(cameras, poses, source, target)
    columns = {
        "portrait_id": table["portrait_id"],
        "camera": pa.array(list(made.cameras), pa.list_(pa.float32(), 25)),
        "pose": pa.array(list(made.poses), pa.list_(pa.float32(), 6)),
        "error": pa.array(made.error, pa.float32()),  # metres
        "error_before": pa.array(made.error_before, pa.float32()),
    }
    about = {"rig": target.digest, "body": target.body, "from_rig": source.digest}
    with writing(out) as temporary:
        parquet.write(pa.table(columns).replace_schema_metadata(about), temporary)
    middle = [float(np.median(one)) * 1000 if rows else 0.0 for one in (made.error_before, made.error)]
    return (
        f"{rows} labels of {source.body} as labels of {target.body} in {out}: landmarks lie "
        f"{middle[1]:.1f} mm apart in the median, {middle[0]:.1f} mm before"
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""

    @app.command()
    def export(
        workspace: Annotated[str, typer.Option("--workspace", "-w", help="Folder or URL of the workspace.")],
        out: Annotated[Path, typer.Argument(help="Folder to write to.")],
        format_: Annotated[
            str,
            typer.Option("--format", help=f"One of {', '.join((*_FORMATS, *_OTHER_TOOLS))}."),
        ] = "eg3d-zip",
        mirror: Annotated[bool, typer.Option("--mirror", help="Add every portrait mirrored.")] = False,
    ) -> None:
        """Write the kept portraits as a zip pair that EG3D, PanoHead and 3DPortraitGAN read, or for others.

        With --format first-crop, write the wider images of the reference's first crop for DensePose to look
        at; a build with --set crop.vertex_maps=FOLDER uses its maps. fiftyone, cvat and label-studio are for
        people to decide and correct labels there; phq review import --tool brings their answers back.
        webdataset and coco are for training. For work on your own machine. To pass portraits on, build a
        release: it checks rights.
        """
        from phq_data.files import new_folder
        from phq_data.interchange import eg3d, first_crop, tables
        from phq_data.interchange.portrait import ExchangeError
        from phq_data.pipeline.whole import finished
        from phq_data.workspace import Workspace

        if format_ not in (*_FORMATS, *_OTHER_TOOLS):
            known = ", ".join((*_FORMATS, *_OTHER_TOOLS))
            raise ExchangeError(f"there is no format {format_!r}; there are {known}")
        if format_ in _OTHER_TOOLS:
            if mirror:
                raise ExchangeError("--mirror is for eg3d-zip: other tools get every portrait once")
            count = _for_others(Workspace.open(workspace), out, format_)
            typer.echo(
                f"{count} portraits in {out}{_NEXT.get(format_, '').format(out=out, workspace=workspace)}"
            )
            return
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

    labels = typer.Typer(no_args_is_help=True, help="Labels of other bodies.")
    app.add_typer(labels, name="labels")

    @labels.callback()
    def about_labels() -> None:
        """Labels of other bodies."""

    @labels.command()
    def convert(
        data: Annotated[str, typer.Argument(help="A release (folder or URL) or a workspace.")],
        out: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="File to write.")],
        to: Annotated[Path, typer.Option("--to", help="The rig of the other body (phq rig build).")],
        source: Annotated[
            Path | None,
            typer.Option("--from", help="The rig that the labels refer to (default: DATA's own)."),
        ] = None,
    ) -> None:
        """Carry labels that were made with one body to another, so that both, rendered, lie on the person.

        Cameras and poses are fitted to the landmarks that both rigs have; the distance that remains is told
        for every label.
        """
        from phq_data.interchange.portrait import ExchangeError
        from phq_data.rig import PortraitRig

        if out.suffix.lower() != ".parquet":
            raise ExchangeError(f"{out}: labels are written as .parquet")
        table, own = _labels_of(data, PortraitRig.load(source) if source is not None else None)
        typer.echo(_converted(table, own, PortraitRig.load(to), out))

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

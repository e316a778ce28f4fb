"""`portraitgan viewer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portraitgan.commands import shared


def viewer(
    model: shared.ModelArgument,
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    device: shared.DeviceOption = "auto",
    latent: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show a result of `portraitgan invert`.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The next free one is taken if it is in use.")] = 8080,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Side of the image sent.")] = 512,
) -> None:
    """Look at a model in the browser: drag the camera, move the body, mix people.

    Serves a page that shows the model. It listens on this machine only, unless --host says otherwise; whoever
    reaches the page can use the model.
    """
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.latents import from_latent_file
    from portraitgan.inference.view_state import ViewRenderer
    from portraitgan.inference.viewer import Viewer, wait_forever

    if not 64 <= size <= 2048 or not 0 < port < 65536:
        raise InferenceError("--size must lie between 64 and 2048, --port between 1 and 65535")
    opened = shared.open_chosen(model, checkpoint, rig, device)
    subject = None if latent is None else from_latent_file(opened, latent)
    running = Viewer(ViewRenderer(opened, size, subject), host, port)
    print(f"{opened.folder} on {opened.device} at {running.url} (Ctrl-C ends it)", flush=True)
    try:
        wait_forever()
    finally:
        running.close()

"""`portraitgan viewer`."""

from __future__ import annotations

import argparse
from typing import Any

from portraitgan.commands import model_options as shared


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    viewer = commands.add_parser(
        "viewer",
        help="look at a model in the browser: drag the camera, move the body, mix people",
        description="Serves a page that shows the model. It listens on this machine only, unless --host says "
        "otherwise; whoever reaches the page can use the model.",
    )
    shared.add_model(viewer)
    viewer.add_argument("--latent", metavar="FILE", help="show a result of `portraitgan invert`")
    viewer.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    viewer.add_argument(
        "--port", type=int, default=8080, help="the next free one is taken if it is in use (8080)"
    )
    viewer.add_argument(
        "--size", type=int, default=512, metavar="PIXELS", help="side of the picture sent (512)"
    )
    viewer.set_defaults(run=shared.explained(_viewer))


def _viewer(options: argparse.Namespace) -> int:
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.latents import from_latent_file
    from portraitgan.inference.view_state import ViewRenderer
    from portraitgan.inference.viewer import Viewer, wait_forever

    if not 64 <= options.size <= 2048 or not 0 < options.port < 65536:
        raise InferenceError("--size must lie between 64 and 2048, --port between 1 and 65535")
    model = shared.open_from(options)
    latent = None if options.latent is None else from_latent_file(model, options.latent)
    viewer = Viewer(ViewRenderer(model, options.size, latent), options.host, options.port)
    print(f"{model.folder} on {model.device} at {viewer.url} (Ctrl-C ends it)", flush=True)
    try:
        wait_forever()
    finally:
        viewer.close()
    return 0

"""The viewer in the browser (viser): drag to turn the camera, sliders for the body and the person.

While something moves, images are rendered at the resolution that keeps up; at rest, at full resolution.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from typing import Any

import numpy as np

from phq_data import camera as cameras
from phq_data.arrays import ImageArray
from phq_data.errors import PhqError
from portraitgan.images.drawing import PARTS
from portraitgan.inference.errors import InferenceError, need
from portraitgan.inference.model import Model
from portraitgan.inference.view_state import Rendered, ViewRenderer, ViewState, view_of

FIELD_OF_VIEW = 2 * np.arctan(0.5 / cameras.FOCAL)
"""Vertical, radians: the portraits'."""
MOVING_SECONDS, REST_SECONDS = 0.12, 0.25
"""How long an image may take while things move; how long nothing may change before one at rest."""
MOST_RAYS = 256
BEHIND = 24
"""Grey of the window beside the image."""
SIDES = {"front": 0.0, "left": 90.0, "back": 180.0, "right": -90.0}


class Viewer:
    """A running viewer. `close` ends it."""

    def __init__(self, renderer: ViewRenderer, host: str = "127.0.0.1", port: int = 8080) -> None:
        need("viser", "viewer")
        import viser

        self._renderer = renderer
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it greets in a box
                self.server = viser.ViserServer(host, port, label="portraitgan", verbose=False)
        except OSError as error:
            raise InferenceError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        self.server.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True)
        self.server.gui.main_panel.dock_right()
        self.server.scene.set_up_direction("+y")
        start = self.server.initial_camera
        start.position, start.look_at = (0.0, 0.0, cameras.RADIUS), tuple(cameras.LOOK_AT)
        start.up, start.fov = (0.0, 1.0, 0.0), float(FIELD_OF_VIEW)
        self._workers: dict[int, _Worker] = {}
        self._panel = Panel(self.server, renderer.model, renderer.latent is not None, self._changed)
        self.server.on_client_connect(self._joined)
        self.server.on_client_disconnect(self._left)

    @property
    def url(self) -> str:
        """Where to look."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def close(self) -> None:
        """End it."""
        for worker in list(self._workers.values()):
            worker.stop()
        self.server.stop()

    def _joined(self, client: Any) -> None:
        worker = _Worker(client, self._renderer, self._panel)
        self._workers[client.client_id] = worker
        client.camera.on_update(lambda _: worker.changed())

    def _left(self, client: Any) -> None:
        worker = self._workers.pop(client.client_id, None)
        if worker is not None:
            worker.stop()

    def _changed(self) -> None:
        for worker in list(self._workers.values()):
            worker.changed()


class Panel:
    """The controls, shared by everybody who looks."""

    def __init__(self, server: Any, model: Model, fixed_person: bool, changed: Any) -> None:
        gui = server.gui
        self._server = server
        self.status = gui.add_markdown("")
        with gui.add_folder("View"):
            self.part = gui.add_dropdown("Show", PARTS)
            rays = model.config.generator.render.resolution
            self.rays = gui.add_slider("Neural rendering resolution", 8, max(MOST_RAYS, rays), 1, rays)
            self.samples = gui.add_slider("Samples a ray", 0.5, 4.0, 0.5, 1.0)
            sides = gui.add_button_group("Look from", tuple(SIDES))
        with gui.add_folder("Person"):
            usual = dict(min=0, max=2**31, step=1, disabled=fixed_person)
            self.seed = gui.add_number("Seed", 0, **usual)
            self.second = gui.add_number("Second seed", 1, **usual)
            self.mix = gui.add_slider("Mix", 0.0, 1.0, 0.01, 0.0, disabled=fixed_person)
            self.layers = gui.add_dropdown("Mixed layers", ("all", "coarse", "fine"), disabled=fixed_person)
            self.truncation = gui.add_slider("Truncation", 0.0, 1.0, 0.01, 0.7, disabled=fixed_person)
        with gui.add_folder("Body"):
            still = not model.deforms
            if still:
                gui.add_markdown("No rig: the body stays neutral.")
            names = ("nod", "turn", "tilt")
            self.neck = [gui.add_slider(f"Neck {n}", -45.0, 45.0, 0.5, 0.0, disabled=still) for n in names]
            self.head = [gui.add_slider(f"Head {n}", -60.0, 60.0, 0.5, 0.0, disabled=still) for n in names]
            predictor = model.generator.pose_branch is not None and not still
            self.predicted = gui.add_checkbox("Predicted by the model", False, disabled=not predictor)
            neutral = gui.add_button("Neutral", disabled=still)
        watched = [
            self.seed,
            self.second,
            self.mix,
            self.layers,
            self.truncation,
            self.part,
            self.rays,
            self.samples,
        ]
        for control in (*watched, *self.neck, *self.head, self.predicted):
            control.on_update(lambda _: changed())
        neutral.on_click(lambda _: self._neutral())
        sides.on_click(lambda event: _look_from(event.client, SIDES[sides.value]))

    def state(self, camera: Any) -> ViewState:
        """What the controls and a client's camera say."""
        yaw, pitch, zoom = view_of(camera.position, camera.look_at)
        return ViewState(
            yaw, pitch, zoom, int(self.seed.value), int(self.second.value), float(self.mix.value),
            self.layers.value, float(self.truncation.value),
            (self.neck[0].value, self.neck[1].value, self.neck[2].value),
            (self.head[0].value, self.head[1].value, self.head[2].value),
            bool(self.predicted.value), self.part.value, float(self.samples.value),
            int(self.rays.value),
        )  # fmt: skip

    def tell(self, state: ViewState, done: Rendered) -> None:
        """The lines above the controls."""
        pose = " ".join(f"{value:.0f}" for value in done.pose)
        self.status.content = (
            f"yaw {state.yaw:.0f}°, pitch {state.pitch:.0f}°, zoom {state.zoom:.2f}  \n"
            f"neck, head {pose}°  \n{done.resolution}² rays in {1000 * done.seconds:.0f} ms"
        )

    def _neutral(self) -> None:
        with self._server.atomic():
            for control in (*self.neck, *self.head):
                control.value = 0.0
            self.predicted.value = False


class _Worker:
    """Renders for one client, always the newest state."""

    def __init__(self, client: Any, renderer: ViewRenderer, panel: Panel) -> None:
        self._client, self._renderer, self._panel = client, renderer, panel
        self._event = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"viewer-{client.client_id}")
        self._event.set()
        self._thread.start()

    def changed(self) -> None:
        """Something moved."""
        self._event.set()

    def stop(self) -> None:
        """End after the image under way."""
        self._ended = True
        self._event.set()

    def _run(self) -> None:
        shown: ViewState | None = None
        complete = False
        while True:
            moved = self._event.wait(None if complete else REST_SECONDS)
            if self._ended:
                return
            self._event.clear()
            state = self._panel.state(self._client.camera)
            if moved and state == shown and complete:
                continue
            full = self._renderer.full_resolution(state)
            resolution = self._renderer.moving_resolution(state, MOVING_SECONDS) if moved else full
            try:
                done = self._renderer.render(state, resolution)
            except PhqError as error:
                self._panel.status.content = f"**{error}**"
                complete = True
                continue
            if self._ended:  # meanwhile; nobody is there to show it to
                return
            shown, complete = state, resolution == full
            image = letterbox(done.pixels, float(self._client.camera.aspect or 1.0))
            self._client.scene.set_background_image(image, format="jpeg", jpeg_quality=90)
            self._panel.tell(state, done)


def letterbox(pixels: ImageArray, aspect: float) -> ImageArray:
    """A square image [S, S, 3] in the middle of a window that is `aspect` times as wide as high."""
    side = pixels.shape[0]
    aspect = float(np.clip(aspect, 0.1, 10))
    height, width = (side, round(side * aspect)) if aspect >= 1 else (round(side / aspect), side)
    window = np.full((height, width, 3), BEHIND, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    window[top : top + side, left : left + side] = pixels
    return window


def _look_from(client: Any, yaw: float) -> None:
    place = cameras.from_angles(np.radians(yaw), 0.0)[:3, 3]
    with client.atomic():
        client.camera.up_direction = (0.0, 1.0, 0.0)
        client.camera.position = tuple(place)
        client.camera.look_at = tuple(cameras.LOOK_AT)


def wait_forever() -> None:
    """Until Ctrl-C."""
    while True:
        time.sleep(3600)

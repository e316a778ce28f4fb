"""What the viewer shows, as one value, and how that value becomes an image in the time there is."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from phq_data import camera as cameras
from phq_data.arrays import ImageArray
from portraitgan.images.drawing import draw, to_pixels
from portraitgan.inference import views
from portraitgan.inference.latents import Subject
from portraitgan.inference.model import Model
from portraitgan.inference.sample import pose_of

MixedLayers = Literal["all", "coarse", "fine"]
LOWEST = 8
"""Neural rendering resolution below which a moving image is not worth showing."""


@dataclass(frozen=True)
class ViewState:
    """Everything that decides what is seen."""

    yaw: float = 0.0  # degrees
    pitch: float = 0.0
    zoom: float = 1.0
    seed: int = 0
    second_seed: int = 1
    mix: float = 0.0  # 0: the first seed, 1: the second
    mixed_layers: MixedLayers = "all"
    truncation: float = 0.7
    neck: tuple[float, float, float] = (0.0, 0.0, 0.0)  # axis-angle, degrees
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    predicted_pose: bool = False
    part: str = "image"
    sample_factor: float = 1.0
    resolution: int | None = None  # neural rendering resolution at rest; none: the checkpoint's


@dataclass(frozen=True, eq=False)
class Rendered:
    """An image and what it took."""

    pixels: ImageArray  # [side, side, 3]
    resolution: int
    seconds: float
    pose: tuple[float, ...]  # the rendered body pose, degrees


def view_of(position: np.ndarray, look_at: np.ndarray) -> tuple[float, float, float]:
    """(yaw, pitch, zoom) in degrees of a free camera at `position` [3] looking at `look_at` [3], metres.

    The camera is put onto the sphere that the model knows: its direction counts, panning does not, and its
    distance becomes zoom.
    """
    place = np.asarray(position, np.float64) - (np.asarray(look_at, np.float64) - cameras.LOOK_AT)
    distance = float(np.linalg.norm(place - cameras.LOOK_AT))
    if not np.isfinite(distance) or distance < 1e-6:
        return 0.0, 0.0, 1.0
    yaw = np.degrees(np.arctan2(place[0], place[2]))
    pitch = np.degrees(np.arctan2(place[1], np.hypot(place[0], place[2])))
    return float(yaw), float(np.clip(pitch, -89, 89)), float(np.clip(cameras.RADIUS / distance, 0.2, 8))


class ViewRenderer:
    """Renders view states; keeps the person's tri-grid while only camera and pose change."""

    def __init__(self, model: Model, side: int, latent: Subject | None = None) -> None:
        self.model = model
        self.side = side
        self.latent = latent  # shown instead of seeds
        self._lock = threading.Lock()
        self._person: tuple[object, Subject, Tensor] | None = None
        self._seconds_per_ray: float | None = None

    def full_resolution(self, state: ViewState) -> int:
        """Neural rendering resolution of an image at rest."""
        return state.resolution or self.model.config.generator.render.resolution

    def moving_resolution(self, state: ViewState, seconds: float) -> int:
        """The neural rendering resolution that lately took about `seconds`, at most the full one."""
        full = self.full_resolution(state)
        if self._seconds_per_ray is None:
            return min(LOWEST, full)
        possible = int((seconds / max(self._seconds_per_ray, 1e-9)) ** 0.5)
        return max(min(possible, full), min(LOWEST, full))

    def render(self, state: ViewState, resolution: int | None = None) -> Rendered:
        """The image of a state; one at a time, whoever asks."""
        resolution = resolution or self.full_resolution(state)
        with self._lock:
            start = time.perf_counter()
            subject, planes = self._subject(state)
            label = views.camera(state.yaw, state.pitch, zoom=state.zoom).to(self.model.device)
            pose = views.body_pose(state.neck, state.head).to(self.model.device)
            if state.predicted_pose:
                pose = pose_of(self.model, subject, label)
            made = self.model.render(subject.ws, label, pose, resolution, state.sample_factor, planes)
            pixels = to_pixels(draw(made, label, state.part, self.side))[0]
            seconds = time.perf_counter() - start
            cost = seconds / resolution**2
            known = self._seconds_per_ray
            self._seconds_per_ray = cost if known is None else 0.5 * (known + cost)
        degrees = tuple(float(value) for value in np.degrees(pose[0].cpu().numpy()))
        return Rendered(pixels, resolution, seconds, degrees)

    def _subject(self, state: ViewState) -> tuple[Subject, Tensor]:
        key = (state.seed, state.second_seed, state.mix, state.mixed_layers, state.truncation)
        if self._person is None or self._person[0] != key:
            subject = self.latent or self._mixed(state)
            self._person = (key, subject, self.model.planes(subject.ws))
        return self._person[1], self._person[2]

    def _mixed(self, state: ViewState) -> Subject:
        z = self.model.latents([state.seed, state.second_seed])
        first, second = self.model.styles(z, state.truncation).split(1)
        layers = mixed_layers(first.shape[1], state.mixed_layers).to(first.device)
        amount = state.mix * layers[None, :, None]
        mixed_z = torch.lerp(z[:1], z[1:], state.mix)
        return Subject("view", torch.lerp(first, second, amount), mixed_z)


def mixed_layers(count: int, which: MixedLayers) -> Tensor:
    """1 for the styles [count] that take part in mixing: the first half is coarse, the second fine."""
    layers = torch.ones(count)
    if which == "coarse":
        layers[count // 2 :] = 0
    elif which == "fine":
        layers[: count // 2] = 0
    return layers

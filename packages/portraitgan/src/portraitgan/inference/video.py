"""Videos: camera, people and body pose as functions of time, rendered and encoded frame by frame."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from phq_data.arrays import ImageArray
from phq_data.files import writing
from portraitgan.images.drawing import draw, to_pixels
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError, need
from portraitgan.inference.latents import Subject
from portraitgan.inference.model import Model
from portraitgan.inference.sample import pose_of

Motion = Literal["sway", "turn", "still"]
SWAY_YAW, SWAY_PITCH, SWAY_CENTRE = 20.05, 9.1, 1.8
"""Degrees of the official frontal video: 0.35 rad of yaw, 0.25 of the look-at sampler's v (spec 1.2)."""


@dataclass(frozen=True)
class VideoPlan:
    """What happens in a video. Everything is periodic, so that it loops without a jump."""

    frames: int
    motion: Motion = "sway"
    yaw: float = 0.0  # degrees around which the camera moves
    pitch: float = 0.0
    poses: tuple[tuple[float, ...], ...] = ()  # key poses in degrees (neck, head); one: held
    predicted_pose: bool = False
    parts: tuple[str, ...] = ("image",)  # side by side


def camera_path(video: VideoPlan) -> Tensor:
    """Camera labels [frames, 25]."""
    phase = np.arange(video.frames) / video.frames
    yaw, pitch = np.full(video.frames, video.yaw), np.full(video.frames, video.pitch)
    if video.motion == "sway":
        yaw = yaw + SWAY_YAW * np.sin(2 * np.pi * phase)
        pitch = pitch + SWAY_CENTRE + SWAY_PITCH * np.cos(2 * np.pi * phase)
    elif video.motion == "turn":
        yaw = yaw + 360 * phase
    return views.orbit(yaw, pitch)


def closed_curve(keys: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A smooth closed curve through keys [K, ...]: phases [N] in 0..1 to [N, ...]; constant for one key."""
    if len(keys) == 1:
        return lambda phase: np.repeat(keys, len(phase), axis=0)
    times = np.arange(len(keys) + 1) / len(keys)
    curve: Callable[[NDArray[np.float64]], NDArray[np.float64]] = CubicSpline(
        times, np.concatenate([keys, keys[:1]]), axis=0, bc_type="periodic"
    )
    return curve


def frames_of(
    model: Model,
    subjects: Sequence[Subject],  # several: the video wanders through them
    video: VideoPlan,
    side: int | None = None,
    resolution: int | None = None,
    sample_factor: float = 2.0,
    batch: int = 4,
) -> Iterator[ImageArray]:
    """Frames [side, side * parts, 3], a batch in memory at a time."""
    if not subjects:
        raise InferenceError("a video needs at least one person")
    side = side or model.config.generator.image_resolution
    cameras = camera_path(video).to(model.device)
    styles = closed_curve(_stacked([one.ws for one in subjects]))
    body = closed_curve(np.radians(np.array(video.poses, np.float64))) if video.poses else None
    latents = None
    if video.predicted_pose and len(subjects) > 1:
        latents = closed_curve(_stacked([_latent(one) for one in subjects]))
    planes = model.planes(subjects[0].ws) if len(subjects) == 1 else None
    for first in range(0, video.frames, batch):
        seen = cameras[first : first + batch]
        phase = np.arange(first, first + len(seen)) / video.frames
        ws = _tensor(styles(phase), model.device)
        pose = None if body is None else _tensor(body(phase), model.device)
        if video.predicted_pose:
            people = [subjects[0]] * len(seen)
            if latents is not None:
                people = [Subject("", subjects[0].ws, z[None]) for z in _tensor(latents(phase), model.device)]
            pose = torch.cat([pose_of(model, one, seen[i : i + 1]) for i, one in enumerate(people)])
        same = None if planes is None else planes.expand(len(seen), *planes.shape[1:])
        made = model.render(ws, seen, pose, resolution, sample_factor, same)
        drawn = [to_pixels(draw(made, seen, name, side)) for name in video.parts]
        yield from np.concatenate(drawn, axis=2)


def write_video(path: str | Path, frames: Iterable[ImageArray], fps: int = 30, crf: int = 16) -> int:
    """Encode frames [H, W, 3] of equal size as H.264 (yuv420p) while they come; returns how many.

    Odd sizes lose their last row or column, which the format cannot hold. Raises `InferenceError`.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise InferenceError(f"{path} is no video file: name it .mp4")
    need("av", "video")
    import av

    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise InferenceError("a video needs at least one frame")
    height, width = (length - length % 2 for length in first.shape[:2])
    count = 0
    with writing(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium"}
        for pixels in itertools.chain([first], iterator):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode())
    return count


def _stacked(rows: Sequence[Tensor]) -> NDArray[np.float64]:
    """[1, ...] each to [K, ...] in double precision."""
    return torch.cat(list(rows)).double().cpu().numpy()


def _latent(subject: Subject) -> Tensor:
    if subject.z is None:
        raise InferenceError("predicted poses of several people need seeds")
    return subject.z


def _tensor(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)

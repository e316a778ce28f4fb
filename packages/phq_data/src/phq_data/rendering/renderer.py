"""Images of meshes: the posed rig over its portrait, for reviewers, reports and tests.

Two backends draw the same image. `software` is `rasterise`, our own numpy code, always there. `pyrender`
draws with OpenGL through EGL. Shading is computed once, before either backend, so only the anti-aliasing of
edges differs.

Measured on one CPU core for 5,900 faces at 512 x 512 with smooth edges: software 0.1 s, pyrender on Mesa's
software driver 0.02 s after 3.5 s of start-up. So `software`, which also gives the same image everywhere,
is the default, and `PHQ_RENDERER=pyrender` asks for OpenGL, which pays from a few dozen images on.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phq_data import camera as cameras
from phq_data.errors import PhqError
from phq_data.rendering.rasterizer import rasterise
from phq_data.rig import PortraitRig

log = logging.getLogger(__name__)

BackendName = Literal["software", "pyrender"]
VARIABLE = "PHQ_RENDERER"
"""Environment variable that names the backend."""

BODY_COLOR = (0.45, 0.62, 0.80)
HEAD_COLOR = (0.93, 0.68, 0.47)
_FAR = 100.0


@dataclass(frozen=True, eq=False)
class Rendering:
    """A drawn mesh."""

    rgba: NDArray[np.uint8]  # [S, S, 4], straight alpha: the share of the pixel that the mesh covers
    depth: NDArray[np.float32]  # [S, S] metres along the viewing direction; inf where there is nothing

    @property
    def silhouette(self) -> NDArray[np.bool_]:
        """Pixels [S, S] that the mesh covers at least half."""
        return self.rgba[..., 3] >= 128


@dataclass(frozen=True)
class Backend:
    """Which backend draws, and what a user can do about it."""

    name: BackendName
    note: str


class RenderError(PhqError, RuntimeError):
    """A mesh that cannot be drawn, or a backend that does not exist."""


def overlay(
    image: NDArray[np.uint8],  # [S, S, 3]
    rig: PortraitRig,
    camera: ArrayLike,  # [25]
    pose: ArrayLike,  # [6] neck and head axis-angles, radians
    opacity: float = 0.6,
) -> NDArray[np.uint8]:
    """The posed rig, shaded, over the portrait [S, S, 3] whose label it is. The head is tinted warm."""
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3:
        raise RenderError(f"an overlay wants a square RGB image, not an array of shape {image.shape}")
    cam2world, intrinsics = cameras.from_label(camera)
    share = np.clip(rig.weights[:, 1:].astype(np.float64), 0, 1)
    colors = (1 - share) * np.array(BODY_COLOR) + share * np.array(HEAD_COLOR)
    drawn = render_mesh(rig.posed(pose), rig.faces, cam2world, intrinsics, image.shape[0], colors)
    alpha = drawn.rgba[..., 3:].astype(np.float32) * (opacity / 255.0)
    mixed = image * (1 - alpha) + drawn.rgba[..., :3] * alpha
    return np.round(mixed).clip(0, 255).astype(np.uint8)


def render_mesh(
    vertices: np.ndarray,  # [V, 3] metres, world
    faces: np.ndarray,  # [F, 3]
    cam2world: np.ndarray,  # [4, 4] OpenCV
    intrinsics: np.ndarray,  # [3, 3] normalised by the image's side
    size: int,
    colors: np.ndarray | None = None,  # [V, 3] in 0..1; None = one calm grey-blue
    *,
    backend: BackendName | None = None,
    shaded: bool = True,
) -> Rendering:
    """Draw a mesh, lit from the camera, on `size` x `size` pixels.

    Both sides of every triangle are drawn. Parts behind the camera are left out.
    """
    points = np.asarray(vertices, np.float64)
    triangles = np.asarray(faces)
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise RenderError(
            f"a mesh is [V, 3] vertices and [F, 3] faces, not {points.shape}, {triangles.shape}"
        )
    base = np.broadcast_to(np.array(BODY_COLOR) if colors is None else colors, points.shape)
    if shaded:
        base = base * headlight(points, triangles, cam2world[:3, 3])[:, None]
    base = np.clip(base, 0, 1).astype(np.float32)
    if (backend or _chosen()) == "pyrender":
        return _pyrender(points, triangles, cam2world, intrinsics, size, base)
    return _software(points, triangles, cam2world, intrinsics, size, base)


def headlight(points: np.ndarray, faces: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Brightness [V] in 0.35..1 of vertices lit from the eye, with smooth normals."""
    normals = vertex_normals(points, faces)
    towards = eye - points
    towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
    return np.asarray(0.35 + 0.65 * np.abs((normals * towards).sum(axis=1)))


def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3], faces weighted by area; zero for a vertex that no face uses."""
    first, second, third = (points[faces[:, k]] for k in range(3))
    normal = np.cross(second - first, third - first)
    total = np.empty(points.shape)
    for axis in range(3):
        repeated = np.repeat(normal[:, axis], 3)
        total[:, axis] = np.bincount(faces.reshape(-1), weights=repeated, minlength=len(points))
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


def backend() -> Backend:
    """The backend in use and how to get the other one, for `phq doctor`."""
    if _chosen() == "pyrender":
        return Backend("pyrender", f"OpenGL through EGL, asked for by {VARIABLE}=pyrender")
    if os.environ.get(VARIABLE) == "pyrender":
        return Backend("software", f"{VARIABLE}=pyrender was asked for, but: {_gl().problem}")
    return Backend(
        "software",
        f"numpy rasteriser, no graphics library needed; for many images {VARIABLE}=pyrender is faster "
        "(needs EGL: on Debian libegl1, libegl-mesa0, libgl1-mesa-dri)",
    )


def _chosen() -> BackendName:
    wanted = os.environ.get(VARIABLE, "software")
    if wanted not in ("software", "pyrender"):
        raise RenderError(f"{VARIABLE} is 'software' or 'pyrender', not {wanted!r}")
    if wanted == "pyrender" and _gl().problem is None:
        return "pyrender"
    return "software"


def _software(
    points: np.ndarray, faces: np.ndarray, cam2world: np.ndarray, intrinsics: np.ndarray, size: int,
    colors: np.ndarray, factor: int = 2,
) -> Rendering:  # fmt: skip
    """Draw at `factor` times the size and average: smooth edges."""
    fine = size * factor
    at, depth = cameras.project(points, cam2world, intrinsics)
    seen = rasterise(at * fine, depth, faces, (fine, fine))
    color = np.ones((len(seen.pixel), 4), np.float32)
    color[:, :3] = seen.interpolate(colors, faces)
    fine_layer = seen.image(color)
    fine_depth = seen.image(seen.depth, empty=np.inf)
    corners = [(row, column) for row in range(factor) for column in range(factor)]
    total = sum(fine_layer[row::factor, column::factor] for row, column in corners)
    nearest = np.minimum.reduce([fine_depth[row::factor, column::factor] for row, column in corners])
    layer = np.asarray(total) / len(corners)
    layer[..., :3] /= np.maximum(layer[..., 3:], 1e-6)
    return Rendering(np.round(layer * 255).astype(np.uint8), nearest)


def _pyrender(
    points: np.ndarray, faces: np.ndarray, cam2world: np.ndarray, intrinsics: np.ndarray, size: int,
    colors: np.ndarray,
) -> Rendering:  # fmt: skip
    gl = _gl()
    if gl.problem is not None:
        raise RenderError(f"the pyrender backend is not available: {gl.problem}")
    return gl.draw(points, faces, cam2world, intrinsics, size, colors)


class _OpenGL:
    """pyrender behind one thread: an OpenGL context belongs to the thread that made it."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="phq-render")
        self._renderer: Any = None
        self.problem: str | None = self._worker.submit(self._start).result()

    def _start(self) -> str | None:
        """None, or why OpenGL cannot be used here."""
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
        try:
            import pyrender

            self._renderer = pyrender.OffscreenRenderer(64, 64)
        except Exception as error:
            # Drivers and bindings fail in every way there is (missing library, no device, old version).
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("pyrender cannot draw here (%s); drawing with the software rasteriser instead", text)
            return text
        return None

    def draw(self, *arguments: Any) -> Rendering:
        return self._worker.submit(self._draw, *arguments).result()

    def _draw(
        self, points: np.ndarray, faces: np.ndarray, cam2world: np.ndarray, intrinsics: np.ndarray, size: int,
        colors: np.ndarray,
    ) -> Rendering:  # fmt: skip
        import pyrender

        primitive = pyrender.Primitive(
            positions=points.astype(np.float32),
            indices=np.asarray(faces, np.uint32),
            color_0=np.concatenate([colors, np.ones((len(colors), 1), np.float32)], axis=1),
            material=pyrender.MetallicRoughnessMaterial(doubleSided=True),
        )
        scene = pyrender.Scene(bg_color=[0, 0, 0, 0], ambient_light=[1, 1, 1])
        scene.add(pyrender.Mesh([primitive]))
        inner = np.asarray(intrinsics) * size
        view = pyrender.IntrinsicsCamera(
            inner[0, 0], inner[1, 1], inner[0, 2], inner[1, 2], znear=0.05, zfar=_FAR
        )
        scene.add(view, pose=np.asarray(cam2world) @ np.diag([1.0, -1.0, -1.0, 1.0]))
        self._renderer.viewport_width = self._renderer.viewport_height = size
        flags = pyrender.RenderFlags.FLAT | pyrender.RenderFlags.RGBA | pyrender.RenderFlags.SKIP_CULL_FACES
        color, depth = self._renderer.render(scene, flags=flags)
        return Rendering(color, np.where(depth > 0, depth, np.inf).astype(np.float32))


_lock = threading.Lock()
_instance: _OpenGL | None = None


def _gl() -> _OpenGL:
    """The process's OpenGL, started at the first call. A forked child starts its own."""
    global _instance
    with _lock:
        if _instance is None or _instance.process != os.getpid():
            _instance = _OpenGL()
        return _instance

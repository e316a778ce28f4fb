"""Hair, hats, collars, skirts and things in hands, as parts around the neutral body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.synthesis import surfaces
from phq_data.synthesis.figure import Part, arm_parameter, body

HAIR = (
    "none",
    "buzz",
    "short",
    "parted",
    "bob",
    "long",
    "curly",
    "afro",
    "ponytail",
    "bun",
    "braids",
    "receding",
)
HATS = ("cap", "cap_backwards", "beanie", "brimmed", "hood", "headscarf", "helmet")
NECKLINES = ("crew", "v", "boat", "turtle", "off_shoulder", "jacket", "low")
COLLARS = ("none", "shirt", "scarf", "hood_down", "stand", "ruff")
HELD = ("none", "ball", "box", "cup", "board", "phone")


@dataclass(frozen=True)
class Hair:
    """A head of hair."""

    style: str = "short"  # of `HAIR`
    volume: float = 1.0  # times the ordinary thickness
    length: float = 0.25  # metres below the ears' top, where the style hangs
    fringe: bool = False
    roughness: float = 0.3  # how uneven the surface is
    seed: int = 0


@dataclass(frozen=True)
class Outfit:
    """Clothes. Lengths along the arm: 0 shoulder, 1 elbow, 2 wrist."""

    neckline: str = "crew"  # of `NECKLINES`
    depth: float = 0.0  # metres that the neckline is lower than usual
    sleeve: float = 0.5  # arm length that is covered; below -0.2 the shoulders are bare
    thickness: float = 0.008  # metres
    folds: float = 0.3
    collar: str = "none"  # of `COLLARS`
    skirt: float = 0.0  # metres below the waist; 0 = trousers
    shoulder_pad: float = 0.0  # metres
    seed: int = 0


def neckline_height(z: np.ndarray) -> np.ndarray:
    """Height [...] of an ordinary round neckline at depths `z` [...], metres."""
    return np.asarray(np.interp(z, [-0.08, -0.03, 0.05, 0.1], [0.02, 0.0, -0.055, -0.08]))


def necklines(rest: np.ndarray, outfit: Outfit) -> np.ndarray:
    """How far below the neckline each point [N, 3] lies, metres; negative where the neck is bare."""
    x, y, z = rest[:, 0], rest[:, 1], rest[:, 2]
    base = neckline_height(z)
    front = np.clip((z + 0.01) / 0.05, 0, 1)
    match outfit.neckline:
        case "v" | "jacket":
            width = 0.075 if outfit.neckline == "v" else 0.09
            drop = (0.11 if outfit.neckline == "v" else 0.24) + outfit.depth
            line = base + 0.02 - front * drop * np.clip(1 - np.abs(x) / width, 0, 1)
        case "boat":
            line = base - 0.025 - 0.3 * outfit.depth
        case "low":
            line = base - 0.04 * front - outfit.depth * front
        case "turtle":
            line = np.full_like(y, 0.045) + 0.02 * (z < 0)
        case "off_shoulder":
            line = np.full_like(y, -0.10 - 0.3 * outfit.depth)
        case _:
            line = base + 0.012 - 0.3 * outfit.depth
    return np.asarray(line - y)


def covered(rest: np.ndarray, arm: np.ndarray, outfit: Outfit) -> np.ndarray:
    """Metres [N] that points [N, 3], `arm` [N] along the arm, lie inside the top's edge; bare skin: < 0."""
    sleeve = 0.27 * (outfit.sleeve - arm)
    if outfit.neckline == "off_shoulder":
        sleeve = np.where(arm < 0.3, np.maximum(sleeve, 0.05), sleeve)
    trunk = rest[:, 1] < 0.09
    return np.where(trunk, np.minimum(necklines(rest, outfit), sleeve), -1.0)


def dressed_body(outfit: Outfit) -> Part:
    """The body with its clothes: one surface, lifted off the skin where it is cloth."""
    model = body()
    rest = model.vertices.astype(np.float64)
    arm = arm_parameter()
    inside = covered(rest, arm, outfit)
    rng = np.random.default_rng(outfit.seed)
    lift = outfit.thickness * np.clip(inside / 0.03 + 0.25, 0, 1)
    wave = _noise(rest, rng, 14.0) + 0.6 * _noise(rest, rng, 35.0)
    fold = outfit.folds * outfit.thickness * np.clip(inside / 0.04, 0, 1) * wave
    pad = outfit.shoulder_pad * np.exp(-(((np.abs(rest[:, 0]) - 0.17) / 0.06) ** 2)) * (inside > 0)
    lower = model.region("legs")
    amount = np.where(lower, 0.006 + 0.003 * wave, np.maximum(lift + fold, 0) + pad)
    amount[model.region("hand", "foot", "face", "scalp", "ear", "sclera", "iris")] = 0
    return Part(model.vertices, model.faces, "body", offset=(_normals() * amount[:, None]).astype(np.float32))


def hair_parts(hair: Hair, pressed: bool = False) -> list[Part]:
    """The surfaces of a head of hair, none when it is only painted on; `pressed` flat by a hat."""
    if hair.style in ("none", "buzz"):
        return []
    rng = np.random.default_rng(hair.seed)
    rough = min(hair.roughness, 0.6) if hair.style == "afro" else hair.roughness
    thick = {"short": 0.014, "parted": 0.020, "receding": 0.012, "curly": 0.032, "afro": 0.062}.get(
        hair.style, 0.018
    )
    thick = min(0.008, thick) if pressed else thick * hair.volume
    front = 0.30 if hair.fringe else 0.62
    if hair.style == "receding":
        front = 1.0
    phases = rng.uniform(0, 2 * np.pi, 6)

    def line(azimuth: FloatArray) -> FloatArray:
        edge = np.interp(np.abs(azimuth), [0, 0.5, 0.95, 1.3, 1.6, 2.0, 2.5, np.pi],
                         [front, front + 0.02, 0.50, 0.05, 0.12, -0.45, -0.75, -0.80])  # fmt: skip
        return np.asarray(np.asarray(edge) + 0.05 * hair.roughness * np.sin(9 * azimuth + phases[0]))

    def thickness(azimuth: FloatArray, up: FloatArray) -> FloatArray:
        rise = np.clip(up / (0.10 if hair.style == "afro" else 0.22), 0, 1)
        uneven = sum(
            np.sin(k * azimuth + phases[i] + 3 * up * k) / (i + 1.5) for i, k in enumerate((5, 9, 16, 23))
        )
        part = 1 - 0.35 * np.exp(-(((azimuth - 0.5) / 0.15) ** 2)) * (hair.style == "parted")
        return thick * rise**0.7 * (1 + 0.35 * rough * np.asarray(uneven)) * part - 0.004 * (1 - rise)

    parts = [_head_part(*surfaces.cap(line, thickness, 64, 20), "hair")]
    if hair.style in ("bob", "long", "braids"):
        parts.append(_curtain(hair, thick, rng))
    if hair.style == "ponytail":
        start = np.array([0.0, 0.21 + rng.uniform(-0.05, 0.03), -0.06 - thick])
        fall = np.linspace(0, 1, 9)[:, None]
        end = np.array([rng.normal(0, 0.03), start[1] - hair.length, -0.14])
        bulge = np.array([0, 0.03, -0.06]) * (fall * (1 - fall) * 4)
        radius = (0.014 + 0.022 * np.sin(np.pi * np.clip(fall[:, 0], 0.02, 0.97)) ** 0.6) * hair.volume
        parts.append(_head_part(*surfaces.tube(start + (end - start) * fall + bulge, radius), "hair"))
    if hair.style == "bun":
        height = rng.choice([0.13, 0.20, 0.27])
        centre = np.array([0.0, height, -0.02 - 0.1 * np.cos((height - 0.13) * 10)])
        parts.append(_head_part(*surfaces.ball(centre, 0.036 * hair.volume), "hair"))
    if hair.style == "braids":
        for side in (1, -1):
            fall = np.linspace(0, 1, 12)[:, None]
            start, end = (
                np.array([side * 0.085, 0.12, 0.0]),
                np.array([side * 0.11, 0.10 - hair.length, 0.09]),
            )
            knots = 0.016 + 0.004 * np.sin(fall[:, 0] * 40)
            parts.append(_head_part(*surfaces.tube(start + (end - start) * fall, knots), "hair", soft=True))
    return parts


def hat_parts(kind: str, hair: Hair, rng: np.random.Generator) -> list[Part]:
    """A hat over whatever hair there is."""
    under = 0.0 if hair.style in ("none", "buzz") else 0.007
    level = rng.uniform(0.32, 0.5)
    back = rng.uniform(-0.25, 0.05)

    def line(azimuth: FloatArray) -> FloatArray:
        edge = np.interp(np.abs(azimuth), [0, 1.0, 1.6, np.pi], [level, 0.33, 0.22, back])
        return np.asarray(edge)

    if kind in ("hood", "headscarf"):
        gap = 0.02 + under if kind == "hood" else 0.007 + under
        depth = rng.uniform(0.75, 1.0)

        def face_line(azimuth: FloatArray) -> FloatArray:
            edge = np.interp(
                np.abs(azimuth), [0, 0.5, depth, depth + 0.25, np.pi], [0.55, 0.5, 0.25, -0.9, -1.0]
            )
            return np.asarray(edge)

        def over_ears(azimuth: FloatArray, up: FloatArray) -> FloatArray:
            low = face_line(azimuth)
            height = low + (np.pi / 2 - low) * up
            ear = np.exp(-(((np.abs(azimuth) - 1.65) / 0.35) ** 2) - ((height + 0.2) / 0.35) ** 2)
            return gap + 0.006 * np.sin(3 * azimuth) + 0.024 * ear

        points, faces = surfaces.cap(face_line, over_ears, 64, 18)
        parts = [_head_part(points, faces, "hat")]
        parts.append(_wrap(rng, 0.028 if kind == "hood" else 0.02, "hat", 0.02))
        return parts
    height = {"beanie": 0.016, "brimmed": 0.035, "helmet": 0.03}.get(kind, 0.014) + under
    flat = kind == "brimmed"

    def thickness(azimuth: FloatArray, up: FloatArray) -> FloatArray:
        crown = height * (0.55 + 0.45 * np.clip(up * 2.2, 0, 1))
        if kind == "beanie":
            crown = crown + 0.03 * under * up + 0.012 * (up > 0.6) * (up - 0.6)
        return crown + (0.02 * np.clip(up - 0.55, 0, 1) if flat else 0.0)

    points, faces = surfaces.cap(line, thickness, 56, 14)
    parts = [_head_part(points, faces, "hat")]
    edge = points[:56]
    azimuth = np.linspace(-np.pi, np.pi, 56, endpoint=False)
    if kind in ("cap", "cap_backwards"):
        turned = azimuth if kind == "cap" else np.abs(azimuth) - np.pi
        width = rng.uniform(0.06, 0.08) * np.sqrt(np.clip(1 - (turned / 1.05) ** 2, 0, 1))
        parts.append(_head_part(*surfaces.brim(edge, width, 0.25), "hat_trim"))
    elif kind in ("brimmed", "helmet"):
        width = np.full(56, rng.uniform(0.05, 0.10) if kind == "brimmed" else 0.015)
        parts.append(_head_part(*surfaces.brim(edge, width, rng.uniform(-0.05, 0.35)), "hat_trim"))
    return parts


def collar_parts(outfit: Outfit, rng: np.random.Generator) -> list[Part]:
    """What lies around the neck."""
    if outfit.collar == "none":
        return []
    if outfit.collar == "scarf":
        return [_wrap(rng, rng.uniform(0.022, 0.038), "scarf", rng.uniform(-0.01, 0.025))]
    if outfit.collar == "hood_down":
        azimuth = np.linspace(0.9, 2 * np.pi - 0.9, 30)
        base = surfaces.neck_ring(azimuth, np.full(30, -0.01))
        bulk = 0.02 + 0.035 * np.exp(-(((azimuth - np.pi) / 0.9) ** 2))
        out = base * (1.25, 1, 1.25) - np.array([0, 0.012, 0.012])
        return [_part(*surfaces.tube(out, bulk), "collar")]
    height, flare, gap = {
        "shirt": (0.042, 0.014, 0.25),
        "stand": (0.055, 0.006, 0.12),
        "ruff": (0.035, 0.05, 0.0),
    }[outfit.collar]
    azimuth = np.linspace(gap, 2 * np.pi - gap, 40)
    rows = []
    for t in np.linspace(-0.4, 1, 5):
        slope = np.interp(np.cos(azimuth), [-1, 1], [0.0, -0.045])
        ring = surfaces.neck_ring(azimuth, slope + height * t - 0.01)
        outward = ring * (1, 0, 1)
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        rows.append(ring + outward * (0.008 + outfit.thickness * 0.5 + flare * max(t, 0.0)))
    if outfit.collar == "shirt":  # the folded leaf
        leaf = rows[-1] + (rows[0] - rows[-1]) * 0.85
        outward = leaf * (1, 0, 1)
        rows.append(leaf + 0.012 * outward / np.linalg.norm(outward, axis=1, keepdims=True))
    points = np.concatenate(rows)
    return [_part(points, surfaces.grid_faces(len(rows), 40, around=False), "collar")]


def skirt_parts(outfit: Outfit, rng: np.random.Generator) -> list[Part]:
    """A skirt or the lower part of a dress or coat."""
    if outfit.skirt <= 0:
        return []
    azimuth = np.linspace(-np.pi, np.pi, 40, endpoint=False)
    waves, phase, flare = rng.integers(3, 9), rng.uniform(0, 6), rng.uniform(0.0, 0.25)
    rows = []
    for t in np.linspace(0, 1, 8):
        wide = 0.155 + 0.035 * np.sin(min(t * 2.5, 1.0) * np.pi / 2) + flare * t
        ripple = 1 + 0.07 * t * np.sin(waves * azimuth + phase)
        y = -0.33 - outfit.skirt * t
        rows.append(
            np.stack(
                [
                    np.sin(azimuth) * wide * ripple,
                    np.full(40, y),
                    np.cos(azimuth) * wide * 0.8 * ripple - 0.02,
                ],
                1,
            )
        )
    points = np.concatenate(rows)
    model = body()
    weights = np.zeros((len(points), len(model.joint_names)), np.float32)
    weights[:, model.joint("waist")] = 1
    return [_part(points, surfaces.grid_faces(8, 40, around=True), "skirt", weights)]


def held_parts(kind: str, side: str, rng: np.random.Generator) -> list[Part]:
    """Something in one hand."""
    if kind == "none":
        return []
    model = body()
    wrist = model.joints[model.joint(f"{side}_wrist")]
    elbow = model.joints[model.joint(f"{side}_elbow")]
    along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    centre = wrist + 0.12 * along
    match kind:
        case "ball":
            points, faces = surfaces.ball(centre, rng.uniform(0.05, 0.13), 12)
        case "cup":
            path = centre + np.linspace(-0.05, 0.06, 5)[:, None] * np.array([0.0, 1.0, 0.1])
            points, faces = surfaces.tube(path, np.array([0.0, 0.032, 0.036, 0.04, 0.042]))
        case "phone":
            points, faces = surfaces.block(centre, np.array([0.075, 0.15, 0.01]))
        case "board":
            points, faces = surfaces.block(centre, rng.uniform(0.2, 0.4, 3) * (1, 1, 0.04))
        case _:
            points, faces = surfaces.block(centre, rng.uniform(0.08, 0.3, 3))
    weights = np.zeros((len(points), len(model.joint_names)), np.float32)
    weights[:, model.joint(f"{side}_wrist")] = 1
    return [_part(points, faces, "held", weights)]


def glasses_parts(dark: bool) -> list[Part]:
    """Spectacles or sunglasses."""
    model = body()
    parts: list[Part] = []
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for side in ("left", "right"):
        eye = model.landmarks[model.landmark(f"{side}_eye")]
        sign = 1.0 if side == "left" else -1.0
        centre = eye + np.array([sign * 0.002, -0.004, 0.022])
        loop = np.stack(
            [
                0.026 * np.cos(angle),
                0.021 * np.sin(angle),
                -0.012 * np.abs(np.cos(angle)) * (np.cos(angle) * sign > 0),
            ],
            1,
        )
        rim = centre + loop
        parts.append(_head_part(*surfaces.tube(rim, np.full(20, 0.0022), 6, closed=True), "frame"))
        if dark:
            points = np.concatenate([centre[None], rim])
            fan = np.stack([np.zeros(20), 1 + np.arange(20), 1 + (np.arange(20) + 1) % 20], 1).astype(
                np.int32
            )
            parts.append(_head_part(points, fan, "lens"))
        ear = model.landmarks[model.landmark(f"{side}_ear")] + np.array([sign * 0.004, 0.022, 0.0])
        hinge = centre + np.array([sign * 0.027, 0.004, -0.012])
        path = hinge + (ear - hinge) * np.linspace(0, 1, 5)[:, None]
        parts.append(_head_part(*surfaces.tube(path, np.full(5, 0.002), 6), "frame"))
    nose = model.landmarks[model.landmark("left_eye")] * (0, 1, 1) + np.array([0, 0.002, 0.024])
    path = nose + np.linspace(-0.008, 0.008, 3)[:, None] * np.array([1.0, 0, 0])
    parts.append(_head_part(*surfaces.tube(path, np.full(3, 0.002), 6), "frame"))
    return parts


def _curtain(hair: Hair, thick: float, rng: np.random.Generator) -> Part:
    """Hair that hangs from the crown behind the ears, as a sheet that keeps off the back."""
    reach = rng.uniform(1.55, 2.15) if hair.style != "bob" else rng.uniform(1.9, 2.25)
    length = hair.length if hair.style != "bob" else rng.uniform(0.06, 0.14)
    if hair.style == "braids":
        reach, length = 1.4, 0.06
    columns, rows = 40, 16
    around, down = np.meshgrid(np.linspace(-reach, reach, columns), np.linspace(0, 1, rows))
    phases = rng.uniform(0, 6, 3)
    y = 0.20 - down * (0.20 - 0.12 + length)
    azimuth = np.pi - around
    top = surfaces.direction(azimuth, np.zeros_like(azimuth))
    radius = surfaces.skull_radius(top.reshape(-1, 3)).reshape(azimuth.shape)
    radius += thick * np.clip(0.2 + 4 * down, 0, 1) - 0.012 * np.clip(1 - 6 * down, 0, 1)
    shrink = 1 - 0.18 * np.clip(down - 0.2, 0, 1) * (1 - np.abs(around) / reach * 0.6)
    wave = (
        0.010
        * hair.roughness
        * (np.sin(11 * around + phases[0] + 4 * down) + np.sin(23 * around + phases[1]))
    )
    x = np.sin(azimuth) * (radius * shrink + wave)
    z = 0.03 + np.cos(azimuth) * (radius * shrink + wave)
    clear = surfaces.back_surface(y) - 0.012 - 0.3 * thick
    behind = np.abs(around) < 1.25
    z = np.where(behind, np.minimum(z, clear + 0.03 * (np.abs(around) / 1.25) ** 2), z)
    # Strands in front of the shoulders lie on the chest, not in it.
    chest = 0.06 + 0.10 * np.clip((-0.02 - y) / 0.12, 0, 1)
    z = np.where((np.abs(around) > 1.75) & (y < 0.02), np.maximum(z, chest), z)
    return _head_part(
        np.stack([x, y, z], -1).reshape(-1, 3),
        surfaces.grid_faces(rows, columns, around=False),
        "hair",
        soft=True,
    )


def _wrap(rng: np.random.Generator, radius: float, paint: str, height: float) -> Part:
    """A scarf: a thick ring around the neck."""
    azimuth = np.linspace(-np.pi, np.pi, 36, endpoint=False)
    y = height + 0.012 * np.sin(azimuth + rng.uniform(0, 6)) - 0.03 * np.cos(azimuth)
    ring = surfaces.neck_ring(azimuth, y)
    middle = ring.mean(axis=0) * (1, 0, 1)
    out = (ring - middle) * (1, 0, 1)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    bulk = radius * (1 + 0.2 * np.sin(3 * azimuth + rng.uniform(0, 6)))
    return _part(*surfaces.tube(ring + out * radius * 0.7, bulk, 14, closed=True), paint)


def _part(
    points: FloatArray, faces: NDArray[np.int32], paint: str, weights: NDArray[np.float32] | None = None
) -> Part:
    return Part(points.astype(np.float32), faces, paint, weights)


def _head_part(points: FloatArray, faces: NDArray[np.int32], paint: str, soft: bool = False) -> Part:
    """A part that turns with the head; a `soft` one less and less towards its lower end."""
    model = body()
    weights = np.zeros((len(points), len(model.joint_names)), np.float32)
    share = np.ones(len(points))
    if soft:
        share = np.clip(0.25 + 0.75 * (points[:, 1] + 0.08) / 0.18, 0.25, 1)
    weights[:, model.joint("head")] = share
    weights[:, model.joint("chest")] = 1 - share
    return _part(points, faces, paint, weights)


def _normals() -> FloatArray:
    from phq_data.rendering.renderer import vertex_normals

    model = body()
    return vertex_normals(model.vertices.astype(np.float64), model.faces)


def _noise(points: FloatArray, rng: np.random.Generator, frequency: float) -> FloatArray:
    """Smooth noise in about -1..1 at points [N, 3]; `frequency` in radians a metre... of wave number."""
    waves = rng.normal(0, frequency, (5, 3))
    phase = rng.uniform(0, 2 * np.pi, 5)
    return np.asarray(np.sin(points @ waves.T + phase).mean(axis=1) * 1.6)

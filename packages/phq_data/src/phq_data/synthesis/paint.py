"""Colors of surfaces: skin with a face on it, hair, cloth. All are functions of a point on the surface.

Colors are sRGB-like values in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from phq_data.arrays import Float32Array
from phq_data.synthesis.figure import body
from phq_data.synthesis.wardrobe import Hair, Outfit, covered, neckline_height

Color = tuple[float, float, float]

SKINS: tuple[Color, ...] = (
    (0.95, 0.80, 0.72), (0.93, 0.75, 0.64), (0.88, 0.69, 0.56), (0.82, 0.62, 0.47), (0.76, 0.55, 0.40),
    (0.66, 0.46, 0.33), (0.55, 0.37, 0.26), (0.44, 0.29, 0.21), (0.34, 0.22, 0.16), (0.26, 0.17, 0.13),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (0.06, 0.05, 0.05), (0.12, 0.09, 0.07), (0.20, 0.13, 0.09), (0.32, 0.21, 0.13), (0.45, 0.30, 0.17),
    (0.66, 0.50, 0.30), (0.80, 0.68, 0.47), (0.50, 0.22, 0.10), (0.55, 0.54, 0.53), (0.85, 0.84, 0.82),
    (0.35, 0.15, 0.45), (0.20, 0.45, 0.60),
)  # fmt: skip
HAIR_SHARES = np.array([0.2, 0.17, 0.14, 0.12, 0.09, 0.07, 0.06, 0.04, 0.05, 0.03, 0.015, 0.015])
PATTERNS = ("plain", "rings", "stripes", "checks", "dots", "blotches", "print", "fade", "knit")


@dataclass(frozen=True)
class Pattern:
    """How cloth is colored."""

    kind: str = "plain"  # of `PATTERNS`
    colors: tuple[Color, ...] = ((0.5, 0.5, 0.5), (0.8, 0.8, 0.8), (0.2, 0.2, 0.2))
    scale: float = 0.05  # metres
    seed: int = 0

    def at(self, points: Float32Array) -> Float32Array:
        """Colors [N, 3] at points [N, 3] of the neutral body's frame, metres."""
        first, second, third = (np.array(c, np.float32) for c in self.colors)
        x, y, z = points[:, 0], points[:, 1], points[:, 2]
        step = 1.0 / self.scale
        match self.kind:
            case "rings":
                mix = _edge(np.sin(2 * np.pi * y * step))
            case "stripes":
                mix = _edge(np.sin(2 * np.pi * (x + 0.3 * z) * step))
            case "checks":
                across, down = _edge(np.sin(2 * np.pi * (x + z) * step)), _edge(np.sin(2 * np.pi * y * step))
                mix = 0.5 * (across + down)
            case "dots":
                cell = np.hypot(np.mod(x * step + 0.5, 1) - 0.5, np.mod(y * step + 0.5, 1) - 0.5)
                mix = np.clip((0.28 - cell) * 12, 0, 1)
            case "blotches":
                mix = _edge(smooth_noise(points, self.seed, 2.2 * step))
                other = _edge(smooth_noise(points, self.seed + 1, 2.8 * step) - 0.25)
                base = first + (second - first) * mix[:, None]
                return np.asarray(base + (third - base) * other[:, None], np.float32)
            case "print":
                inside = (np.abs(x) < 0.10) & (np.abs(y + 0.21) < 0.07) & (z > 0)
                noise = _edge(smooth_noise(points, self.seed, 90.0))
                base = np.where(inside[:, None], second + (third - second) * noise[:, None], first)
                return np.asarray(base, np.float32)
            case "fade":
                mix = np.clip((y + 0.45) / 0.45, 0, 1)
            case "knit":
                mix = 0.25 + 0.2 * np.sin(900 * y) * np.sin(600 * (x + z))
            case _:
                mix = np.zeros(len(points), np.float32)
        return np.asarray(first + (second - first) * mix[:, None].astype(np.float32), np.float32)


@dataclass(frozen=True)
class Appearance:
    """The colors of a person."""

    skin: Color = SKINS[3]
    hair: Color = HAIRS[2]
    iris: Color = (0.25, 0.15, 0.08)
    lips: float = 0.4  # how much redder than the skin
    brows: float = 0.7
    beard: float = 0.0  # 0 none .. 1 full
    face_mask: float = 0.0  # 1 = a medical mask
    makeup: float = 0.0
    top: Pattern = field(default_factory=Pattern)
    under: Pattern = field(default_factory=Pattern)  # below an open jacket
    bottom: Pattern = field(default_factory=Pattern)
    hat: Pattern = field(default_factory=Pattern)
    accent: Pattern = field(default_factory=Pattern)  # collar, scarf, what is held


def paint(
    name: str, rest: Float32Array, extra: Float32Array, appearance: Appearance, outfit: Outfit, hair: Hair
) -> Float32Array:
    """Colors [N, 3] of pixels on parts painted as `name`.

    `rest` [N, 3] are points of the neutral body's frame. `extra` [N, 3] is, on the body: position along
    the arm, share of eyeball, share of scalp.
    """
    match name:
        case "body":
            return _body(rest, extra, appearance, outfit, hair)
        case "hair":
            strand = smooth_noise(rest * _f32([3, 0.6, 3]), hair.seed, 95.0)
            shade = 0.9 + 0.07 * strand + 0.06 * smooth_noise(rest, hair.seed + 1, 25.0)
            return np.asarray(np.array(appearance.hair, np.float32) * shade[:, None], np.float32)
        case "hat":
            return appearance.hat.at(rest)
        case "hat_trim":
            return np.asarray(np.broadcast_to(_f32(appearance.hat.colors[1]), rest.shape) * np.float32(0.9))
        case "skirt":
            return appearance.bottom.at(rest)
        case "scarf" | "held":
            return appearance.accent.at(rest)
        case "collar":
            return appearance.top.at(rest) if outfit.neckline != "jacket" else appearance.under.at(rest)
        case "lens":
            return np.full(rest.shape, 0.04, np.float32)
        case _:
            return np.full(rest.shape, 0.10, np.float32)


def _body(
    rest: Float32Array, extra: Float32Array, appearance: Appearance, outfit: Outfit, hair: Hair
) -> Float32Array:
    x, y, z = rest[:, 0], rest[:, 1], rest[:, 2]
    skin = np.array(appearance.skin, np.float32)
    color = np.broadcast_to(skin, rest.shape) * (1 + 0.04 * smooth_noise(rest, 5, 60.0))[:, None]
    head = np.flatnonzero(y > -0.02)
    if len(head):
        color[head] = _face(rest[head], extra[head], color[head], appearance, hair)
    inside = covered(rest, extra[:, 0], outfit)
    below = y < np.float32(-0.375) if outfit.skirt <= 0 else y < np.float32(-0.33)
    legs = below & (extra[:, 0] < 0)
    top = np.flatnonzero((inside > 0) & ~legs)
    cloth = appearance.top.at(rest[top])
    if outfit.neckline == "jacket":
        opening = (np.abs(x[top]) < 0.03 + 0.16 * (y[top] + 0.36)) & (z[top] > 0.02)
        cloth[opening] = appearance.under.at(rest[top[opening]])
    hem = np.clip(inside[top] / 0.006, 0, 1).astype(np.float32)[:, None]
    color[top] = color[top] * (1 - hem) + cloth * (hem * (0.8 + 0.2 * np.clip(hem * 3 - 1, 0, 1)))
    bare = outfit.skirt > 0
    leg = np.flatnonzero(legs & (y < (-1.30 if bare else 9)))
    color[leg] = appearance.bottom.at(rest[leg])
    if outfit.neckline == "jacket":  # the shirt under the jacket reaches the neck
        shirt = np.flatnonzero(
            (inside <= 0) & (rest[:, 1] < neckline_height(z) - 0.015) & (extra[:, 0] < 0.5)
        )
        color[shirt] = appearance.under.at(rest[shirt])
    return np.asarray(color, np.float32)


def _face(
    rest: Float32Array, extra: Float32Array, color: Float32Array, appearance: Appearance, hair: Hair
) -> Float32Array:
    """Eyes, brows, lips, cheeks, beard and what hair is only painted."""
    x, y, z = rest[:, 0], rest[:, 1], rest[:, 2]
    skin, dark = np.array(appearance.skin, np.float32), np.array(appearance.hair, np.float32)
    model = body()
    nose = model.landmarks[model.landmark("nose")].astype(np.float32)
    eye = model.landmarks[model.landmark("left_eye")].astype(np.float32)
    side = np.abs(x)
    front = z > 0.05

    def blend(color: Float32Array, amount: np.ndarray, paint: np.ndarray) -> Float32Array:
        return np.asarray(
            color + np.clip(amount, 0, 1)[:, None].astype(np.float32) * (paint - color), np.float32
        )

    red = skin * _f32([0.80, 0.42, 0.42]) + _f32([0.12, 0.02, 0.03])
    cheek = np.exp(-(((side - 0.042) / 0.02) ** 2) - ((y - nose[1] - 0.005) / 0.02) ** 2) * front
    tip = np.exp(-((side / 0.014) ** 2) - ((y - nose[1]) / 0.014) ** 2) * front
    ear = np.clip((side - 0.072) / 0.006, 0, 1) * (y > 0.1)
    color = blend(color, (0.20 + 0.25 * appearance.makeup) * cheek + 0.16 * tip + 0.14 * ear, red)
    socket = np.exp(-(((side - eye[0]) / 0.020) ** 2) - ((y - eye[1]) / 0.011) ** 2) * front
    color = blend(color, (0.30 + 0.3 * appearance.makeup) * socket, skin * np.float32(0.45))
    mouth_y = nose[1] - 0.0435
    curve = 1 - (side / 0.027) ** 2
    lips = np.clip(curve, 0, 1) * np.clip(
        1.3 - np.abs(y - mouth_y) / (0.010 * np.sqrt(np.clip(curve, 0.01, 1))), 0, 1
    )
    color = blend(color, (0.35 + 0.6 * appearance.lips) * np.clip(2 * lips, 0, 1) * (z > 0.07), red)
    gap = (np.abs(y - mouth_y) < 0.0016) & (side < 0.024) & (z > 0.07)
    color = blend(color, 0.75 * gap, skin * np.float32(0.25))
    nostril = np.exp(-(((side - 0.008) / 0.004) ** 2) - ((y - nose[1] + 0.011) / 0.0035) ** 2) * (z > 0.1)
    color = blend(color, 0.75 * nostril, skin * np.float32(0.2))
    arch = (
        eye[1] + 0.0215 + 0.006 * np.clip((side - 0.012) / 0.03, 0, 1) - 30 * np.clip(side - 0.044, 0, 1) ** 2
    )
    brow = (
        (np.abs(y - arch) < 0.0045 - 0.05 * np.clip(side - 0.04, 0, 0.05)) & (side > 0.011) & (side < 0.054)
    )
    color = blend(color, appearance.brows * brow * (z > 0.06), dark * np.float32(0.8))
    if appearance.beard > 0:
        reach = nose[1] - 0.020 - 0.35 * np.clip(0.06 - z, 0, 1)
        chin = np.clip(
            (np.interp(side, [0, 0.03, 0.06, 0.075], [0, -0.004, 0.018, 0.045]) + reach - y) / 0.006, 0, 1
        )
        grows = chin * (y > 0.025) * (z > 0.005) * (1 - np.clip(3 * lips, 0, 1))
        stubble = 0.85 + 0.1 * smooth_noise(rest, 9, 300.0)
        color = blend(color, appearance.beard * grows * stubble, dark)
    if hair.style != "none":
        growth = 0.55 if hair.style == "receding" else (0.85 if hair.style == "buzz" else 0.95)
        color = blend(color, growth * np.clip(extra[:, 2] * 2 - 0.5, 0, 1), dark)
    ball = np.flatnonzero(extra[:, 1] > 0.5)
    if len(ball):
        away = np.linalg.norm(np.stack([side[ball], y[ball], z[ball]], 1) - eye, axis=1)
        white = np.where((away < 0.0061)[:, None], _f32(appearance.iris), _f32([0.90, 0.88, 0.86]))
        color[ball] = np.where((away < 0.0026)[:, None], np.float32(0.02), white)
    if appearance.face_mask > 0:
        cover = (y < nose[1] + 0.012) & (y > 0.055) & (z > 0.02)
        color[cover] = _f32(appearance.accent.colors[0]) * 0.4 + 0.5
    return color


def smooth_noise(points: np.ndarray, seed: int, frequency: float) -> Float32Array:
    """Smooth noise of about unit spread at points [N, 3]; `frequency` is a wave number per metre."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, frequency, (4, 3)).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, 4).astype(np.float32)
    return np.asarray(np.sin(points.astype(np.float32) @ waves.T + phase).sum(axis=1) * np.float32(0.7))


def _f32(values: Sequence[float]) -> Float32Array:
    return np.array(values, np.float32)


def _edge(value: np.ndarray) -> np.ndarray:
    """A soft 0/1 edge where `value` crosses zero."""
    return np.clip(value * 3 + 0.5, 0, 1)

"""HDR and wide-gamut pictures to sRGB, by the code points that PNG, AVIF and HEIC share (CICP, ITU-T H.273).

HDR is tone-mapped the same way in every container:

    light      PQ: ITU-R BT.2100 table 4 (SMPTE ST 2084), 0..10,000 cd/m2
               HLG: BT.2100 table 5, with its OOTF for a display of 1,000 cd/m2 (gamma 1.2)
    peak       the picture's own brightest value, L_W
    curve      the EETF of ITU-R BT.2390 section 5.4.1 in the PQ domain: e = PQ(light) / PQ(L_W),
               m = PQ(203) / PQ(L_W), knee KS = 1.5 m - 0.5; below the knee light stays as it is, above it
               P(e) = (2t^3 - 3t^2 + 1) KS + (t^3 - 2t^2 + t)(1 - KS) + (3t^2 - 2t^3) m, t = (e - KS)/(1 - KS)
    white      203 cd/m2, the reference white of ITU-R BT.2408, becomes 255
    hue        the curve is applied to max(R, G, B), and all three are scaled alike
    gamut      linear primaries to BT.709 by matrix, clipped to 0..1, then sRGB's curve

A picture that is no brighter than reference white comes out as if it had been stored as sRGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REFERENCE_WHITE = 203.0
"""cd/m2 (BT.2408)."""
HDR: Mapping[int, str] = {16: "PQ", 18: "HLG"}
"""Transfer characteristics that are HDR."""
_SDR = frozenset({1, 2, 6, 13, 14, 15})
"""Those that are read as sRGB's curve, as browsers do: BT.709, BT.601, sRGB, BT.2020, and not stated."""
_PRIMARIES: Mapping[int, tuple[str, tuple[float, ...]]] = {
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
}
"""x and y of red, green and blue; the white of all is D65."""
_SRGB = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
_D65 = (0.3127, 0.3290)
_ROWS = 128  # of a picture that are in memory as floats
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # BT.2100 table 4
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073  # BT.2100 table 5
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Cicp:
    """What a file says of its colors (H.273): code points of primaries and of the transfer function."""

    primaries: int
    transfer: int

    @property
    def changes_colors(self) -> bool:
        """Do the pixels mean something else than sRGB?"""
        return self.transfer in HDR or (self.primaries in _PRIMARIES and self.transfer in _SDR)


def cicp_of(data: bytes, kind: str, info: Mapping[str, Any]) -> Cicp | None:
    """The code points in a file of the format `kind`; `info` is what its reader found (HEIC). None: none."""
    if kind == "PNG":
        at = data.find(b"cICP", 8, data.find(b"IDAT", 8))
        return Cicp(data[at + 4], data[at + 5]) if at >= 0 else None
    if kind == "AVIF":
        at = data.find(b"colrnclx")
        if at < 0:
            return None
        numbers = (int.from_bytes(data[at + place : at + place + 2], "big") for place in (8, 10))
        return Cicp(*numbers)
    if profile := info.get("nclx_profile"):
        return Cicp(int(profile["color_primaries"]), int(profile["transfer_characteristics"]))
    return None


def wins(cicp: Cicp | None, kind: str, has_profile: bool) -> bool:
    """Do the code points speak for the colors, rather than an ICC profile that is there too?

    In PNG they always do (third edition, section 4.3); in HEIC and AVIF a profile does (ISO/IEC 23000-22),
    unless the picture is HDR, which no profile of ours describes.
    """
    return (
        cicp is not None
        and cicp.changes_colors
        and (kind == "PNG" or not has_profile or cicp.transfer in HDR)
    )


def to_srgb(image: Image.Image, cicp: Cicp) -> tuple[Image.Image, str]:
    """An RGB picture in sRGB, and what was done, in words."""
    space, primaries = _PRIMARIES.get(cicp.primaries, ("BT.709", _SRGB))
    matrix = (np.linalg.inv(_to_xyz(_SRGB)) @ _to_xyz(primaries)).astype(np.float32)
    codes = np.arange(256, dtype=np.float32) / 255
    peak = 0.0
    if cicp.transfer in HDR:
        brightest = max(int(top) for _, top in image.getextrema())  # type: ignore[misc]
        white = np.full((1, 3), codes[brightest], np.float32)
        peak = float(_light(white, cicp.transfer).max())
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        strip = np.asarray(image.crop((0, top, width, min(top + _ROWS, height))))
        pixels[top : top + _ROWS] = _strip(codes[strip], cicp.transfer, matrix, peak)
    name = f"{HDR[cicp.transfer]}, " if cicp.transfer in HDR else ""
    done = f"tone-mapped from a peak of {peak:.0f} cd/m2" if peak else "converted to sRGB"
    return Image.fromarray(pixels), f"{name}{space} {done}"


def _strip(signal: Array, transfer: int, matrix: Array, peak: float) -> NDArray[np.uint8]:
    """sRGB [H, W, 3] of signal values 0..1 [H, W, 3]."""
    if transfer in HDR:
        light = _light(signal, transfer)
        most = light.max(axis=-1, keepdims=True)
        light *= _eetf(most, peak) / np.maximum(most, 1e-6) / REFERENCE_WHITE
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    linear = np.clip(light @ matrix.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255 + 0.5).astype(np.uint8)


def _light(signal: Array, transfer: int) -> Array:
    """Light of a display in cd/m2 [..., 3] of signal values 0..1 [..., 3]."""
    if HDR[transfer] == "PQ":
        root = signal ** np.float32(1 / _M2)
        return np.asarray(10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1), np.float32)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return np.asarray(_HLG_PEAK * luminance[..., None] ** (_HLG_GAMMA - 1) * scene, np.float32)


def _eetf(light: Array, peak: float) -> Array:
    """Light of the brighter display on one that ends at reference white, cd/m2 (BT.2390 section 5.4.1)."""
    if peak <= REFERENCE_WHITE:
        return light
    top = float(_pq(np.array(peak)))
    most = float(_pq(np.array(REFERENCE_WHITE))) / top
    knee = 1.5 * most - 0.5
    e = _pq(light) / top
    t = np.clip((e - knee) / (1 - knee), 0, 1)
    bent = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    )
    root = (np.where(e < knee, e, bent) * top) ** (1 / _M2)
    return np.asarray(10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1), np.float32)


def _pq(light: NDArray[Any]) -> NDArray[Any]:
    """The PQ signal 0..1 of light in cd/m2."""
    power = (np.maximum(light, 0) / 10_000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _to_xyz(primaries: tuple[float, ...]) -> NDArray[np.float64]:
    """The matrix [3, 3] from linear RGB to XYZ of these primaries and D65 (SMPTE RP 177)."""
    places = [*zip(primaries[::2], primaries[1::2], strict=True), _D65]
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in places]).T
    scale = np.linalg.solve(columns[:, :3], columns[:, 3])
    return np.asarray(columns[:, :3] * scale)

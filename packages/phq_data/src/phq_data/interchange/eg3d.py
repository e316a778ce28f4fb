"""Zip pairs: images with `dataset.json` in one, masks under the same paths in the other."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from phq_data import camera
from phq_data.foreign import first_line, parse_json, read_member
from phq_data.images.codecs import decode_struct, encode_image, image_struct
from phq_data.interchange.portrait import (
    ExchangeError,
    ReferencePortrait,
    from_numbers,
    labels_of,
    to_numbers,
)

LABELS = "dataset.json"
# Zip entries carry a time; a fixed one makes equal portraits give equal files.
_TIME = (1980, 1, 1, 0, 0, 0)


def write_pair(
    portraits: Iterable[ReferencePortrait], images: Path, masks: Path, *, mirror: bool = False
) -> int:
    """Write a zip pair and return the number of images. Both files appear whole or not at all.

    `mirror` adds every image left-right mirrored with its mirrored label, for trainers that cannot. PNG
    bytes are passed on as they are, other formats are written as PNG, which loses nothing.
    """
    parts = [path.with_name(f".{path.name}.part") for path in (images, masks)]
    labels: list[list[object]] = []
    try:
        with zipfile.ZipFile(parts[0], "w") as archive, zipfile.ZipFile(parts[1], "w") as alphas:
            for portrait in portraits:
                for one in (portrait, mirrored(portrait)) if mirror else (portrait,):
                    count = len(labels)
                    path = f"{count // 1000:010d}/{count:010d}.png"
                    labels.append([path, to_numbers(one.camera, one.pose)])
                    archive.writestr(zipfile.ZipInfo(path, _TIME), _png(one.image, one.name))
                    alphas.writestr(zipfile.ZipInfo(path, _TIME), _png(one.mask, one.name))
            if not labels:
                raise ExchangeError("there is no portrait to write")
            text = json.dumps({"labels": labels})
            for zipped in (archive, alphas):
                zipped.writestr(zipfile.ZipInfo(LABELS, _TIME), text)
        for part, whole in zip(parts, (images, masks), strict=True):
            part.replace(whole)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return len(labels)


def read_pair(images: Path, masks: Path) -> Iterator[ReferencePortrait]:
    """The portraits of a zip pair in the order of their paths.

    Raises `ExchangeError` for a file that is no such zip, an image without label or without mask, and a
    label of another camera.
    """
    with _open(images) as archive, _open(masks) as alphas:
        try:
            labels = labels_of(parse_json(read_member(archive, LABELS), finite=False), f"{images}: {LABELS}")
        except KeyError:
            raise ExchangeError(f"{images} has no {LABELS}") from None
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise ExchangeError(f"{images}: {LABELS} is damaged ({error})") from error
        there = {name for name in archive.namelist() if not name.endswith((".json", "/"))}
        for fault, names in (
            ("has no label", there - set(labels)),
            ("is not in the zip", set(labels) - there),
            (f"has no mask in {masks}", there - set(alphas.namelist())),
        ):
            if names:
                raise ExchangeError(f"{images}: {sorted(names)[0]} {fault} ({len(names)} in all)")
        for name in sorted(there):
            label, pose = from_numbers(labels[name], name)
            try:
                image, mask = (read_member(one, name) for one in (archive, alphas))
                yield ReferencePortrait(name, image, mask, label, pose)
            except (zipfile.BadZipFile, OSError) as error:
                raise ExchangeError(f"{images}: {name} is damaged ({error})") from error


def mirrored(portrait: ReferencePortrait) -> ReferencePortrait:
    """The same portrait seen in a mirror."""
    flipped = []
    for data in (portrait.image, portrait.mask):
        pixels = decode_struct(image_struct(data, portrait.name))
        flipped.append(encode_image(camera.mirror_image(pixels), "png")[0])
    label = camera.mirror_label(portrait.camera)
    pose = camera.mirror_pose(portrait.pose).astype("float32")
    return ReferencePortrait(f"{portrait.name} mirrored", flipped[0], flipped[1], label, pose)


def _png(data: bytes, name: str) -> bytes:
    if data.startswith(b"\x89PNG"):
        return data
    return encode_image(decode_struct(image_struct(data, name)), "png")[0]


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ExchangeError(f"there is no file {path}") from None
    except Exception as error:  # a damaged directory fails in many ways
        raise ExchangeError(f"{path} is no readable zip ({first_line(error)})") from error

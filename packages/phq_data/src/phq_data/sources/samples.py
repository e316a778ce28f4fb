"""The real photos that come with packages which are here anyway: something to look at without any download.

Packages are found without importing them. What is not installed is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phq_data.sources import Provenance, SourceError, SourceFile


@dataclass(frozen=True)
class _Sample:
    name: str
    package: str
    path: str  # inside the package
    provenance: Provenance


_UNKNOWN = Provenance(
    rights_checked_at="2026-11-23",
    rights_evidence="shipped in the ultralytics package (AGPL-3.0), which does not say who took the photo "
    "nor under which terms: for trials on this machine, not for a release",
)

SAMPLES = (
    _Sample(
        "astronaut.png",
        "skimage",
        "data/astronaut.png",
        Provenance(
            page_url="https://flic.kr/p/r9qvLn",
            title="Eileen Collins",
            author="NASA",
            license="PDM-1.0",
            license_url="https://creativecommons.org/publicdomain/mark/1.0/",
            rights_checked_at="2026-11-23",
            rights_evidence="scikit-image, documentation of skimage.data.astronaut: from the NASA Great "
            "Images database, no known copyright restrictions, released into the public domain",
        ),
    ),
    _Sample(
        "camera.png",
        "skimage",
        "data/camera.png",
        Provenance(
            page_url="https://github.com/scikit-image/scikit-image/issues/3927",
            title="Camera",
            author="Lav Varshney",
            license="CC0-1.0",
            license_url="https://creativecommons.org/publicdomain/zero/1.0/",
            rights_checked_at="2026-11-23",
            rights_evidence="scikit-image, documentation of skimage.data.camera: no copyright restrictions, "
            "CC0 by the photographer",
        ),
    ),
    _Sample("bus.jpg", "ultralytics", "assets/bus.jpg", _UNKNOWN),
    _Sample("zidane.jpg", "ultralytics", "assets/zidane.jpg", _UNKNOWN),
)
"""NASA's portrait of an astronaut (front), a man at his camera in profile (grey), two street photos."""

_SCHEME = "sample:"


class SamplesSource:
    """The photos of `SAMPLES` whose package is installed, in the order of their names."""

    provider = "samples"
    spec = "samples"

    def __init__(self) -> None:
        self._paths = {sample.name: path for sample in SAMPLES if (path := _find(sample))}
        if not self._paths:
            raise SourceError(
                "no sample photos are installed; they come with scikit-image: install phq-data[pipeline]"
            )

    def files(self) -> Iterator[SourceFile]:
        """Every installed sample. Its uri says nothing of this machine, so workspaces are comparable."""
        for sample in sorted(SAMPLES, key=lambda sample: sample.name):
            if path := self._paths.get(sample.name):
                yield SourceFile(_SCHEME + sample.name, path.stat().st_size, provenance=sample.provenance)

    def open(self, file: SourceFile) -> BinaryIO:
        """The bytes of a sample. Raises `OSError`."""
        name = file.uri.removeprefix(_SCHEME)
        if name not in self._paths:
            raise FileNotFoundError(f"the sample photo '{name}' is not installed")
        return self._paths[name].open("rb")


def _find(sample: _Sample) -> Path | None:
    spec = importlib.util.find_spec(sample.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / sample.path
        if path.is_file():
            return path
    return None

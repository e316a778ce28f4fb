"""Synthetic photos: rendered people whose camera, pose, keypoints and mask are known.

Photo i of a seed depends on the seed and i alone: a longer series begins with the shorter one. Everything in
the pictures is made here from the free body model, so they may be used and published without conditions.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from phq_data.sources import Provenance, SourceError, SourceFile

RIGHTS = Provenance(
    title="Synthetic portrait",
    author="PHQ",
    licence="CC0-1.0",
    licence_url="https://creativecommons.org/publicdomain/zero/1.0/",
    rights_evidence="rendered by PHQ from CC0 data; shows no real person",
)
"""What holds for every synthetic photo that has no photo of the user in its background."""
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


class SyntheticSource:
    """`count` photos of series `seed`, rendered when they are opened."""

    provider = "synthetic"

    def __init__(self, spec: str, count: int, seed: int) -> None:
        if count < 1 or seed < 0:
            raise SourceError(f"'{spec}': the number of photos starts at 1, the seed at 0")
        self.spec, self.count, self.seed = spec, count, seed

    def files(self) -> Iterator[SourceFile]:
        """`synthetic:COUNT@SEED#INDEX` for every photo."""
        for index in range(self.count):
            yield SourceFile(f"synthetic:{self.count}@{self.seed}#{index}", provenance=RIGHTS)

    def open(self, file: SourceFile) -> BinaryIO:
        """Render one photo (about a quarter of a second)."""
        from phq_data.synthesis.photograph import take

        try:
            index = int(file.uri.rpartition("#")[2])
        except ValueError:
            raise OSError(f"{file.uri} is no synthetic photo: it names no index") from None
        return io.BytesIO(take(self.seed, index).jpeg)


def synthesize(
    out: str | Path,
    count: int,
    seed: int = 0,
    *,
    backgrounds: str | Path | None = None,
    jobs: int = 1,
    on_photo: Callable[[], object] = lambda: None,
) -> int:
    """Write `count` photos to OUT/photos and their truth to OUT/truth.parquet; the number of people.

    `backgrounds` is a folder of the user's own photos; half of the pictures then show one behind the person,
    and they carry no licence, since we know none. Truth is written last: while there is none, the photos are
    unfinished. Raises `SourceError`.
    """
    from phq_data.synthesis.truth import write_truth

    if count < 1 or seed < 0:
        raise SourceError(f"the number of photos starts at 1 and the seed at 0, got {count} and {seed}")
    target = Path(out)
    photos = target / "photos"
    behind = _photos_in(Path(backgrounds)) if backgrounds is not None else []
    try:
        photos.mkdir(parents=True, exist_ok=True)
        (target / "truth.parquet").unlink(missing_ok=True)
        if behind:
            rights = {"author": "PHQ and the authors of the background photos", "title": RIGHTS.title}
        else:
            rights = {key: value for key, value in vars(RIGHTS).items() if value is not None}
        (photos / "rights.json").write_text(json.dumps(rights, indent=2))
        work = partial(_one, photos, seed, behind)
        rows: list[dict[str, Any]] = []
        if jobs <= 1:
            for index in range(count):
                rows += work(index)
                on_photo()
        else:
            with ProcessPoolExecutor(jobs) as pool:
                for found in pool.map(work, range(count), chunksize=4):
                    rows += found
                    on_photo()
        return write_truth(target / "truth.parquet", rows)
    except OSError as error:
        raise SourceError(f"cannot write to {target}: {error}") from error


def _one(photos: Path, seed: int, behind: Sequence[Path], index: int) -> list[dict[str, Any]]:
    """Take, write and describe one photo."""
    from phq_data.synthesis.photograph import take
    from phq_data.synthesis.truth import truth_rows

    photo = take(seed, index, behind)
    path = photos / f"{index:06d}.jpg"
    path.write_bytes(photo.jpeg)
    return truth_rows(photo, seed, index, path.name)


def _photos_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        raise SourceError(f"{folder} holds no background photos ({', '.join(sorted(PHOTO_SUFFIXES))})")
    return found

"""Synthetic photos: rendered people whose camera, pose, keypoints and mask are known.

Photo i of a seed depends on the seed and i alone: a longer series begins with the shorter one. Everything in
the images is made here from the free body model, so they may be used and published without conditions.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

from phq_data import records
from phq_data.files import file_sha256, write_text, writing
from phq_data.process_pool import end_with_parent
from phq_data.sources import Provenance, SourceError, SourceFile
from phq_data.synthesis.people import Variety
from phq_data.views import write_views

RIGHTS = Provenance(
    title="Synthetic portrait",
    author="PHQ",
    license="CC0-1.0",
    license_url="https://creativecommons.org/publicdomain/zero/1.0/",
    rights_evidence="rendered by PHQ from CC0 data; shows no real person",
)
"""What holds for every synthetic photo that has no photo of the user in its background."""
LARGEST_SEED = 2**63 - 1
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


class SyntheticSource:
    """`count` photos of series `seed`, rendered when they are opened."""

    provider = "synthetic"

    def __init__(self, spec: str, count: int, seed: int) -> None:
        if count < 1 or not 0 <= seed <= LARGEST_SEED:
            raise SourceError(
                f"'{spec}': the number of photos starts at 1, the seed at 0 and ends at {LARGEST_SEED}"
            )
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
    views: int = 1,
    variety: Variety = "usual",
    on_photo: Callable[[], object] = lambda: None,
) -> int:
    """Write `count` photos to OUT/photos and their truth to OUT/truth.parquet; the number of people.

    `variety` says which people and cameras: those of the accuracy series, or wider ones (`synthesis.people`).
    With `views` of 2 and more they are `count` instants, each seen by that many calibrated cameras
    (OUT/views.json), instant by instant.

    `backgrounds` is a folder of the user's own photos; half of the images then show one behind the person,
    and they carry no license, since we know none. Truth is written last: while there is none, the photos are
    unfinished, and the same call goes on where the last one was stopped. A folder holds one series; a shorter
    one replaces a longer one of the same seed. Raises `SourceError`.
    """
    import pyarrow as pa
    from filelock import FileLock, Timeout

    from phq_data.synthesis.multiview import MAX_VIEWS, views_of
    from phq_data.synthesis.truth import read_truth, write_truth

    if count < 1 or not 0 <= seed <= LARGEST_SEED:
        raise SourceError(
            f"the number of photos starts at 1, the seed at 0 and ends at {LARGEST_SEED}, "
            f"got {count} and {seed}"
        )
    if not 1 <= views <= MAX_VIEWS:
        raise SourceError(f"the number of views is 1 to {MAX_VIEWS}, not {views}")
    instants, count = count, count * views
    target = Path(out)
    photos, parts = target / "photos", target / "parts"
    behind = _photos_in(Path(backgrounds)) if backgrounds is not None else []
    try:
        photos.mkdir(parents=True, exist_ok=True)
        with FileLock(target / ".lock", timeout=0):
            _claim(target, seed, behind, views, variety)
            if views > 1:
                write_views(target / "views.json", views_of(seed, instants, views))
            if known := _finished(target, count):
                shutil.rmtree(parts, ignore_errors=True)
                for _ in range(count):
                    on_photo()
                return known
            (target / "truth.parquet").unlink(missing_ok=True)
            parts.mkdir(exist_ok=True)
            (photos / "rights.json").write_text(json.dumps(_rights(behind), indent=2))
            work = partial(_one, photos, parts, seed, behind, views, variety)
            if jobs <= 1:
                for index in range(count):
                    work(index)
                    on_photo()
            else:
                with ProcessPoolExecutor(min(jobs, count), initializer=end_with_parent) as pool:
                    for _ in pool.map(work, range(count)):
                        on_photo()
            people = pa.concat_tables([read_truth(_part(parts, index)) for index in range(count)])
            _shorten(photos, count)
            written = write_truth(target / "truth.parquet", people.combine_chunks())
            shutil.rmtree(parts, ignore_errors=True)
            return written
    except Timeout:
        raise SourceError(f"{target} is being written by another program: wait for it") from None
    except OSError as error:
        raise SourceError(f"cannot write to {target}: {error}") from error


def _rights(behind: Sequence[Path]) -> dict[str, str]:
    """What holds for the photos, as `rights.json` says it."""
    if behind:
        return {"author": "PHQ and the authors of the background photos", "title": str(RIGHTS.title)}
    return {key: value for key, value in vars(RIGHTS).items() if value is not None}


def _claim(target: Path, seed: int, behind: Sequence[Path], views: int, variety: Variety) -> None:
    """Remember whose photos `target` holds. Raises `SourceError` if it holds others."""
    digests = [[path.name, file_sha256(path)] for path in behind]
    series = {"seed": seed, "backgrounds": digests}
    series |= ({"views": views} if views > 1 else {}) | ({"variety": variety} if variety != "usual" else {})
    note = target / "series.json"
    if note.exists() or any((target / "photos").glob("*.jpg")):
        try:
            same = json.loads(note.read_text()) == series
        except (OSError, ValueError):
            same = False
        if not same:
            raise SourceError(
                f"{target} holds other photos, of another seed or variety, of other views or with other "
                "backgrounds: choose another folder, or delete this one"
            )
        return
    _check(behind)
    write_text(note, json.dumps(series))


def _check(behind: Sequence[Path]) -> None:
    """Can all background photos be read? All that cannot are named at once. Raises `SourceError`."""
    from phq_data.images.codecs import PhotoError, decode
    from phq_data.synthesis.backdrop import MAX_PIXELS

    broken = []
    for path in behind:
        try:
            decode(path.read_bytes(), max_pixels=MAX_PIXELS, max_side=256)
        except (PhotoError, OSError) as error:
            broken.append(f"{path}: {error}")
    if broken:
        named = "; ".join(broken[:5]) + (f"; and {len(broken) - 5} more" if len(broken) > 5 else "")
        raise SourceError(f"background photos cannot be read, take them out of the folder: {named}")


def _finished(target: Path, count: int) -> int:
    """The number of people if the folder holds just these photos and their truth, else 0."""
    from phq_data.schema import SchemaError
    from phq_data.synthesis.truth import read_truth

    try:
        truth = read_truth(target / "truth.parquet", ["uri", "photo_id"])
    except SchemaError:
        return 0
    known = dict(zip(truth["uri"].to_pylist(), truth["photo_id"].to_pylist(), strict=True))
    photos = target / "photos"
    if len(known) != count or {path.name for path in photos.glob("[0-9]*.jpg")} != set(known):
        return 0
    same = all(file_sha256(photos / name) == known[name] for name in known)
    return int(truth.num_rows) if same else 0


def _shorten(photos: Path, count: int) -> None:
    """Take away what a longer call left, or the workers of a killed one."""
    for path in photos.glob("[0-9]*.jpg"):
        if path.stem.isdecimal() and int(path.stem) >= count:
            path.unlink()


def _part(parts: Path, index: int) -> Path:
    """Truth of one photo, until all are there."""
    return parts / f"{index:06d}.parquet"


def _one(
    photos: Path,
    parts: Path,
    seed: int,
    behind: Sequence[Path],
    views: int,
    variety: Variety,
    index: int,
) -> None:
    """Take, write and describe one photo, unless that was done."""
    from phq_data.synthesis.multiview import take_view
    from phq_data.synthesis.photograph import take
    from phq_data.synthesis.truth import true_people, write_truth

    path = photos / f"{index:06d}.jpg"
    if path.exists() and _part(parts, index).exists():
        return
    try:
        if views == 1:
            photo = take(seed, index, behind, variety)
        else:
            photo = take_view(seed, index, views, behind, variety)
    except OSError as error:
        raise SourceError(
            f"a background photo cannot be read ({error}): take it out of the folder"
        ) from error
    with writing(path) as temporary:
        temporary.write_bytes(photo.jpeg)
    people = true_people(photo, seed, index, path.name)
    write_truth(_part(parts, index), records.to_table(records.TruePerson, people))


def _photos_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder} of background photos")
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()
    )
    if not found:
        raise SourceError(f"{folder} holds no background photos ({', '.join(sorted(PHOTO_SUFFIXES))})")
    return found

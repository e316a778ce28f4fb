"""The work of a release's writer in pieces that any process can do which sees workspace and folder.

Each piece is a function of what it is given, gives the same wherever it runs, and may run again. Who runs
them is a `Run`: threads of this process (`here`), or what another package offers (`offer`): Ray and Dask.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phq_data.errors import ReleaseError
from phq_data.release.decoded import Decoded
from phq_data.release.manifest import SPLITS, Images, encoded_digest
from phq_data.release.places import Rows
from phq_data.release.rows import FACTS, Truth, joined, pixel_digests, stored_schema
from phq_data.workspace import Workspace

R = TypeVar("R")


class Run(Protocol):
    """Who does the pieces."""

    @property
    def at_once(self) -> int:
        """How many pieces are done at a time."""
        ...

    def __call__(self, piece: Callable[..., R], calls: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """The results of `piece(*call)`, in the order of the calls, which are asked for as there is room."""
        ...


class Here:
    """Threads of this process."""

    def __init__(self, threads: int) -> None:
        self.at_once = max(1, threads)

    def __call__(self, piece: Callable[..., R], calls: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """The results in order."""
        with ThreadPoolExecutor(self.at_once) as pool:
            yield from in_order((pool.submit(piece, *call) for call in calls), self.at_once, Future.result)


def in_order(futures: Iterator[Any], at_once: int, result: Callable[[Any], R]) -> Iterator[R]:
    """Results in the order of the futures, of which only some are begun before they are needed."""
    begun: deque[Any] = deque()
    for future in futures:
        begun.append(future)
        if len(begun) > 2 * at_once:
            yield result(begun.popleft())
    while begun:
        yield result(begun.popleft())


Runner = Callable[[str, int, str], contextlib.AbstractContextManager[Run]]
"""(runner, workers, address) -> who does the pieces as long as it is entered."""
_OFFERED: dict[str, Runner] = {}


def offer(name: str, runner: Runner) -> None:
    """Make a runner known by its name."""
    _OFFERED[name] = runner


def running(name: str, workers: int, address: str) -> contextlib.AbstractContextManager[Run]:
    """The runner of that name. Raises `ReleaseError` for one that is not there."""
    if name == "inline" and not address:
        return contextlib.nullcontext(Here(workers))
    if name not in _OFFERED:
        known = ", ".join(("inline", *sorted(_OFFERED)))
        raise ReleaseError(f"--runner is one of {known}, not {name!r} (--address goes with ray and dask)")
    return _OFFERED[name](name, workers, address)


# ---- pieces ----------------------------------------------------------------------------------------------


def examine(
    url: str,
    rows: Rows,
    split: NDArray[np.int8],  # [N] of those rows, in the order of their numbers
    decoded: Decoded,
    images: Images,
    truth: Truth,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The numbers [N] of some rows of the workspace, ascending, and their `FACTS` [N].

    Every image is decoded, to be sure of it and for its digest, unless `decoded` has the very same bytes.
    """
    numbers = rows.numbers()
    place = dict(zip(numbers.tolist(), range(len(numbers)), strict=True))
    facts = np.zeros(len(numbers), FACTS)
    for batch in joined(Workspace.open(url), rows):
        for one in batch:
            at = place[one.number]
            image, mask = decoded.find(encoded_digest(one.portrait)) or pixel_digests(one.portrait)
            facts[at] = one.facts(int(split[at]), image, mask, images, truth)
    return numbers, facts


AT = np.dtype([("file", "i4"), ("batch", "i4"), ("row", "i4")])
"""Where a row was put aside; the file -1: nowhere."""


def put_aside(
    url: str,
    rows: Rows,
    shard: NDArray[np.int16],  # [N] of those rows, in the order of their numbers
    facts: NDArray[Any],  # [N]
    folder: str,
    file: int,
    images: Images,
    truth: Truth,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Put rows of the workspace aside, each in the file of its shard (`FOLDER/SHARD-FILE`), in the order of
    the workspace; their numbers [N], ascending, and `AT` [N].
    """
    if not Path(folder).is_dir():
        raise ReleaseError(
            f"a worker does not see {folder}: the workers of a cluster write there, so releases must be in a "
            "folder that all machines share, under the same path"
        )
    kind = stored_schema().remove_metadata()
    numbers = rows.numbers()
    place = dict(zip(numbers.tolist(), range(len(numbers)), strict=True))
    found = np.full(len(numbers), -1, AT)
    batches: dict[int, int] = {}
    files: dict[int, pa.RecordBatchFileWriter] = {}
    with contextlib.ExitStack() as stack:
        for batch in joined(Workspace.open(url), rows):
            by_shard: dict[int, list[dict[str, Any]]] = {}
            for one in batch:
                at = place[one.number]
                own, number = facts[at], int(shard[at])
                listed = by_shard.setdefault(number, [])
                found[at] = (file, batches.get(number, 0), len(listed))
                image, mask = (own[name].tobytes().hex() for name in ("pixels", "mask_pixels"))
                listed.append(one.row(SPLITS[own["split"]], image, mask, images, truth))
            for number, listed in by_shard.items():
                if number not in files:
                    path = aside(folder, number, file)
                    files[number] = stack.enter_context(pa.ipc.new_file(str(path), kind))
                files[number].write_batch(pa.RecordBatch.from_pylist(listed, schema=kind))
                batches[number] = batches.get(number, 0) + 1
    return numbers, found


def aside(folder: str | Path, shard: int, file: int) -> Path:
    """Where rows of a shard are put aside."""
    return Path(folder) / f"{shard}-{file}"

"""How the parts of a build become tasks: a server and its pages do well with some thousand tasks a run.

A small build has a task for every stage of every part. A larger one has tasks that take one or more parts
through all stages. Parts stay the unit of resume: a task that is run again skips those that are done.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from phq_flows import environment

environment.prepare()

from prefect import task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.concurrency.sync import concurrency  # noqa: E402
from prefect.futures import as_completed  # noqa: E402

from phq_data import __version__  # noqa: E402
from phq_data.config import PipelineConfig  # noqa: E402
from phq_data.foreign import parse_json  # noqa: E402
from phq_data.pipeline.engine import PartReport, run_part  # noqa: E402
from phq_data.pipeline.local import PartError  # noqa: E402
from phq_data.process_pool import end_with_parent  # noqa: E402
from phq_data.stages.sequence import STAGE_NAMES  # noqa: E402
from phq_data.workspace.lease import LeaseLostError  # noqa: E402
from phq_flows.cluster import ClusterError  # noqa: E402

MOST_TASKS = 2000
MODEL_STAGES = ("detect", "fit", "align_crop")
"""The stages that run networks: those that a concurrency limit holds for."""


def grouped(parts: Sequence[int]) -> list[list[int]]:
    """The parts of each task; [] where every stage of every part can be a task of its own."""
    if len(parts) * len(STAGE_NAMES) <= MOST_TASKS:
        return []
    size = -(-len(parts) // MOST_TASKS)
    return [list(parts[start : start + size]) for start in range(0, len(parts), size)]


def slot(limit: str, stage: str) -> contextlib.AbstractContextManager[None]:
    """A slot of a concurrency limit of the server, without waiting where it has none of that name.

    A lease, not a limit by the task's tag: the slot of a worker that was killed is free a minute later.
    """
    if not limit or stage not in MODEL_STAGES:
        return contextlib.nullcontext()
    return concurrency(limit, lease_duration=60, strict=False)


@task(task_run_name="parts-{first:05d}-{last:05d}", cache_policy=NO_CACHE, persist_result=False)
def part_group(
    workspace: str,
    settings: str,
    first: int,
    last: int,
    parts: list[int],
    retry_failed: bool,
    version: str,
    limit: str,
    holder: str = "",
) -> list[PartReport | PartError]:
    """Several parts through all stages. A part that breaks is told, and the next one is taken.

    Raises `ClusterError` on a worker of another PHQ than `version`, and `LeaseLostError` when `holder`, the
    build that this is for, does not hold the workspace any more.
    """
    from phq_data.cli.main import main  # noqa: F401 (one numeric thread a worker)

    check_version(version)
    end_with_build()
    config = PipelineConfig.from_dict(parse_json(settings))
    told: list[PartReport | PartError] = []
    for part in parts:
        try:
            for stage in STAGE_NAMES:
                with slot(limit, stage):
                    told.append(
                        run_part(workspace, config, stage, part, retry_failed=retry_failed, holder=holder)
                    )
        except LeaseLostError:  # of all parts that are left
            raise
        except Exception as error:
            told.append(PartError(part, error))
    return told


def check_version(version: str) -> None:
    """Raises `ClusterError` on a worker of another PHQ (one that has joined the cluster later)."""
    if __version__ != version:
        raise ClusterError(f"a worker has PHQ {__version__}, this build is of {version}")


@functools.cache
def end_with_build() -> None:
    """In a process of a task runner: end soon after the build has gone, also when that was killed."""
    if multiprocessing.parent_process() is not None:
        end_with_parent()


def run_groups(
    groups: Sequence[list[int]],
    workspace: str,
    settings: str,
    retry_failed: bool,
    limit: str,
    holder: str,
    result: Callable[[Any], Any],
) -> Iterator[list[PartReport | PartError]]:
    """Submit a task a group to the flow's task runner; what came of each, as it ends.

    `result` gives what a future came to, or the error that there is instead.
    """
    futures = {
        part_group.submit(
            workspace, settings, group[0], group[-1], group, retry_failed, __version__, limit, holder
        ): group
        for group in groups
    }
    for future in as_completed(list(futures)):
        ended = result(future)
        broken = isinstance(ended, BaseException)
        yield [PartError(part, ended) for part in futures[future]] if broken else ended

"""The loop: iterations until the last image, and what is written on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch

from portraitgan.checkpoints import checkpoint
from portraitgan.data.dataset import Batch
from portraitgan.data.loader import loader
from portraitgan.training import snapshots, statistics, trackers
from portraitgan.training.run import Run, Say, TrainingError
from portraitgan.training.schedule import ScheduleState, at
from portraitgan.training.trackers import Tracker


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    images: int
    finished: bool  # false: it was asked to stop
    folder: Path  # of the last checkpoint


@dataclass(frozen=True)
class FidMeter:
    """What measures the FID of a run while it trains."""

    network: str  # whose features it compares: FIDs of two networks have nothing to do with each other
    measure: Callable[[Run], float]  # every process calls it


def train(
    run: Run,
    until: int,
    say: Say,
    stop: Callable[[], bool] = lambda: False,
    fid: FidMeter | None = None,
) -> Outcome:
    """Train until `until` images were seen, or until `stop` says so; a checkpoint is written either way.

    `fid` measures the run every `output.fid_kimg`; the checkpoint with the lowest one stays and is named.
    Raises `TrainingError` when gradients stay infinite or not numbers, `DataError` for damaged images.
    """
    config, world = run.config, run.world
    writer = _Writer(run, until, say) if world.first else None
    tally = statistics.Tally()
    lowest = math.inf if fid is None else _lowest(run, fid, say)
    interrupted = False
    sheet_due = run.images == 0
    made = loader(run.data, run.sampler, config.batch.micro, config.data.workers)
    with closing(cast(Generator[Batch, None, None], made)) as batches:
        clock = Clock(run.images)
        while run.images < until and not interrupted:
            if sheet_due and writer is not None:
                writer.sheet()
            state = at(config, run.images)
            clock.start()
            means = run.stepper.step(batches, run.iteration, state)
            bad = bool(means["bad_gradients"].item() > 0)
            clock.stop(config.batch.size)
            tally.add(means)
            before, run.images = run.images, run.images + config.batch.size
            run.iteration += 1
            run.bad_steps = run.bad_steps + 1 if bad else 0
            if run.bad_steps >= config.guard.max_bad_steps:
                _give_up(run)
            interrupted = world.any(stop())
            over = interrupted or run.images >= until
            better = False
            if fid is not None and _crossed(before, run.images, config.output.fid_kimg):
                found = fid.measure(run)
                better, lowest = found < lowest, min(found, lowest)
                tally.add({"fid": torch.tensor(found)})
                say(
                    f"FID {found:.2f} at {run.images / 1000:g} kimg" + (", the best so far" if better else "")
                )
            if over or _crossed(before, run.images, config.output.status_kimg):
                values = tally.take(world)
                if writer is not None:
                    writer.row(state, values, clock)
            sheet_due = _crossed(before, run.images, config.output.snapshot_kimg)
            if over or better or _checkpoint_due(run, before):
                if writer is not None:
                    writer.checkpoint((lowest, fid.network) if better and fid is not None else None)
                gone = run.data.refresh()
                if gone:
                    say(f"{gone} portraits were taken down from the release and are no longer used")
        if writer is not None and not interrupted:
            writer.sheet()
    if writer is not None:
        writer.close()
    world.wait()
    return Outcome(run.images, not interrupted, checkpoint.latest(run.folder))


def _lowest(run: Run, fid: FidMeter, say: Say) -> float:
    """The FID that a checkpoint has to beat."""
    known = checkpoint.best(run.folder)
    if known is None:
        return math.inf
    if known.network not in (None, fid.network):
        say(f"the best FID so far, {known.fid:.2f}, is one of {known.network}: {fid.network} begins anew")
        return math.inf
    return known.fid


class Clock:
    """Seconds of training, and of everything."""

    def __init__(self, images: int) -> None:
        self._seen, self._when = images, time.perf_counter()  # at the last estimate
        self._seconds: float | None = None  # seconds an image, checkpoints and sheets included
        self._spent, self._images = 0.0, 0
        self._started = self._when

    def start(self) -> None:
        """An iteration begins."""
        self._started = time.perf_counter()

    def stop(self, images: int) -> None:
        """It ended, and has seen so many images."""
        self._spent += time.perf_counter() - self._started
        self._images += images

    def lap(self) -> float:
        """Training seconds per kimg since the last call."""
        rate = self._spent / max(self._images, 1) * 1000
        self._spent, self._images = 0.0, 0
        return rate

    def left(self, images: int, until: int) -> float:
        """Seconds until `until` images at the latest throughput: what was before the last calls fades."""
        now = time.perf_counter()
        seconds = (now - self._when) / max(images - self._seen, 1)
        self._seconds = seconds if self._seconds is None else 0.7 * self._seconds + 0.3 * seconds
        self._seen, self._when = images, now
        return self._seconds * max(until - images, 0)  # the last iteration may go past it


class _Writer:
    """What the first process writes and says."""

    def __init__(self, run: Run, until: int, say: Say) -> None:
        self.run, self.until, self.say = run, until, say
        config = run.config
        self.trackers: list[Tracker] = trackers.open_trackers(
            config.output.trackers, run.folder, config.name, asdict(config), run.images, say
        )
        self.scene = snapshots.make_scene(config, run.data, run.world.device)

    def row(self, state: ScheduleState, values: dict[str, float], clock: Clock) -> None:
        run = self.run
        row = statistics.make_row(
            run.images, run.iteration, state, values, clock.lap(), clock.left(run.images, self.until)
        )
        statistics.append(run.folder, row)
        for tracker in self.trackers:
            tracker.row(row)
        self.say(statistics.status_line(row, self.until / 1000))

    def sheet(self) -> None:
        """A sheet of images of the EMA at this moment."""
        run = self.run
        path = snapshots.write(run.folder, self.scene, run.networks, at(run.config, run.images), run.images)
        for tracker in self.trackers:
            tracker.image(run.images, "snapshot", path)

    def checkpoint(self, fid: tuple[float, str] | None = None) -> None:
        """A checkpoint of this moment; with its `fid` and who measured it if that is the lowest so far."""
        folder = self.run.save()
        if fid is not None:
            checkpoint.name_best(self.run.folder, folder, *fid)
        checkpoint.prune(self.run.folder, round(self.run.config.output.checkpoint_kimg * 1000))
        self.say(f"wrote {folder}")

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()


def _crossed(before: int, after: int, kimg: float) -> bool:
    """Whether a multiple of `kimg` thousand images lies in (before, after]; of 0 none does."""
    return kimg > 0 and int(after / (kimg * 1000)) > int(before / (kimg * 1000))


def _checkpoint_due(run: Run, before: int) -> bool:
    output = run.config.output
    return any(_crossed(before, run.images, every) for every in (output.checkpoint_kimg, output.latest_kimg))


def _give_up(run: Run) -> None:
    """Nothing is written: the last checkpoint is from before the run went wrong, or nearer to it."""
    raise TrainingError(
        f"the gradients of {run.bad_steps} iterations in a row were not finite, until "
        f"{run.images / 1000:g} kimg. The last checkpoint stays as it is. What helps: "
        "--set model.precision.half=bfloat16 (or float32), a lower optimiser.discriminator_rate, a higher "
        "model.loss.r1_gamma; docs/training.md says more"
    )

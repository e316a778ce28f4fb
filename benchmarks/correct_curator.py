"""A scripted curator: corrects a label by what a person sees of the page, and by the keys that a person has.

It takes screenshots of the picture and presses keys; it never asks the service, reads no label, and draws
nothing itself. How the rig answers a key it learns by pressing it. What it wants is that the rig's shape and
the person's (the mask that M shows) cover each other; where a key changes that the most, it is pressed.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from phq_data.arrays import FloatArray

SIDE = 64
"""Pixels to which the picture is reduced before it is compared."""
_OPEN = "document.querySelector('.correct-page:not([hidden]) b')?.textContent"
_SETTLED = 60  # milliseconds until a key's frame is on the screen, and more where the machine is slow
_COVERED = 14  # of 255: a pixel that changed by more is covered by the rig
_BLUR = 1.6  # pixels of SIDE: edges that are near each other attract
_STILL = 0.002  # mean change of the shape below which a snap has settled
_PATIENCE = 14.0  # seconds: longer than the page waits for the service
_ROUNDS = 1  # of learning what the keys do
_STEPS_AGAIN = 2  # times that what was learned is used


@dataclass(frozen=True)
class Lever:
    """A pair of keys that moves the rig to and fro, and how far they are pressed to learn what they do."""

    plus: str
    minus: str
    part: str = "KeyB"
    trial: int = 2  # coarse presses
    most: float = 10.0  # coarse steps a round
    stiff: float = 0.04  # what a coarse step costs, so that a key that changes little is left alone


LEVERS = (
    Lever("ArrowLeft", "ArrowRight", stiff=0.05),
    Lever("ArrowDown", "ArrowUp"),
    Lever("KeyE", "KeyQ", trial=3),
    Lever("KeyD", "KeyA"),
    Lever("KeyS", "KeyW"),
    Lever("Equal", "Minus"),
    Lever("ArrowDown", "ArrowUp", "KeyN", stiff=0.08),
    Lever("KeyE", "KeyQ", "KeyN", trial=3, stiff=0.08),
)


class Curator:
    """Corrects the portrait that a review page shows."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self._part = ""
        self._ready = False

    def correct(self) -> None:
        """Open the correction, move the rig until it covers the person, save. Ends on the next portrait."""
        before = self._portrait()
        self._open()
        self._settle_look()
        bare, person = self._person()
        rig = self._settled(bare, self._rig(bare))
        for _ in range(_ROUNDS):
            rig, better = self._refine(bare, person, rig)
            if not better:
                break
        self._press("Enter")
        self._await("before => document.body.dataset.ready !== before || !finish.hidden", before)

    def frames_per_second(self, seconds: float) -> float:
        """How often the rig is drawn while a key is held; leaves the label as it was."""
        self._portrait()
        self._open()
        self._settle_look()
        self.page.keyboard.down("ArrowLeft")
        before, began = self.page.evaluate("[window.phqReview.frames(), performance.now()]")
        while True:
            self.page.keyboard.down("ArrowLeft")  # again and again: so a held key repeats
            after, ended = self.page.evaluate("[window.phqReview.frames(), performance.now()]")
            if ended - began > 1000 * seconds:
                break
        self.page.keyboard.up("ArrowLeft")
        self._press("KeyR")
        self._press("Escape")
        return float(1000 * (after - before) / (ended - began))

    # ---- judging -------------------------------------------------------------------------------------------

    def _settled(self, bare: FloatArray, rig: FloatArray) -> FloatArray:
        """Fit again from here, as long as the rig moves."""
        for _ in range(3):
            self._press("KeyG")
            self._await("!document.querySelector('.correct-note').textContent.startsWith('Fitting')")
            moved = self._rig(bare)
            if np.abs(moved - rig).mean() < _STILL:
                break
            rig = moved
        return rig

    def _refine(self, bare: FloatArray, person: FloatArray, rig: FloatArray) -> tuple[FloatArray, bool]:
        """Learn what every key does, then press those that help; take back what did not."""
        effect = np.stack([self._effect(lever, bare, rig) for lever in LEVERS], axis=1)
        stiff = np.diag([lever.stiff * SIDE for lever in LEVERS])
        limits = np.array([lever.most for lever in LEVERS])
        better = False
        for _ in range(_STEPS_AGAIN):
            wanted = np.concatenate([(person - rig).ravel(), np.zeros(len(LEVERS))])
            solved, *_ = np.linalg.lstsq(np.vstack([effect, stiff]), wanted, rcond=None)
            presses = np.round(4 * np.clip(solved, -limits, limits)) / 4
            for lever, count in zip(LEVERS, presses.tolist(), strict=True):
                self._push(lever, count)
            moved = self._rig(bare)
            if np.linalg.norm(person - moved) >= np.linalg.norm(person - rig):
                for lever, count in zip(LEVERS, presses.tolist(), strict=True):
                    self._push(lever, -count)
                break
            rig, better = moved, True
        return rig, better

    def _effect(self, lever: Lever, bare: FloatArray, rig: FloatArray) -> FloatArray:
        """What a coarse step of a lever changes."""
        self._push(lever, lever.trial)
        change = (self._rig(bare) - rig).ravel() / lever.trial
        self._push(lever, -lever.trial)
        return np.asarray(change)

    # ---- seeing --------------------------------------------------------------------------------------------

    def _settle_look(self) -> None:
        """The rig filled and opaque; the page remembers it."""
        if self._ready:
            return
        while "Fill" not in self.page.inner_text("[data-correct=mode]"):
            self._press("KeyO")
            self.page.wait_for_timeout(150)
        for _ in range(9):
            self._press("BracketRight")
        self._ready = True

    def _person(self) -> tuple[FloatArray, FloatArray]:
        """The picture without the rig, and what is seen of the person [SIDE, SIDE]."""
        self.page.keyboard.down("Space")
        bare = self._look()
        self._press("KeyM")
        masked = self._look()
        self._press("KeyM")
        self.page.keyboard.up("Space")
        bright = bare.sum(axis=-1) + 1.0
        return bare, _shape((masked.sum(axis=-1) + 1.0) / bright > 0.6)

    def _rig(self, bare: FloatArray) -> FloatArray:
        """What is seen of the rig [SIDE, SIDE]."""
        return _shape(np.abs(self._look() - bare).max(axis=-1) > _COVERED)

    def _look(self) -> FloatArray:
        """The picture as it is on the screen [h, w, 3]."""
        self.page.wait_for_timeout(_SETTLED)
        box = self.page.locator(".correct-plane").bounding_box()
        shot = self.page.screenshot(clip=box, type="png")
        small = Image.open(io.BytesIO(shot)).convert("RGB").resize((4 * SIDE, 4 * SIDE), Image.Resampling.BOX)
        return np.asarray(small, np.float64)

    # ---- pressing ------------------------------------------------------------------------------------------

    def _push(self, lever: Lever, count: float) -> None:
        """Press a lever's keys: whole numbers are coarse steps, quarters fine ones."""
        if not count:
            return
        if self._part != lever.part:
            self._press(lever.part)
            self._part = lever.part
        key = lever.plus if count > 0 else lever.minus
        coarse = int(abs(count))
        for _ in range(coarse):
            self._press(key)
        for _ in range(round(4 * (abs(count) - coarse))):
            self._press(f"Shift+{key}")

    def _press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def _open(self) -> None:
        """Open the correction; on a busy machine the page may say that it could not, and is asked again."""
        for _ in range(10):
            self._press("KeyC")
            try:
                self._await(_OPEN, seconds=_PATIENCE)
            except TimeoutError:
                continue
            self._part = ""
            return
        raise TimeoutError("the correction cannot be opened")

    def _portrait(self) -> str:
        self._await("document.body.dataset.ready")
        return str(self.page.evaluate("document.body.dataset.ready"))

    def _await(self, condition: str, argument: Any = None, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(condition, argument):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page never came to: {condition}")
            self.page.wait_for_timeout(10)


def _shape(covered: np.ndarray) -> FloatArray:
    """What is covered of the picture [SIDE, SIDE], with soft edges."""
    shares = covered.reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))
    return np.asarray(gaussian_filter(shares, _BLUR, mode="nearest"))

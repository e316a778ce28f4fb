"""A scripted curator: corrects a label by what a person sees of the page, and by the keys that a person has.

It takes screenshots and presses keys; it never asks the service, reads no label, and draws nothing itself. It
snaps first. Where the rig then covers the person about as one body covers itself, or where there is no snap,
it learns from the screen what every key changes and presses those that bring the rig's shape and shading
nearer to the person's. Where hair and clothes hide the body, shapes say less than the points that snap fits,
and the label stays as it was snapped.
"""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.correct_eye import SIDE, Habit, Sight, agreement, covered, mismatch, sight
from phq_data.arrays import FloatArray

_OPEN = "document.querySelector('.correct-page:not([hidden]) b')?.textContent"
_NOTE = "document.querySelector('.correct-note').textContent"
_PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
_COVERED = 14  # of 255: a pixel that changed by more is covered by the rig
_PATIENCE = 14.0  # seconds: longer than the page waits for the service
_ENOUGH = 0.978  # agreement from which on the rig lies on the person
_ALIKE = 0.95  # agreement of a snapped rig that is as the person's body
_MOST = 6.0  # coarse steps of a key in one go


@dataclass(frozen=True)
class Lever:
    """A pair of keys that moves the rig to and fro, and how far they are pressed to learn what they do."""

    plus: str
    minus: str
    trial: int = 2  # coarse steps
    stiff: float = 0.007  # what a coarse step costs, so that a key that changes little is left alone


YAW, PITCH, ROLL = (
    Lever("ArrowLeft", "ArrowRight"), Lever("ArrowDown", "ArrowUp"), Lever("KeyE", "KeyQ", trial=3),
)  # fmt: skip
LEVERS = (
    YAW, PITCH, ROLL,
    Lever("KeyD", "KeyA", trial=1), Lever("KeyS", "KeyW", trial=1), Lever("Equal", "Minus", trial=1),
)  # fmt: skip
BLURS = ((4.0, 3.0), (2.0, 1.2))
"""Pixels of SIDE: of every look at what the keys do, the attempts that it is used for."""
_ATTEMPTS = 3  # for each blur
_WORTH = 0.6  # coarse steps of all keys together that are worth a look
_STIFF = np.array([one.stiff for one in LEVERS])
Push = tuple[Lever, float]
_TURNS: tuple[Push, ...] = tuple(
    (one, steps * sign) for one, steps in ((YAW, 5.0), (PITCH, 5.0), (ROLL, 8.0)) for sign in (1.0, -1.0)
)
"""Where to begin once more: some 20 degrees about every axis."""


class Curator:
    """Corrects the portrait that a review page shows."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self._devtools = page.context.new_cdp_session(page)  # Playwright's own screenshots are slow
        self._ready = False
        self._snaps = True
        self._box: dict[str, float] = {}
        self._bare: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)
        self._pushed: list[Push] = []

    def correct(self) -> None:
        """Open the correction, move the rig until it covers the person, save. Ends on the next portrait."""
        before = self._portrait()
        self._open()
        self._settle_look()
        person = self._person()
        if not self._snap() or agreement(person, self._rig()) > _ALIKE:
            self._search(person)
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

    def _search(self, person: Sight) -> None:
        """Bring the rig onto the person; where that fails from here, begin once more from elsewhere."""
        self._pushed = []
        best = self._refine(person)
        if best > _ENOUGH:
            return
        found = self._pushed
        self._again()
        self._push_all([self._nearest(person)])
        if self._refine(person) < best:
            self._again()
            self._push_all(found)

    def _again(self) -> None:
        """Back to where the search began."""
        self._press("KeyR")
        self._snap()
        self._pushed = []

    def _nearest(self, person: Sight) -> Push:
        """Of turns to all sides, the one whose shape and shading are nearest to the person's."""
        off: list[float] = []
        for turn in _TURNS:
            self._push_all([turn])
            residuals = mismatch(person, self._rig(), BLURS[0][0])
            off.append(float(residuals @ residuals))
            self._again()
        return _TURNS[int(np.argmin(off))]

    def _refine(self, person: Sight) -> float:
        """Learn what every key does, then press those that help; returns the agreement."""
        found = 0.0
        for blurs in BLURS:
            looks = [self._rig()]
            for lever in LEVERS:
                self._push(lever, lever.trial)
                looks.append(self._rig())
                self._push(lever, -lever.trial)
            found = self._attempts(person, looks, blurs)
            if found > _ENOUGH:
                break
        return found

    def _attempts(self, person: Sight, looks: list[Sight], blurs: tuple[float, ...]) -> float:
        """Press what should help, take back what did not; returns the agreement."""
        trials = np.array([lever.trial for lever in LEVERS])
        rig = looks[0]
        for blur in blurs:
            seen = np.stack([mismatch(person, look, blur) for look in looks])
            effect = ((seen[1:] - seen[0]) / trials[:, None]).T
            habit = Habit(effect, _STIFF, _MOST)
            off = mismatch(person, rig, blur)
            for _ in range(_ATTEMPTS):
                presses = _convenient(habit.presses(off))
                if np.abs(presses).sum() < _WORTH:
                    break
                pushes = list(zip(LEVERS, presses.tolist(), strict=True))
                self._push_all(pushes)
                moved = self._rig()
                now = mismatch(person, moved, blur)
                better = bool(now @ now < off @ off)
                habit.learn(presses, off, now, better=better)
                if better:
                    rig, off = moved, now
                else:
                    self._push_all([(lever, -count) for lever, count in reversed(pushes)])
        return agreement(person, rig)

    # ---- seeing --------------------------------------------------------------------------------------------

    def _settle_look(self) -> None:
        """The rig filled and opaque; the page remembers it."""
        self._box = self.page.locator(".correct-plane").bounding_box()
        if self._ready:
            return
        while "Fill" not in self.page.inner_text("[data-correct=mode]"):
            self._press("KeyO")
            self.page.wait_for_timeout(150)
        for _ in range(9):
            self._press("BracketRight")
        self._ready = True

    def _person(self) -> Sight:
        """What is seen of the person: the image without the rig, and the mask that M shows."""
        self.page.keyboard.down("Space")
        self._bare = self._look()
        self._press("KeyM")
        masked = self._look()
        self._press("KeyM")
        self.page.keyboard.up("Space")
        bright = self._bare.sum(axis=-1) + 1.0
        return sight((masked.sum(axis=-1) + 1.0) / bright > 0.6, self._bare)

    def _rig(self) -> Sight:
        """What is seen of the rig."""
        seen = self._look()
        return sight(covered(self._bare, seen, _COVERED), seen)

    def _look(self) -> NDArray[np.uint8]:
        """The image as it is on the screen [2 * SIDE, 2 * SIDE, 3]."""
        self.page.evaluate(_PAINTED)
        clip = {"scale": 1, **self._box}
        shot = self._devtools.send(
            "Page.captureScreenshot",
            {"format": "jpeg", "quality": 90, "optimizeForSpeed": True, "clip": clip},
        )
        image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
        return np.asarray(image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BOX))

    # ---- pressing ------------------------------------------------------------------------------------------

    def _snap(self) -> bool:
        """Fit again from here; False where the page says that it cannot."""
        if not self._snaps:
            return False
        self._press("KeyG")
        self._await(f"!{_NOTE}.startsWith('Fitting')")
        self._snaps = self.page.evaluate(_NOTE).startswith("Snapped")
        return self._snaps

    def _push_all(self, pushes: list[Push] | tuple[Push, ...]) -> None:
        for lever, count in pushes:
            self._push(lever, count)

    def _push(self, lever: Lever, count: float) -> None:
        """Hold a lever's key: whole numbers are coarse steps, quarters fine ones."""
        if not count:
            return
        self._pushed.append((lever, count))
        key = lever.plus if count > 0 else lever.minus
        coarse = int(abs(count))
        self._hold(key, coarse)
        fine = round(4 * (abs(count) - coarse))
        if fine:
            self.page.keyboard.down("Shift")
            self._hold(key, fine)
            self.page.keyboard.up("Shift")

    def _hold(self, key: str, times: int) -> None:
        for _ in range(times):  # a key that is down repeats
            self.page.keyboard.down(key)
        if times:
            self.page.keyboard.up(key)

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


def _convenient(presses: FloatArray) -> FloatArray:
    """Far is gone in coarse steps alone: fine ones are pressed when it is near."""
    return np.where(np.abs(presses) > 2, np.round(presses), presses)

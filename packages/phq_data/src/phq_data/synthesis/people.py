"""Who stands there: random people, each an independent draw. No drawing happens here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from phq_data.arrays import FloatArray
from phq_data.synthesis import figure, paint, wardrobe
from phq_data.synthesis.figure import Build, Stance
from phq_data.synthesis.paint import Appearance, Pattern
from phq_data.synthesis.wardrobe import Hair, Outfit

T = TypeVar("T")
Variety = Literal["usual", "wide"]
"""Which people and cameras: those of the accuracy series, or wider ones (steep views, other carriage)."""

YAW_LIMIT = np.radians(85.0)
"""How far people turn their head against the chest, neck and head together."""


@dataclass(frozen=True)
class Person:
    """Everything about a person but the place in front of the camera."""

    build: Build
    stance: Stance
    hair: Hair
    outfit: Outfit
    appearance: Appearance
    hat: str = ""  # of `wardrobe.HATS`, or none
    glasses: str = ""  # "", "clear", "dark"
    arms: tuple[str, str] = ("hanging", "hanging")  # left, right, of `figure.ARM_POSES`
    held: str = "none"  # of `wardrobe.HELD`
    held_side: str = "right"
    seed: int = 0


def random_person(rng: np.random.Generator, camera_yaw: float, variety: Variety = "usual") -> Person:
    """A person whose chest is seen from `camera_yaw` (radians); many look towards the camera if they can."""
    person = _usual_person(rng, camera_yaw)
    return _widened(person, rng, camera_yaw) if variety == "wide" else person


def _usual_person(rng: np.random.Generator, camera_yaw: float) -> Person:
    left = _choose(rng, list(figure.ARM_POSES), [8, 6, 2, 2, 2, 2, 1.5, 1, 1, 0.8, 1, 0.5, 0.7, 1.5])
    right = left if rng.random() < 0.6 else _choose(rng, list(figure.ARM_POSES))
    held = _choose(rng, wardrobe.HELD, [12, 1, 1, 1, 1, 1])
    sitting = rng.random() < 0.3
    hips = rng.normal(1.5 if sitting else 0.0, 0.12, 2)
    knees = rng.normal(1.5 if sitting else 0.06, 0.1, 2)
    stance = Stance(
        pose=tuple(neck_and_head(rng, camera_yaw)),
        left_arm=figure.arm_directions(left, 1, rng),
        right_arm=figure.arm_directions(right, -1, rng),
        shrug=tuple(rng.normal(0.02, 0.07, 2)),
        waist=tuple(rng.normal(0, (0.12, 0.15, 0.07))),
        hips=(float(hips[0]), float(hips[1])),
        knees=(max(float(knees[0]), 0.0), max(float(knees[1]), 0.0)),
    )
    hair = random_hair(rng)
    hat = _choose(rng, wardrobe.HATS) if rng.random() < 0.22 else ""
    return Person(
        build=random_build(rng),
        stance=stance,
        hair=hair,
        outfit=random_outfit(rng),
        appearance=random_appearance(rng, hair),
        hat=hat,
        glasses=_choose(rng, ["", "clear", "dark"], [8, 1.5, 1]),
        arms=(left, right),
        held=held,
        held_side=_choose(rng, ["left", "right"]),
        seed=int(rng.integers(2**31)),
    )


def _widened(person: Person, rng: np.random.Generator, camera_yaw: float) -> Person:
    """The person with the carriage and the proportions of real people, and heads turned anywhere.

    Real heads are carried before the shoulders: the craniovertebral angle, tragus over the seventh cervical
    vertebra, is about 50 degrees, and the body model's is nearly upright. Real trunks are longer: between
    acromion and greater trochanter lie 0.288 of the height (Drillis and Contini 1966), 0.27 in the model.
    """
    pose = neck_and_head(rng, camera_yaw)
    if rng.random() < 0.4:  # turned away from the camera or to the side, which the usual series seldom shows
        yaw = rng.uniform(-YAW_LIMIT, YAW_LIMIT) - (pose[1] + pose[4])
        pose[1], pose[4] = pose[1] + 0.4 * yaw, pose[4] + 0.6 * yaw
    carriage, nod = rng.normal(np.radians(10), np.radians(9)), rng.normal(0, np.radians(9))
    pose[0], pose[3] = pose[0] + carriage + 0.4 * nod, pose[3] - carriage + 0.6 * nod
    stance = replace(
        person.stance,
        pose=tuple(pose),
        waist=tuple(rng.normal((0.03, 0, 0), (0.18, 0.2, 0.1))),
        protraction=tuple(rng.normal(0, 0.12, 2)),
        shrug=tuple(rng.normal(0.0, 0.12, 2)),
    )
    build = replace(
        person.build,
        head_forward=float(rng.normal(0.02, 0.015)),
        trunk_stretch=float(rng.normal(0.03, 0.02)),
        neck_stretch=float(rng.normal(0, 0.016)),
        shoulder_width=float(np.exp(rng.normal(0, 0.07))),
    )
    return replace(person, stance=stance, build=build)


def neck_and_head(rng: np.random.Generator, camera_yaw: float) -> FloatArray:
    """Neck and head axis-angles [6]: turned to the camera or anywhere, shared by both joints.

    The head does about three fifths of a turn and the neck the rest; bending is shared alike; the far end
    of a turn comes with a slight tilt.
    """
    reachable = np.clip(_wrap(camera_yaw), -YAW_LIMIT, YAW_LIMIT)
    if rng.random() < 0.5 and abs(_wrap(camera_yaw)) < np.radians(140):
        yaw = reachable * rng.uniform(0.3, 1.0)
    else:
        yaw = rng.normal(0, np.radians(24))
    yaw = float(np.clip(yaw, -YAW_LIMIT, YAW_LIMIT))
    nod = float(np.clip(rng.normal(np.radians(3), np.radians(13)), np.radians(-40), np.radians(45)))
    tilt = float(np.clip(rng.normal(-0.12 * yaw, np.radians(8)), np.radians(-30), np.radians(30)))
    total = np.array([nod, yaw, tilt])
    share = np.clip(rng.normal(0.4, 0.08, 3), 0.15, 0.65)
    return np.concatenate([total * share, total * (1 - share)])


def random_build(rng: np.random.Generator) -> Build:
    """A body: first within the model's own shapes, then beyond them."""
    count = figure.body().shape_size
    bumps = []
    for _ in range(8):
        centre = (rng.uniform(-0.2, 0.2), rng.uniform(-0.4, 0.27), rng.uniform(-0.12, 0.14))
        size = rng.uniform(0.05, 0.14)
        bumps.append((*centre, size, *rng.normal(0, 0.05 * size, 3)))
    return Build(
        shape=tuple(np.clip(rng.normal(0, 1.0, count), -2.5, 2.5)),
        head_scale=float(np.exp(rng.normal(0, 0.05))),
        neck_stretch=float(rng.normal(0, 0.010)),
        shoulder_width=float(np.exp(rng.normal(0, 0.05))),
        head_axes=tuple(np.exp(rng.normal(0, 0.035, 3))),
        girth=float(np.exp(np.abs(rng.normal(0, 0.16)) - 0.05)),
        bumps=tuple(bumps),
    )


def random_hair(rng: np.random.Generator) -> Hair:
    """A head of hair."""
    style = _choose(rng, wardrobe.HAIR, [0.7, 1, 3, 2, 1.6, 2.4, 1.2, 0.8, 1.3, 0.9, 0.5, 0.7])
    return Hair(
        style=style,
        volume=float(rng.uniform(0.6, 1.6)),
        length=float(rng.uniform(0.12, 0.42)),
        fringe=bool(rng.random() < 0.35),
        roughness=float(rng.uniform(0.1, 1.0)) * (1.8 if style in ("curly", "afro") else 1.0),
        seed=int(rng.integers(2**31)),
    )


def random_outfit(rng: np.random.Generator) -> Outfit:
    """Clothes."""
    neckline = _choose(rng, wardrobe.NECKLINES, [5, 2, 1.5, 1, 0.7, 3, 1])
    collar = _choose(rng, wardrobe.COLLARS, [6, 2, 1, 1.2, 0.7, 0.2])
    if neckline == "jacket":
        collar = _choose(rng, ["shirt", "none", "scarf"], [3, 1, 1])
    if collar in ("shirt", "stand", "ruff") and neckline in ("boat", "off_shoulder", "low"):
        neckline = "crew"
    sleeve = _choose(rng, [-0.35, 0.15, 0.5, 1.1, 1.95], [1, 0.7, 3, 1, 5])
    if neckline in ("jacket", "turtle"):
        sleeve = 1.95
    thick = (
        rng.uniform(0.012, 0.028)
        if neckline == "jacket" or collar == "hood_down"
        else rng.uniform(0.003, 0.014)
    )
    return Outfit(
        neckline=neckline,
        depth=float(rng.uniform(0, 0.05)) * (collar == "none"),
        sleeve=float(sleeve + rng.normal(0, 0.04)),
        thickness=float(thick),
        folds=float(rng.uniform(0.1, 0.8)),
        collar=collar,
        skirt=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.2 else 0.0,
        shoulder_pad=float(rng.uniform(0, 0.018)) if neckline == "jacket" else 0.0,
        seed=int(rng.integers(2**31)),
    )


def random_appearance(rng: np.random.Generator, hair: Hair) -> Appearance:
    """Colors."""
    skin = np.array(_choose(rng, paint.SKINS)) * rng.uniform(0.95, 1.04)
    bearded = hair.style not in ("bob", "long", "bun", "ponytail", "braids") and rng.random() < 0.35
    iris = _choose(
        rng, [(0.22, 0.13, 0.07), (0.30, 0.20, 0.10), (0.25, 0.38, 0.50), (0.25, 0.35, 0.22)], [6, 3, 1.5, 1]
    )
    return Appearance(
        skin=(float(skin[0]), float(skin[1]), float(skin[2])),
        hair=_choose(rng, paint.HAIRS, list(paint.HAIR_SHARES)),
        iris=iris,
        lips=float(rng.uniform(0, 0.9)),
        brows=float(rng.uniform(0.3, 0.95)),
        beard=float(rng.uniform(0.3, 1.0)) if bearded else 0.0,
        face_mask=1.0 if rng.random() < 0.04 else 0.0,
        makeup=float(rng.uniform(0, 0.6)),
        top=random_pattern(rng),
        under=random_pattern(rng, plain=0.7, light=0.5),
        bottom=random_pattern(rng, plain=0.8),
        hat=random_pattern(rng, plain=0.7),
        accent=random_pattern(rng),
    )


def random_pattern(rng: np.random.Generator, plain: float = 0.45, light: float = 0.15) -> Pattern:
    """Cloth: mostly muted, sometimes loud."""
    colors = []
    for _ in range(3):
        grey = rng.uniform(0.75, 0.97) if rng.random() < light else rng.uniform(0.05, 0.85)
        color = np.clip(grey + rng.normal(0, rng.choice([0.02, 0.10, 0.25]), 3), 0.02, 0.98)
        colors.append((float(color[0]), float(color[1]), float(color[2])))
    kind = "plain" if rng.random() < plain else _choose(rng, paint.PATTERNS)
    return Pattern(
        kind,
        tuple(colors),
        float(np.exp(rng.uniform(np.log(0.012), np.log(0.09)))),
        int(rng.integers(2**31)),
    )


def parts_of(person: Person) -> list[figure.Part]:
    """All surfaces of a person; the body is the first."""
    rng = np.random.default_rng(person.seed)
    parts = [wardrobe.dressed_body(person.outfit)]
    if person.hat != "helmet" and person.hat not in ("hood", "headscarf"):
        parts += wardrobe.hair_parts(person.hair, pressed=bool(person.hat))
    if person.hat:
        parts += wardrobe.hat_parts(person.hat, person.hair, rng)
    if person.hat not in ("hood", "headscarf"):
        parts += wardrobe.collar_parts(person.outfit, rng)
    parts += wardrobe.skirt_parts(person.outfit, rng)
    parts += wardrobe.held_parts(person.held, person.held_side, rng)
    if person.glasses:
        parts += wardrobe.glasses_parts(person.glasses == "dark")
    return parts


def _choose(
    rng: np.random.Generator, options: list[T] | tuple[T, ...], weights: list[float] | None = None
) -> T:
    share = None if weights is None else np.array(weights) / np.sum(weights)
    return options[int(rng.choice(len(options), p=share))]


def _wrap(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)

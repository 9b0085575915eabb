"""What a painting shows and where: drawn from (seed, index) alone, before any colour. Paints nothing.

Lengths are in heights of the painting: y runs down from 0 to 1, x from −aspect/2 to aspect/2, so that the middle
square, which is what a small network sees, is |x| < 1/2.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from atelier.gallery.moods import MOODS, Mood

ASPECTS = ((5, 4), (4, 3), (4, 3), (7, 5), (3, 2), (1, 1))
Rig = Literal["ship", "brig", "cutter", "lugger"]
RIGS: tuple[Rig, ...] = ("ship", "brig", "cutter", "lugger")


@dataclass(frozen=True, slots=True)
class Vessel:
    """A sailing vessel: where its waterline is, how high its masthead stands over it, where it heads (−1 left)."""

    rig: Rig
    x: float
    waterline: float
    height: float
    heading: int
    heel: float


@dataclass(frozen=True, slots=True)
class Coast:
    """Land from one side (−1 left): how far it reaches in, how high it stands, where its foot meets the water."""

    kind: Literal["headland", "cliff", "beach"]
    side: int
    reach: float
    height: float
    foot: float


@dataclass(frozen=True, slots=True)
class Hand:
    """How the painter paints: stroke width in heights of the painting, length in widths, and liveliness."""

    style: str
    width: float
    slender: float
    swirl: float
    broken: float  # how much neighbouring strokes differ in colour
    relief: float


HANDS = (
    Hand("Romanticism", 0.011, 4.0, 0.15, 0.016, 0.8),
    Hand("Luminism", 0.009, 5.0, 0.05, 0.010, 0.6),
    Hand("Impressionism", 0.016, 3.4, 0.35, 0.040, 1.0),
    Hand("Post-Impressionism", 0.019, 5.0, 0.80, 0.034, 1.2),
    Hand("Realism", 0.013, 3.6, 0.20, 0.020, 0.9),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is decided before the first stroke."""

    aspect: tuple[int, int]
    mood: Mood
    hand: Hand
    horizon: float
    light_x: float
    light_y: float
    light_radius: float
    vessels: tuple[Vessel, ...]  # the farthest first
    coast: Coast | None
    gulls: int


def compose(rng: np.random.Generator, hand: Hand) -> Scene:
    """One scene. The same generator state gives the same scene; nothing else is read."""
    aspect = ASPECTS[rng.integers(len(ASPECTS))]
    weights = np.array([mood.weight for mood in MOODS])
    mood = MOODS[rng.choice(len(MOODS), p=weights / weights.sum())]
    horizon = float(np.clip(rng.normal(0.56, 0.035), 0.48, 0.64))
    low, high = mood.light_height
    light_y = horizon * (1 - rng.uniform(low, high))
    light_x = float(rng.choice((-1, 1)) * rng.uniform(0.0, 0.30))
    radius = rng.uniform(0.036, 0.052) * (0.8 if mood.light == "moon" else 1.0)
    vessels = _vessels(rng, aspect, horizon, light_x, mood.swell)
    coast = _coast(rng, aspect, horizon, light_x)
    if coast is not None and coast.kind == "cliff" and any(vessel.height > 0.15 for vessel in vessels):
        coast = None  # a dark hull before a dark rock is neither
    return Scene(
        aspect=aspect,
        mood=mood,
        hand=hand,
        horizon=horizon,
        light_x=light_x,
        light_y=float(light_y),
        light_radius=float(radius),
        vessels=vessels,
        coast=coast,
        gulls=int(rng.integers(3, 8)) if mood.light == "sun" and rng.random() < 0.35 else 0,
    )


def _vessels(
    rng: np.random.Generator, aspect: tuple[int, int], horizon: float, light_x: float, swell: float
) -> tuple[Vessel, ...]:
    """A large vessel in the middle square of six paintings in ten, and sometimes small ones far away."""
    found = []
    edge = aspect[0] / aspect[1] / 2 - 0.06
    for _ in range(int(rng.choice((0, 1, 2), p=(0.55, 0.3, 0.15)))):
        height = rng.uniform(0.05, 0.09)
        place = rng.uniform(-edge, edge)
        found.append(_vessel(rng, float(place), horizon + 0.008, float(height), swell))
    if rng.random() < 0.6:
        side = -np.sign(light_x) if rng.random() < 0.75 else np.sign(light_x)
        height = rng.uniform(0.24, 0.38)
        place = side * rng.uniform(0.05, 0.48 - 0.65 * height)
        found.append(
            _vessel(rng, float(place), horizon + 0.02 + 0.16 * (height - 0.16), float(height), swell)
        )
    return tuple(found)


def _vessel(rng: np.random.Generator, x: float, waterline: float, height: float, swell: float) -> Vessel:
    rig = RIGS[rng.choice(len(RIGS), p=(0.35, 0.2, 0.25, 0.2))]
    heading = int(rng.choice((-1, 1)))
    return Vessel(rig, x, waterline, height, heading, heel=float(rng.normal(0.02, 0.02 + 0.06 * swell)))


def _coast(rng: np.random.Generator, aspect: tuple[int, int], horizon: float, light_x: float) -> Coast | None:
    """Land on the side away from the light, in four paintings of ten."""
    kind = rng.choice(4, p=(0.6, 0.16, 0.14, 0.10))
    side = int(-np.sign(light_x) or 1)
    width = aspect[0] / aspect[1]
    if kind == 1:
        reach = min(width * rng.uniform(0.3, 0.6), width / 2 + abs(light_x) - 0.1)
        return Coast("headland", side, reach, rng.uniform(0.05, 0.11), horizon + 0.006)
    if kind == 2:
        reach = (width - 1) / 2 + rng.uniform(0.15, 0.32)
        return Coast("cliff", side, reach, rng.uniform(0.20, 0.36), horizon + rng.uniform(0.04, 0.10))
    if kind == 3:
        return Coast("beach", side, width * rng.uniform(0.6, 0.9), 0.0, 1 - rng.uniform(0.10, 0.17))
    return None

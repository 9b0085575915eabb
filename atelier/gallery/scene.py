"""What a painting of the built-in archive shows, and its title and fictional artist, chosen by a random generator.

archive.json has the eight moods with their colours and titles, the artists with their brushwork, and the places.
Lengths are in heights of the painting: y runs down from 0 to 1, x from −aspect/2 to aspect/2. The middle square, which
a network is trained on, is |x| < 1/2.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import numpy as np

GENRE = "marina"  # WikiArt's slug for seascapes; all works of the archive are in it
ASPECTS = ((5, 4), (4, 3), (4, 3), (7, 5), (3, 2), (1, 1))
Rig = Literal["ship", "brig", "cutter", "lugger"]
RIGS: dict[Rig, str] = {
    "ship": "a Ship under Full Sail", "brig": "a Brig", "cutter": "a Cutter", "lugger": "a Fishing Lugger",
}  # fmt: skip
COAST_NAMES = {"headland": "the Headland", "cliff": "the Cliffs", "beach": "the Beach"}


@dataclass(frozen=True, slots=True)
class Mood:
    """A time of day and weather, with colours as hex triplets; `sky` is in equal steps from zenith to horizon."""

    name: str
    weight: float  # relative frequency
    hours: Sequence[str]  # words of titles
    sky: Sequence[str]
    cloud_light: str
    cloud_shade: str
    cloud_cover: float  # 0: none, 1: overcast
    light: Literal["sun", "moon"]
    disk: str
    disk_share: float  # opacity of sun or moon; 0: behind the clouds
    glow: str
    path: float  # strength of the light's glitter on the water
    light_height: Sequence[float]  # the least and greatest height of the disk over the horizon, in heights of the sky
    sea_far: str
    sea_near: str
    crest: str
    swell: float  # height of the waves; 0: calm, 1: a gale
    land_light: str
    land_shade: str
    sail_light: str
    sail_shade: str
    hull: str


@dataclass(frozen=True, slots=True)
class Hand:
    """A painter's brushwork: stroke width in heights of the painting, stroke length in widths, and irregularity."""

    style: str
    width: float
    slender: float
    swirl: float
    broken: float  # how much neighbouring strokes differ in colour
    relief: float


_ARCHIVE = json.loads((files("atelier.gallery") / "archive.json").read_text(encoding="utf-8"))
MOODS = [Mood(**mood) for mood in _ARCHIVE["moods"]]
HANDS = {hand["style"]: Hand(**hand) for hand in _ARCHIVE["hands"]}


@dataclass(frozen=True, slots=True)
class Vessel:
    """A sailing vessel: the place of its waterline, its height above that, and its heading (−1 left, 1 right)."""

    rig: Rig
    x: float
    waterline: float
    height: float
    heading: int
    heel: float


@dataclass(frozen=True, slots=True)
class Coast:
    """Land on one side (−1 left, 1 right): how far it reaches in, its height, and the y at which it meets the water."""

    kind: Literal["headland", "cliff", "beach"]
    side: int
    reach: float
    height: float
    foot: float


@dataclass(frozen=True, slots=True)
class Scene:
    """The catalog's facts of a work, and all that is chosen before painting begins."""

    title: str
    artist: str
    year: int
    genre: str
    style: str
    aspect: tuple[int, int]
    mood: Mood
    horizon: float
    light_x: float
    light_y: float
    light_radius: float
    vessels: tuple[Vessel, ...]  # sorted, the farthest first
    coast: Coast | None
    gulls: int

    def size(self, size_px: int) -> tuple[int, int]:
        """Width and height in pixels if the longer side has `size_px`."""
        wide, high = self.aspect
        longer = max(wide, high)
        return max(1, round(size_px * wide / longer)), max(1, round(size_px * high / longer))


def describe(seed: int, index: int) -> Scene:
    """Choose the facts and the scene of work `index` of the archive `seed`, without painting it."""
    rng = generator(seed, index, 0)
    artist = _ARCHIVE["artists"][rng.integers(len(_ARCHIVE["artists"]))]
    year = int(rng.integers(artist["from_year"], artist["to_year"] + 1))
    aspect = ASPECTS[rng.integers(len(ASPECTS))]
    weights = np.array([mood.weight for mood in MOODS])
    mood = MOODS[rng.choice(len(MOODS), p=weights / weights.sum())]
    horizon = float(np.clip(rng.normal(0.56, 0.035), 0.48, 0.64))
    low, high = mood.light_height
    light_y = float(horizon * (1 - rng.uniform(low, high)))
    light_x = float(rng.choice((-1, 1)) * rng.uniform(0.0, 0.30))
    light_radius = float(rng.uniform(0.036, 0.052) * (0.8 if mood.light == "moon" else 1.0))
    vessels = _vessels(rng, aspect, horizon, light_x, mood.swell)
    coast = _coast(rng, aspect, horizon, light_x)
    if coast is not None and coast.kind == "cliff" and any(vessel.height > 0.15 for vessel in vessels):
        coast = None  # a dark hull could not be seen before a dark rock
    gulls = int(rng.integers(3, 8)) if mood.light == "sun" and rng.random() < 0.35 else 0
    title = _title(rng, mood, vessels, coast)
    return Scene(
        title, artist["name"], year, GENRE, artist["style"], aspect,
        mood, horizon, light_x, light_y, light_radius, vessels, coast, gulls,
    )  # fmt: skip


def generator(seed: int, index: int, purpose: int) -> np.random.Generator:
    """The random generator for one purpose in a work: 0 for what it shows, 1 for painting it."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index, purpose))))


def _title(rng: np.random.Generator, mood: Mood, vessels: Sequence[Vessel], coast: Coast | None) -> str:
    hour, place, manner = str(rng.choice(mood.hours)), str(rng.choice(_ARCHIVE["places"])), rng.random()
    if vessels and vessels[-1].height > 0.15 and manner < 0.6:
        return f"{hour}, {RIGS[vessels[-1].rig]} off {place}"
    if coast is not None and manner < 0.8:
        return f"{hour} by {COAST_NAMES[coast.kind]} of {place}"
    return f"{hour} off {place}" if manner < 0.9 else f"{hour}, Study of Sea and Sky"


def _vessels(
    rng: np.random.Generator, aspect: tuple[int, int], horizon: float, light_x: float, swell: float
) -> tuple[Vessel, ...]:
    """Choose a large vessel in the middle square, in six paintings of ten, and up to two small ones far away."""
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
        found.append(_vessel(rng, float(place), horizon + 0.02 + 0.16 * (height - 0.16), float(height), swell))
    return tuple(found)


def _vessel(rng: np.random.Generator, x: float, waterline: float, height: float, swell: float) -> Vessel:
    rig = list(RIGS)[rng.choice(len(RIGS), p=(0.35, 0.2, 0.25, 0.2))]
    heading = int(rng.choice((-1, 1)))
    return Vessel(rig, x, waterline, height, heading, heel=float(rng.normal(0.02, 0.02 + 0.06 * swell)))


def _coast(rng: np.random.Generator, aspect: tuple[int, int], horizon: float, light_x: float) -> Coast | None:
    """Choose land on the side away from the light, in four paintings of ten."""
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

"""What a painting shows and where, chosen by a random generator; and the eight moods with their colours.

Lengths are in heights of the painting: y runs down from 0 to 1, x from −aspect/2 to aspect/2. The middle square, which
a network is trained on, is |x| < 1/2.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Mood:
    """One light with its colours, as hex triplets; `sky` runs from the zenith to the horizon in equal steps."""

    name: str
    weight: float  # relative frequency
    sky: tuple[str, ...]
    cloud_light: str
    cloud_shade: str
    cloud_cover: float  # 0: none, 1: overcast
    light: Literal["sun", "moon"]
    disk: str
    disk_share: float  # opacity of sun or moon; 0: behind the clouds
    glow: str
    path: float  # strength of the light's glitter on the water
    light_height: tuple[float, float]  # of the disk over the horizon, in heights of the sky
    sea_far: str
    sea_near: str
    crest: str
    swell: float  # height of the waves; 0: calm, 1: a gale
    land_light: str
    land_shade: str
    sail_light: str
    sail_shade: str
    hull: str


MOODS = (
    Mood(
        name="dawn", weight=1.0,
        sky=("#8fa6c9", "#b9b6cf", "#e8c3bf", "#f8d9b4", "#fdebc8"),
        cloud_light="#fbd9c6", cloud_shade="#a99bb8", cloud_cover=0.45,
        light="sun", disk="#fffbe6", disk_share=1, glow="#ffe2a6", path=0.9, light_height=(0.10, 0.34),
        sea_far="#8d9dbb", sea_near="#3f5f80", crest="#f3cfc0", swell=0.35,
        land_light="#c9a0a0", land_shade="#5b5f80",
        sail_light="#d99a74", sail_shade="#86606a", hull="#2b2838",
    ),
    Mood(
        name="noon", weight=1.3,
        sky=("#3f7fc4", "#5f9ad3", "#8dbbe2", "#b9d7ea", "#dbe9ec"),
        cloud_light="#fffdf4", cloud_shade="#a9b9cc", cloud_cover=0.55,
        light="sun", disk="#fffef0", disk_share=0.85, glow="#fff6d8", path=0.45, light_height=(0.62, 0.80),
        sea_far="#3f86a8", sea_near="#12506f", crest="#cfeae6", swell=0.55,
        land_light="#d9cda6", land_shade="#5f7568",
        sail_light="#fffaea", sail_shade="#c9bda4", hull="#3a2419",
    ),
    Mood(
        name="gold", weight=1.3,
        sky=("#b58f5a", "#d3a65e", "#ecc069", "#f9d983", "#fff0b8"),
        cloud_light="#ffe7a6", cloud_shade="#a97d4c", cloud_cover=0.5,
        light="sun", disk="#fffdea", disk_share=0.95, glow="#fff2b0", path=0.9, light_height=(0.12, 0.42),
        sea_far="#8f8a62", sea_near="#2c4446", crest="#ffe4a0", swell=0.35,
        land_light="#d0984f", land_shade="#5f4630",
        sail_light="#c08a4c", sail_shade="#6b4528", hull="#24180f",
    ),
    Mood(
        name="sunset", weight=1.4,
        sky=("#3d3a6b", "#6f4a7c", "#b9566b", "#ee8350", "#fdc26a"),
        cloud_light="#ff9a62", cloud_shade="#553a63", cloud_cover=0.5,
        light="sun", disk="#fff3c4", disk_share=1, glow="#ffb254", path=0.9, light_height=(0.06, 0.26),
        sea_far="#8c4a5e", sea_near="#2a2347", crest="#ff9f6a", swell=0.4,
        land_light="#9c5250", land_shade="#2c2140",
        sail_light="#b9605c", sail_shade="#532b46", hull="#150f1e",
    ),
    Mood(
        name="dusk", weight=0.8,
        sky=("#1f3f63", "#35647f", "#6b97a0", "#b9c4a6", "#f2dca0"),
        cloud_light="#e8c9a0", cloud_shade="#3d5a70", cloud_cover=0.4,
        light="sun", disk="#ffe9b0", disk_share=1, glow="#ffd98a", path=0.9, light_height=(0.03, 0.14),
        sea_far="#54808a", sea_near="#12303f", crest="#c9d0b0", swell=0.3,
        land_light="#8a8a7a", land_shade="#182a3a",
        sail_light="#efe0b8", sail_shade="#7d8a84", hull="#0f1a22",
    ),
    Mood(
        name="moonlight", weight=1.3,
        sky=("#0c1b33", "#14304c", "#1f4a63", "#34687a", "#5a8a90"),
        cloud_light="#a9c6c0", cloud_shade="#16293f", cloud_cover=0.5,
        light="moon", disk="#fdfbe2", disk_share=1, glow="#b9d6c6", path=0.9, light_height=(0.40, 0.74),
        sea_far="#1f4a5c", sea_near="#071624", crest="#8fb5b0", swell=0.35,
        land_light="#3c6068", land_shade="#0a1826",
        sail_light="#d8e0cd", sail_shade="#5f7f84", hull="#060c14",
    ),
    Mood(
        name="storm", weight=1.1,
        sky=("#3f4a55", "#525f69", "#74828a", "#a5aeaa", "#e0dcc2"),
        cloud_light="#c9ccc4", cloud_shade="#3b454e", cloud_cover=0.85,
        light="sun", disk="#f4efd6", disk_share=0, glow="#eee6c4", path=0.35, light_height=(0.30, 0.60),
        sea_far="#4a6462", sea_near="#1b302f", crest="#e4e9e0", swell=1.0,
        land_light="#8b8873", land_shade="#2b3236",
        sail_light="#efe6cc", sail_shade="#a39a86", hull="#17140f",
    ),
    Mood(
        name="mist", weight=0.9,
        sky=("#93a8ae", "#a4b6b8", "#b9c4be", "#cdd0c2", "#ddd6c2"),
        cloud_light="#e6e2d4", cloud_shade="#8da0a8", cloud_cover=0.5,
        light="sun", disk="#ff7a3c", disk_share=1, glow="#ffb488", path=0.75, light_height=(0.20, 0.48),
        sea_far="#7d979c", sea_near="#3f6068", crest="#d5dcd2", swell=0.2,
        land_light="#a3aca8", land_shade="#566c76",
        sail_light="#7d8c90", sail_shade="#465863", hull="#22303a",
    ),
)  # fmt: skip


ASPECTS = ((5, 4), (4, 3), (4, 3), (7, 5), (3, 2), (1, 1))

Rig = Literal["ship", "brig", "cutter", "lugger"]

RIGS: tuple[Rig, ...] = ("ship", "brig", "cutter", "lugger")


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
class Hand:
    """A painter's brushwork: stroke width in heights of the painting, stroke length in widths, and irregularity."""

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
    """All that is chosen before painting begins."""

    aspect: tuple[int, int]
    mood: Mood
    hand: Hand
    horizon: float
    light_x: float
    light_y: float
    light_radius: float
    vessels: tuple[Vessel, ...]  # sorted, the farthest first
    coast: Coast | None
    gulls: int


def compose(rng: np.random.Generator, hand: Hand) -> Scene:
    """Choose a scene. It depends only on the generator's state and `hand`."""
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
        coast = None  # a dark hull could not be seen before a dark rock
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
    rig = RIGS[rng.choice(len(RIGS), p=(0.35, 0.2, 0.25, 0.2))]
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

"""Painting the works of the built-in archive from a seed and an index, with titles and artists, all fictional."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from atelier.gallery.brush import Guide, paint_strokes
from atelier.gallery.planes import FloatArray, fractal, rgb, to_image
from atelier.gallery.scene import HANDS, Hand, Scene, Vessel, compose
from atelier.gallery.scenery import paint_land, paint_sea, paint_sky
from atelier.gallery.vessels import (
    OVERSAMPLING,
    draw_gulls,
    draw_placed_vessel,
    paste_reflection,
    paste_vessel,
)


@dataclass(frozen=True, slots=True)
class Artist:
    """A fictional painter, with brushwork and working years."""

    name: str
    hand: Hand
    from_year: int
    to_year: int


ROMANTIC, LUMINIST, IMPRESSIONIST, POST_IMPRESSIONIST, REALIST = HANDS

ARTISTS = (
    Artist("Oriel Vantongeren", ROMANTIC, 1818, 1852),
    Artist("Mathilde Sorgenfrey", ROMANTIC, 1831, 1869),
    Artist("Josiah Merrowick", LUMINIST, 1846, 1881),
    Artist("Anselm Strandvik", REALIST, 1851, 1894),
    Artist("Perpetua Lanyard", REALIST, 1860, 1903),
    Artist("Honorine Delamarée", IMPRESSIONIST, 1869, 1912),
    Artist("Teodor Wassermund", IMPRESSIONIST, 1874, 1921),
    Artist("Inês Salgueirinha", POST_IMPRESSIONIST, 1886, 1927),
)

PLACES = (
    "Kestrel Head", "Port Amaranth", "the Salt Isles", "Cape Verity", "Marrowstone Bay", "Saint Odile",
    "the Lantern Rocks", "Gullhaven", "Cala Serena", "the Widow's Reach", "Hollow Point", "Tern Island",
    "Old Harbour", "the Amber Coast", "Skerry Sound", "Finisterra",
)  # fmt: skip

HOURS = {
    "dawn": ("Dawn", "Daybreak", "First Light", "Rose Morning"),
    "noon": ("Noon", "Fair Weather", "A Fresh Breeze", "Summer Sea"),
    "gold": ("Golden Hour", "Amber Evening", "The Gilded Sea", "Late Light"),
    "sunset": ("Sunset", "Crimson Evening", "The Burning Sky", "Day's End"),
    "dusk": ("Dusk", "Twilight", "The Blue Hour", "Evening Calm"),
    "moonlight": ("Moonlight", "Night Watch at Sea", "Moonrise", "The Silver Path"),
    "storm": ("Storm", "Rising Gale", "Heavy Weather", "After the Squall"),
    "mist": ("Morning Mist", "Sea Haze", "Grey Calm", "Impression of Fog"),
}

RIG_NAMES = {
    "ship": "a Ship under Full Sail",
    "brig": "a Brig",
    "cutter": "a Cutter",
    "lugger": "a Fishing Lugger",
}

COAST_NAMES = {"headland": "the Headland", "cliff": "the Cliffs", "beach": "the Beach"}


def choose_artist(rng: np.random.Generator) -> tuple[Artist, int]:
    """Choose an artist and the year of the work."""
    artist = ARTISTS[rng.integers(len(ARTISTS))]
    return artist, int(rng.integers(artist.from_year, artist.to_year + 1))


def choose_title(rng: np.random.Generator, scene: Scene) -> str:
    """Choose a title that describes the scene."""
    hour = str(rng.choice(HOURS[scene.mood.name]))
    place = str(rng.choice(PLACES))
    manner = rng.random()
    nearest: Vessel | None = scene.vessels[-1] if scene.vessels else None
    if nearest is not None and nearest.height > 0.15 and manner < 0.6:
        return f"{hour}, {RIG_NAMES[nearest.rig]} off {place}"
    if scene.coast is not None and manner < 0.8:
        return f"{hour} by {COAST_NAMES[scene.coast.kind]} of {place}"
    return f"{hour} off {place}" if manner < 0.9 else f"{hour}, Study of Sea and Sky"


@dataclass(frozen=True, slots=True)
class Painting:
    """The catalog's facts of a work."""

    title: str
    artist: str
    year: int
    genre: str
    style: str
    aspect: tuple[int, int]

    def size(self, size_px: int) -> tuple[int, int]:
        """Width and height in pixels if the longer side has `size_px`."""
        wide, high = self.aspect
        longer = max(wide, high)
        return max(1, round(size_px * wide / longer)), max(1, round(size_px * high / longer))


def describe(seed: int, index: int) -> Painting:
    """The facts of work `index` of the archive `seed`, without painting it."""
    return _compose(seed, index)[0]


def paint(seed: int, index: int, size_px: int) -> Image.Image:
    """Paint work `index` of the archive `seed` as RGB, the longer side `size_px`; the same bytes in every process."""
    painting, scene = _compose(seed, index)
    rng = _generator(seed, index, 1)
    size = painting.size(size_px)
    texture = fractal(rng)
    ground = _underpaint(scene, texture, size)
    detail = Image.new("L", size, 0)
    vessels = [draw_placed_vessel(scene, vessel, size) for vessel in scene.vessels]
    for vessel in vessels:
        paste_reflection(ground, vessel, scene.mood.swell, texture)
    picture = ground.copy()
    _paint_disk(picture, detail, scene)
    for vessel in vessels:
        paste_vessel(picture, detail, vessel, scene.mood.swell, texture)
    if scene.gulls:
        draw_gulls(rng, picture, detail, scene.gulls, scene.horizon, scene.mood.hull)
    finished = paint_strokes(ground, picture, detail, scene.hand, _guide(scene, size[1]), texture, rng)
    return to_image(finished)


def _compose(seed: int, index: int) -> tuple[Painting, Scene]:
    rng = _generator(seed, index, 0)
    artist, year = choose_artist(rng)
    scene = compose(rng, artist.hand)
    title = choose_title(rng, scene)
    return Painting(title, artist.name, year, "marina", artist.hand.style, scene.aspect), scene


def _generator(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index, purpose))))


def _underpaint(scene: Scene, texture: FloatArray, size: tuple[int, int]) -> Image.Image:
    """Paint sky, sea and land without strokes, at half size and enlarged; the strokes bring the sharpness."""
    width, height = (max(8, side // 2) for side in size)
    aspect = scene.aspect[0] / scene.aspect[1]
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    x = ((np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(width) - np.float32(0.5)) * np.float32(
        aspect
    )
    above = int((y <= scene.horizon).sum())
    sky = paint_sky(scene, texture, x, y[:above])
    sea = paint_sea(scene, texture, sky, x, y[above:])
    colours = np.concatenate([sky, sea], axis=1)
    if scene.coast is not None:
        colours = paint_land(scene, scene.coast, texture, colours, x, y)
    return to_image(colours).resize(size, Image.Resampling.BICUBIC)


def _guide(scene: Scene, height: int) -> Guide:
    """Strokes are level over water and larger towards the viewer; at the horizon they are fine and straight."""
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    near = np.clip((y - scene.horizon) / (1 - scene.horizon), 0, 1)
    line = np.exp(-(((y - scene.horizon) / 0.03) ** 2))
    water = y > scene.horizon
    level = np.clip(np.where(water, 0.82 - 0.25 * near * scene.mood.swell, 0.12) + line, 0, 1)
    size = np.where(water, 0.55 + 0.5 * near, 1.0) * (1 - 0.45 * line)
    return Guide(level.astype(np.float32), size.astype(np.float32))


def _paint_disk(picture: Image.Image, detail: Image.Image, scene: Scene) -> None:
    """Paint sun or moon onto `picture`, and mark it in `detail`, so that fine strokes keep it round."""
    width, height = picture.size
    radius = scene.light_radius * height
    side = 2 * math.ceil(radius) + 2
    left, top = round(width / 2 + scene.light_x * height - side / 2), round(scene.light_y * height - side / 2)
    centre, fine = side * OVERSAMPLING / 2, radius * OVERSAMPLING
    mask = Image.new("L", (side * OVERSAMPLING, side * OVERSAMPLING), 0)
    strength = round(255 * scene.mood.disk_share)
    ImageDraw.Draw(mask).ellipse((centre - fine, centre - fine, centre + fine, centre + fine), fill=strength)
    mask = mask.reduce(OVERSAMPLING)
    dip = min(max(round(scene.horizon * height) - top, 0), side)
    mask.paste(0, (0, dip, side, side))  # the part below the horizon
    picture.paste(to_image(rgb(scene.mood.disk)).resize(mask.size), (left, top), mask)
    detail.paste(mask, (left, top))

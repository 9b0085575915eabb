"""The built-in archive's painter: seascapes from a seed and an index. Reads and writes no file, keeps no state.

The invented painters of the built-in archive and what they call their works. All of it fiction; paints nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from atelier.gallery.brush import Guide, brush
from atelier.gallery.noise import Field, fractal, to_image
from atelier.gallery.scene import HANDS, Hand, Scene, Vessel, compose, rgb
from atelier.gallery.scenery import paint_land, paint_sea, paint_sky
from atelier.gallery.vessels import FINE, draw_gulls, launch, place, reflect


@dataclass(frozen=True, slots=True)
class Artist:
    """A painter who never lived, with a hand of their own."""

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
    """A painter and the year of the work."""
    artist = ARTISTS[rng.integers(len(ARTISTS))]
    return artist, int(rng.integers(artist.from_year, artist.to_year + 1))


def entitle(rng: np.random.Generator, scene: Scene) -> str:
    """A title that tells what can be seen."""
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
    """What the archive's label says of a work."""

    title: str
    artist: str
    year: int
    genre: str
    style: str
    aspect: tuple[int, int]

    def size(self, size_px: int) -> tuple[int, int]:
        """Width and height in pixels when the longer side has `size_px`."""
        wide, high = self.aspect
        longer = max(wide, high)
        return max(1, round(size_px * wide / longer)), max(1, round(size_px * high / longer))


def describe(seed: int, index: int) -> Painting:
    """The label of work `index` of the archive `seed`, without painting it."""
    return _conceive(seed, index)[0]


def paint(seed: int, index: int, size_px: int) -> Image.Image:
    """Work `index` of the archive `seed`, RGB, its longer side `size_px`: the same bytes in any process."""
    painting, scene = _conceive(seed, index)
    rng = _stream(seed, index, 1)
    size = painting.size(size_px)
    texture = fractal(rng)
    ground = _underpaint(scene, texture, size)
    detail = Image.new("L", size, 0)
    fleet = [launch(scene, vessel, size) for vessel in scene.vessels]
    for ship in fleet:
        reflect(ground, ship, scene.mood.swell, texture)
    picture = ground.copy()
    _set_the_disk(picture, detail, scene)
    for ship in fleet:
        place(picture, detail, ship, scene.mood.swell, texture)
    if scene.gulls:
        draw_gulls(rng, picture, detail, scene.gulls, scene.horizon, scene.mood.hull)
    finished = brush(ground, picture, detail, scene.hand, _guide(scene, size[1]), texture, rng)
    return to_image(finished)


def _conceive(seed: int, index: int) -> tuple[Painting, Scene]:
    rng = _stream(seed, index, 0)
    artist, year = choose_artist(rng)
    scene = compose(rng, artist.hand)
    title = entitle(rng, scene)
    return Painting(title, artist.name, year, "marina", artist.hand.style, scene.aspect), scene


def _stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index, purpose))))


def _underpaint(scene: Scene, texture: Field, size: tuple[int, int]) -> Image.Image:
    """Sky, sea and land without strokes, at half size: the strokes bring the sharpness."""
    width, height = (max(8, side // 2) for side in size)
    aspect = scene.aspect[0] / scene.aspect[1]
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    x = (
        (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(width) - np.float32(0.5)
    ) * np.float32(aspect)
    above = int((y <= scene.horizon).sum())
    sky = paint_sky(scene, texture, x, y[:above])
    sea = paint_sea(scene, texture, sky, x, y[above:])
    colours = np.concatenate([sky, sea], axis=1)
    if scene.coast is not None:
        colours = paint_land(scene, scene.coast, texture, colours, x, y)
    return to_image(colours).resize(size, Image.Resampling.BICUBIC)


def _guide(scene: Scene, height: int) -> Guide:
    """Over water strokes lie level and grow towards the viewer; at the horizon they are fine and straight."""
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    near = np.clip((y - scene.horizon) / (1 - scene.horizon), 0, 1)
    line = np.exp(-(((y - scene.horizon) / 0.03) ** 2))
    water = y > scene.horizon
    level = np.clip(np.where(water, 0.82 - 0.25 * near * scene.mood.swell, 0.12) + line, 0, 1)
    size = np.where(water, 0.55 + 0.5 * near, 1.0) * (1 - 0.45 * line)
    return Guide(level.astype(np.float32), size.astype(np.float32))


def _set_the_disk(picture: Image.Image, detail: Image.Image, scene: Scene) -> None:
    """Sun or moon onto `picture`; `detail` keeps it round under the brush."""
    width, height = picture.size
    radius = scene.light_radius * height
    side = 2 * math.ceil(radius) + 2
    left, top = round(width / 2 + scene.light_x * height - side / 2), round(scene.light_y * height - side / 2)
    centre, fine = side * FINE / 2, radius * FINE
    mask = Image.new("L", (side * FINE, side * FINE), 0)
    strength = round(255 * scene.mood.disk_share)
    ImageDraw.Draw(mask).ellipse((centre - fine, centre - fine, centre + fine, centre + fine), fill=strength)
    mask = mask.reduce(FINE)
    dip = min(max(round(scene.horizon * height) - top, 0), side)
    mask.paste(0, (0, dip, side, side))  # what is under the horizon
    picture.paste(to_image(rgb(scene.mood.disk)).resize(mask.size), (left, top), mask)
    detail.paste(mask, (left, top))

"""The built-in archive's painter: seascapes from a seed and an index. Reads and writes no file, keeps no state."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from atelier.gallery.brush import brush
from atelier.gallery.land import paint_land
from atelier.gallery.names import choose_artist, entitle
from atelier.gallery.noise import Field, fractal, mix
from atelier.gallery.scene import Scene, Vessel, compose
from atelier.gallery.sea import paint_sea
from atelier.gallery.sky import paint_sky
from atelier.gallery.vessels import DRAUGHT, HEADROOM, draw_gulls, draw_vessel


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
    """Work `index` of the archive `seed`, RGB, its longer side `size_px`: the same bytes wherever it is painted."""
    painting, scene = _conceive(seed, index)
    rng = _stream(seed, index, 1)
    size = painting.size(size_px)
    texture = fractal(rng)
    picture = _underpaint(scene, texture, size)
    calm = Image.new("L", size, 0)
    for vessel in scene.vessels:
        _place(picture, calm, scene, vessel, texture)
    if scene.gulls:
        draw_gulls(rng, picture, scene.gulls, scene.horizon, scene.mood.hull)
    kept = np.asarray(calm, np.float32) * np.float32(0.8 / 255)
    finished = brush(picture, scene.hand, texture, kept, rng)
    return Image.fromarray((np.clip(finished, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8))


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
    colours = np.concatenate([sky, sea]).astype(np.float32)
    if scene.coast is not None:
        colours = paint_land(scene, scene.coast, texture, colours, x, y)
    small = Image.fromarray((np.clip(colours, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def _place(picture: Image.Image, calm: Image.Image, scene: Scene, vessel: Vessel, texture: Field) -> None:
    """A vessel and its reflection onto `picture`; `calm` remembers where it is."""
    width, height = picture.size
    tall = max(6, round(vessel.height * height))
    light_from = 1 if scene.light_x > vessel.x else -1
    cutout = draw_vessel(vessel, scene.mood, tall, light_from)
    left = round(width / 2 + vessel.x * height - cutout.width / 2)
    waterline = round(vessel.waterline * height)
    _reflect(picture, cutout, left, waterline, tall, texture, scene.mood.swell)
    afloat = cutout.crop((0, 0, cutout.width, round(HEADROOM * tall + 0.4 * DRAUGHT * tall)))
    top = waterline - round(HEADROOM * tall)
    picture.paste(afloat, (left, top), afloat)
    calm.paste(255, (left, top), afloat.getchannel("A"))


def _reflect(
    picture: Image.Image,
    cutout: Image.Image,
    left: int,
    waterline: int,
    tall: int,
    texture: Field,
    swell: float,
) -> None:
    """The cut-out upside down, shortened, darkened, and torn by the waves."""
    depth = max(2, round(tall * 0.7))
    mirrored = cutout.crop((0, 0, cutout.width, round(HEADROOM * tall))).transpose(
        Image.Transpose.FLIP_TOP_BOTTOM
    )
    image = np.asarray(mirrored.resize((cutout.width, depth), Image.Resampling.BILINEAR), np.float32) / 255
    rows = np.arange(depth)
    wave = (
        texture[(rows * 190 // depth) & 255, 17] * (0.2 + 0.8 * rows / depth) * (0.02 + 0.03 * swell) * tall
    )
    columns = (np.arange(cutout.width)[None, :] + np.round(wave)[:, None].astype(np.int32)) % cutout.width
    image = image[rows[:, None], columns]
    fade = (0.75 - 0.35 * swell) * (1 - rows / depth) ** 0.8
    box = (
        max(0, left),
        waterline,
        min(picture.width, left + cutout.width),
        min(picture.height, waterline + depth),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    part = image[: box[3] - box[1], box[0] - left : box[2] - left]
    under = np.asarray(picture.crop(box), np.float32) / 255
    share = part[..., 3] * fade[: part.shape[0], None].astype(np.float32)
    mixed = mix(under, part[..., :3] * np.float32(0.7), share)
    picture.paste(Image.fromarray((np.clip(mixed, 0, 1) * 255).astype(np.uint8)), box[:2])

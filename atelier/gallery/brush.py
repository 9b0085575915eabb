"""Turning a smooth picture into brush strokes that follow its forms, with the relief of oil paint.

The painting functions of this package share the helpers at the end: periodic noise, ramps and mixtures of arrays of
colours, which are (3, h, w) of 0 to 1, and their conversion to and from images.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.gallery.scene import Hand

FloatArray = NDArray[np.floating[Any]]  # in single precision if it is as large as a picture

SAMPLE_STEP_PX = 0.72  # between samples of a stroke: about 1/√2, so that a turned stroke has no holes
CHUNK_SAMPLES = 1 << 15  # turned at once: as many as fit in a core's cache
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
TEXTURE_PX = 256  # the side of a texture, one period; a power of two, so that wrapping is a bit mask
FLOW_PX = 96  # the side of the picture whose forms are followed


@dataclass(frozen=True, slots=True)
class _Coat:
    """One coat of strokes."""

    scale: float  # the strokes' size relative to the hand's
    cover: float  # how many times the coat covers the canvas
    loose: float  # variation of angles


COATS = (_Coat(1.9, 1.1, 1.0), _Coat(1.0, 1.9, 0.7))
FINE_COAT = _Coat(0.42, 2.6, 0.4)


def paint_strokes(
    ground: Image.Image, picture: Image.Image, detail: Image.Image,
    hand: Hand, guide: FloatArray, texture: FloatArray, rng: np.random.Generator,
) -> FloatArray:  # fmt: skip
    """Paint `ground` in broad strokes, then `picture` in fine ones where `detail` (mode L) is set.

    Returns an array (3, h, w) of 0 to 1. The broad strokes are the same at every size in pixels. `guide` (2, h) is how
    level the strokes are in each row, 0 to 1, and their size relative to the hand's.
    """
    broad = _Canvas(ground, hand, guide, texture, rng, ground.height)
    for coat in COATS:
        broad.add_coat(coat)
    painted, relief = broad.result()
    if box := detail.getbbox():
        left, top, right, bottom = box
        share = np.asarray(detail.crop(box), np.float32) / np.float32(255)
        calm = replace(hand, slender=3.0, swirl=0.0, broken=0.8 * hand.broken, relief=0.6 * hand.relief)
        fine = _Canvas(picture.crop(box), calm, guide[:, top:bottom], texture, rng, picture.height)
        fine.add_coat(FINE_COAT, share > 0.85)
        small, small_relief = fine.result()
        small = mix(small, fine.plain, np.full((1, 1), 0.45, np.float32))  # keeps the drawn edges
        inside = slice(top, bottom), slice(left, right)
        painted[:, *inside] = mix(painted[:, *inside], small, share)
        relief[inside] = mix(relief[inside], np.float32(0.6) * small_relief, share)
    return painted * _raking_light(relief, hand)


class _Canvas:
    """A picture covered by strokes, also beyond its edges. `unit_px`, the unit of widths, is the painting's height."""

    def __init__(
        self, picture: Image.Image, hand: Hand, guide: FloatArray, texture: FloatArray, rng: np.random.Generator,
        unit_px: int,
    ) -> None:  # fmt: skip
        self.plain = np.stack([np.asarray(band, np.float32) for band in picture.split()]) * np.float32(1 / 255)
        self.flow, self.hand = _flow(picture), hand
        self.guide, self.texture, self.rng = guide, texture, rng
        self.width, self.height, self.unit_px = *picture.size, unit_px
        self.margin = math.ceil(2.2 * hand.width * hand.slender * unit_px) + 4
        shape = self.height + 2 * self.margin, self.width + 2 * self.margin
        self.stroke = np.zeros(shape, np.int32)  # the number of the stroke on top, from 1
        self.load = np.full(shape, -0.5, np.float32)  # how much paint it has
        self.colours: list[FloatArray] = [np.zeros((3, 1), np.float32)]
        self.count = 1

    def add_coat(self, coat: _Coat, where: NDArray[np.bool_] | None = None) -> None:
        """Add one coat of strokes that start where `where` is true (None: everywhere)."""
        hand, height, width, rng = self.hand, self.height, self.width, self.rng
        breadth = hand.width * coat.scale * self.unit_px
        length = breadth * hand.slender
        rows, columns = math.ceil(1.25 * coat.cover * height / breadth), math.ceil(1.25 * width / length)
        grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
        place = rng.permutation((grid + rng.random(grid.shape)) / (rows, columns)).astype(np.float32)
        place = np.minimum(place, BELOW_ONE)  # rounding may have reached 1, which is outside the picture
        jitter = rng.standard_normal((len(place), 6), np.float32)
        size = rng.uniform(0.65, 1.0, len(place)).astype(np.float32)
        bristles = _bristles(rng, max(4.0, length), max(1.6, breadth))
        if where is not None:
            kept = where[(place[:, 0] * height).astype(np.int32), (place[:, 1] * width).astype(np.int32)]
            place, jitter, size = place[kept], jitter[kept], size[kept]

        y, x = place[:, 0] * np.float32(height), place[:, 1] * np.float32(width)
        row, column = y.astype(np.int32), x.astype(np.int32)
        level, wanted_size = self.guide[:, row]
        stray = np.float32(0.10 + 0.10 * coat.loose) * (1 - np.float32(0.7) * level)
        angle = _angles(place, self.flow, level, hand, self.texture) + stray * jitter[:, 0]
        bend = np.float32(0.10 + 0.15 * hand.swirl) * jitter[:, 1]
        self._stamp(x, y, angle, size * wanted_size, bend, bristles)
        tint = np.float32(hand.broken) * (jitter[:, 2] + np.float32(0.45) * jitter[:, 3:6].T)
        self.colours.append(np.clip(self.plain[:, row, column] + tint, 0, 1))
        self.count += len(place)

    def result(self) -> tuple[FloatArray, FloatArray]:
        """The painted colours (3, h, w) and the relief of the paint (h, w)."""
        inner = slice(self.margin, self.margin + self.height), slice(self.margin, self.margin + self.width)
        stroke, load = self.stroke[inner], self.load[inner]
        cover = np.clip(np.float32(0.80) + np.float32(0.25) * load, 0, 1) * (stroke > 0)
        colours = np.concatenate(self.colours, axis=1)
        paint = np.stack([plane[stroke] for plane in colours])
        paint += np.float32(0.022 * self.hand.relief) * load
        return mix(self.plain, paint, cover), load

    def _stamp(
        self, x: FloatArray, y: FloatArray, angle: FloatArray, size: FloatArray, bend: FloatArray, bristles: FloatArray
    ) -> None:
        """Write each stroke's number and paint at its pixels; later strokes replace earlier ones."""
        along, across, bow, paint = bristles
        cos, sin = np.cos(angle) * size, np.sin(angle) * size
        stride = self.stroke.shape[1]
        stroke, load = self.stroke.reshape(-1), self.load.reshape(-1)
        numbers = np.arange(self.count, self.count + len(x), dtype=np.int32)
        x, y = x + np.float32(self.margin), y + np.float32(self.margin)
        step = max(1, CHUNK_SAMPLES // len(paint))
        for start in range(0, len(x), step):
            some = slice(start, start + step)
            c, s = cos[some, None], sin[some, None]
            side = bend[some, None] * bow
            side += across
            px = c * along
            px -= s * side
            px += x[some, None]
            py = s * along
            py += c * side
            py += y[some, None]
            spot = py.astype(np.int32)
            spot *= stride
            spot += px.astype(np.int32)
            stroke[spot] = numbers[some, None]
            load[spot] = paint


def _bristles(rng: np.random.Generator, along_px: float, across_px: float) -> FloatArray:
    """The samples (4, n) of one stroke: place along and across it in pixels, bend, and amount of paint (−1 to 1).

    Its bristles are uneven, its ends ragged, and paint has gathered at its end.
    """
    hairs, ragged = rng.normal(0, 0.6, 9), rng.uniform(0.0, 0.16, 9)
    u, v = np.meshgrid(
        np.linspace(-0.5, 0.5, max(5, math.ceil(along_px / SAMPLE_STEP_PX))),
        np.linspace(-0.5, 0.5, max(3, math.ceil(across_px / SAMPLE_STEP_PX))),
        indexing="ij",
    )
    knots = np.linspace(-0.5, 0.5, 9)
    load = np.interp(v, knots, hairs) * (1 + 0.8 * u) + 0.7 * np.exp(-(((u - 0.42) / 0.07) ** 2))
    rounded = 0.35 * np.abs(2 * v) ** 3
    start, end = np.interp(v, knots, ragged) + rounded, np.interp(-v, knots, ragged) + rounded
    held = (u + 0.5 > start) & (0.5 - u > 0.6 * end)
    along, across, bow = u[held] * along_px, v[held] * across_px, u[held] ** 2 * along_px
    return np.stack([along, across, bow, load[held]]).astype(np.float32)


def _flow(picture: Image.Image) -> FloatArray:
    """The structure tensor (3, FLOW_PX, FLOW_PX) of the picture: xx, xy and yy."""
    side = FLOW_PX
    small = np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BOX), np.float32) / 255
    down, across = np.gradient(small)
    products = np.stack([across * across, across * down, down * down])
    smooth = products.reshape(3, side // 4, 4, side // 4, 4).mean((2, 4)).astype(np.float32)
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC)) for p in smooth])


def _angles(place: FloatArray, flow: FloatArray, level: FloatArray, hand: Hand, texture: FloatArray) -> FloatArray:
    """Angles of strokes at `place` (y, x in 0 to 1), along the forms; level where there are none, or by `level`."""
    xx, xy, yy = flow[:, (place[:, 0] * FLOW_PX).astype(np.int32), (place[:, 1] * FLOW_PX).astype(np.int32)]
    strength = np.hypot(xx - yy, 2 * xy) + np.float32(1e-5)
    cos, sin = (yy - xx) / strength, -2 * xy / strength  # of twice the angle, perpendicular to the gradient
    strong = np.clip(strength / np.float32(6e-5), 0, 1) * (1 - level)
    angle: FloatArray = np.float32(0.5) * np.arctan2(sin * strong, cos * strong + (1 - strong))
    turn = sample(texture, place[:, 1] * np.float32(0.45) + np.float32(0.7), place[:, 0] * np.float32(0.3))
    return angle + np.float32(0.8 * hand.swirl) * turn * (1 - level)


def _raking_light(relief: FloatArray, hand: Hand) -> FloatArray:
    """Factors (h, w) by which light from the upper left shades the paint's relief and the canvas's weave."""
    height, width = relief.shape
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    weave = np.sin(rows * np.float32(2.1))[:, None] * np.sin(columns * np.float32(2.1))
    slope: FloatArray = np.pad(relief[1:, 1:] - relief[:-1, :-1], ((1, 0), (1, 0)))
    factors: FloatArray = 1 + np.float32(0.10 * hand.relief) * slope + np.float32(0.014) * weave
    return factors


def fractal(rng: np.random.Generator) -> FloatArray:
    """A periodic texture (TEXTURE_PX, TEXTURE_PX), mean 0 and standard deviation 1, in six octaves from 4 cells up."""
    total = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    for octave in range(6):
        cells = 4 * 2**octave
        grid = np.pad(rng.standard_normal((cells, cells), np.float32), 2, mode="wrap")
        box = (2, 2, cells + 2, cells + 2)
        smooth = Image.fromarray(grid).resize((TEXTURE_PX, TEXTURE_PX), Image.Resampling.BICUBIC, box)
        total += np.asarray(smooth) * np.float32(0.55**octave)
    total -= total.mean()
    total /= total.std()
    return total


def sample(texture: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """The texture at (x, y), in periods, with bilinear interpolation and wrapping around."""
    x, y = x * np.float32(TEXTURE_PX), y * np.float32(TEXTURE_PX)
    column, row = np.floor(x), np.floor(y)
    across, down = x - column, y - row
    left, top = column.astype(np.int32) & (TEXTURE_PX - 1), row.astype(np.int32) & (TEXTURE_PX - 1)
    right, bottom = (left + 1) & (TEXTURE_PX - 1), (top + 1) & (TEXTURE_PX - 1)
    flat = texture.ravel()
    top, bottom = top * TEXTURE_PX, bottom * TEXTURE_PX
    upper = flat[top + left] * (1 - across) + flat[top + right] * across
    lower = flat[bottom + left] * (1 - across) + flat[bottom + right] * across
    return upper * (1 - down) + lower * down


def smoothstep(low: float, high: float, value: FloatArray) -> FloatArray:
    """0 below `low`, 1 above `high`, and a smooth cubic between."""
    ramp: FloatArray = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def mix(a: FloatArray, b: FloatArray, share: FloatArray) -> FloatArray:
    """Mix `a` (at `share` 0) and `b` (at 1); arrays of shape (3, h, w) or (h, w), broadcast against each other."""
    mixed: FloatArray = (b - a) * share
    mixed += a
    return mixed


def to_image(colours: FloatArray) -> Image.Image:
    """An array (3, h, w) as an RGB image; values are clipped to 0 to 1."""
    whole = (np.clip(colours, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(plane) for plane in whole])


def rgb(colour: str) -> FloatArray:
    """'#rrggbb' as an array (3, 1, 1) of 0 to 1."""
    return np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)], np.float32)[:, None, None]

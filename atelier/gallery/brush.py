"""Turning a smooth picture into brush strokes that follow its forms, with the relief of oil paint."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.gallery.planes import FloatArray, from_image, mix, sample
from atelier.gallery.scene import Hand

SAMPLE_STEP_PX = 0.72  # between samples of a stroke: about 1/√2, so that a turned stroke has no holes
CHUNK_SAMPLES = 1 << 15  # turned at once: as many as fit in a core's cache
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
FLOW_PX = 96  # the side of the picture whose forms are followed


@dataclass(frozen=True, slots=True)
class Guide:
    """For each row of pixels: how level strokes are (0 to 1), and their size relative to the hand's."""

    level: FloatArray
    size: FloatArray


@dataclass(frozen=True, slots=True)
class _Coat:
    """One coat of strokes: size relative to the hand's, how many times it covers the canvas, variation of angles."""

    scale: float
    cover: float
    loose: float


COATS = (_Coat(1.9, 1.1, 1.0), _Coat(1.0, 1.9, 0.7))
FINE_COAT = _Coat(0.42, 2.6, 0.4)


def paint_strokes(
    ground: Image.Image, picture: Image.Image, detail: Image.Image,
    hand: Hand, guide: Guide, texture: FloatArray, rng: np.random.Generator,
) -> FloatArray:  # fmt: skip
    """Paint `ground` in broad strokes, then `picture` in fine ones where `detail` (mode L) is set.

    Returns an array (3, h, w) of 0 to 1. The broad strokes are the same at every size in pixels.
    """
    broad = _Canvas(ground, hand, ground.height)
    for coat in COATS:
        broad.add_coat(coat, None, guide, texture, rng)
    painted, relief = broad.result()
    if box := detail.getbbox():
        _refine(painted, relief, picture, detail, box, hand, guide, texture, rng)
    return painted * _raking_light(relief, hand)


def _refine(
    painted: FloatArray, relief: FloatArray, picture: Image.Image, detail: Image.Image, box: tuple[int, int, int, int],
    hand: Hand, guide: Guide, texture: FloatArray, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Paint fine strokes into `painted` and `relief`, in place, inside `box`."""
    left, top, right, bottom = box
    share = np.asarray(detail.crop(box), np.float32) / np.float32(255)
    calm = replace(hand, slender=3.0, swirl=0.0, broken=0.8 * hand.broken, relief=0.6 * hand.relief)
    fine = _Canvas(picture.crop(box), calm, picture.height)
    fine.add_coat(FINE_COAT, share > 0.85, Guide(guide.level[top:bottom], guide.size[top:bottom]), texture, rng)
    small, small_relief = fine.result()
    small = mix(small, fine.plain, np.full((1, 1), 0.45, np.float32))  # keeps the drawn edges
    inside = slice(top, bottom), slice(left, right)
    painted[:, *inside] = mix(painted[:, *inside], small, share)
    relief[inside] = mix(relief[inside], np.float32(0.6) * small_relief, share)


class _Canvas:
    """A picture that is covered by strokes, with a margin for those that extend beyond its edges.

    `unit_px` is the height of the whole painting, the unit of a hand's stroke width.
    """

    def __init__(self, picture: Image.Image, hand: Hand, unit_px: int) -> None:
        self.plain, self.flow, self.hand = from_image(picture), _flow(picture), hand
        self.width, self.height, self.unit_px = *picture.size, unit_px
        self.margin = math.ceil(2.2 * hand.width * hand.slender * unit_px) + 4
        shape = self.height + 2 * self.margin, self.width + 2 * self.margin
        self.stroke = np.zeros(shape, np.int32)  # the number of the stroke on top, from 1
        self.load = np.full(shape, -0.5, np.float32)  # how much paint it has
        self.colours: list[FloatArray] = [np.zeros((3, 1), np.float32)]
        self.count = 1

    def add_coat(
        self,
        coat: _Coat,
        where: NDArray[np.bool_] | None,
        guide: Guide,
        texture: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        """Add one coat of strokes that start where `where` is true (None: everywhere)."""
        hand, height, width = self.hand, self.height, self.width
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
        level = guide.level[row]
        stray = np.float32(0.10 + 0.10 * coat.loose) * (1 - np.float32(0.7) * level)
        angle = _angles(place, self.flow, level, hand, texture) + stray * jitter[:, 0]
        bend = np.float32(0.10 + 0.15 * hand.swirl) * jitter[:, 1]
        self._stamp(x, y, angle, size * guide.size[row], bend, bristles)
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
        self,
        x: FloatArray,
        y: FloatArray,
        angle: FloatArray,
        size: FloatArray,
        bend: FloatArray,
        bristles: "_Bristles",
    ) -> None:
        """Write each stroke's number and paint at its pixels; later strokes replace earlier ones."""
        cos, sin = np.cos(angle) * size, np.sin(angle) * size
        stride = self.stroke.shape[1]
        stroke, load = self.stroke.reshape(-1), self.load.reshape(-1)
        numbers = np.arange(self.count, self.count + len(x), dtype=np.int32)
        x, y = x + np.float32(self.margin), y + np.float32(self.margin)
        step = max(1, CHUNK_SAMPLES // len(bristles.load))
        for start in range(0, len(x), step):
            some = slice(start, start + step)
            c, s = cos[some, None], sin[some, None]
            side = bend[some, None] * bristles.bow
            side += bristles.across
            px = c * bristles.along
            px -= s * side
            px += x[some, None]
            py = s * bristles.along
            py += c * side
            py += y[some, None]
            spot = py.astype(np.int32)
            spot *= stride
            spot += px.astype(np.int32)
            stroke[spot] = numbers[some, None]
            load[spot] = bristles.load


@dataclass(frozen=True, slots=True)
class _Bristles:
    """The samples of one stroke: place along and across it in pixels, bend, and amount of paint (−1 to 1)."""

    along: FloatArray
    across: FloatArray
    bow: FloatArray
    load: FloatArray


def _bristles(rng: np.random.Generator, along_px: float, across_px: float) -> _Bristles:
    """A stroke with uneven bristles, a ridge of paint at its end, and ragged ends."""
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
    return _Bristles(*(a.astype(np.float32) for a in (along, across, bow, load[held])))


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
    angle = np.float32(0.5) * np.arctan2(sin * strong, cos * strong + (1 - strong))
    turn = sample(texture, place[:, 1] * np.float32(0.45) + np.float32(0.7), place[:, 0] * np.float32(0.3))
    found: FloatArray = angle + np.float32(0.8 * hand.swirl) * turn * (1 - level)
    return found


def _raking_light(relief: FloatArray, hand: Hand) -> FloatArray:
    """Factors (h, w) by which light from the upper left shades the paint's relief and the canvas's weave."""
    height, width = relief.shape
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    weave = np.sin(rows * np.float32(2.1))[:, None] * np.sin(columns * np.float32(2.1))
    slope = np.zeros_like(relief)
    slope[1:, 1:] = relief[1:, 1:] - relief[:-1, :-1]
    shading: FloatArray = 1 + np.float32(0.10 * hand.relief) * slope + np.float32(0.014) * weave
    return shading

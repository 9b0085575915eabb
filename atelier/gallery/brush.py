"""Oil on canvas: a smooth picture becomes strokes that follow its forms. Knows no subject."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.gallery.noise import Field, mix, sample
from atelier.gallery.scene import Hand

STEP_PX = 0.72  # between samples of a stroke: nearly 1/√2, or a turned stroke would have holes
CHUNK = 1 << 15  # samples turned at once: what stays in a core's cache
FLOW_SIDE = 96  # forms are followed in a picture of so many squares a side


@dataclass(frozen=True, slots=True)
class Guide:
    """What a painter knows of each row: how level strokes lie (0 to 1), and how large they are (1: as the hand's)."""

    level: Field
    size: Field


@dataclass(frozen=True, slots=True)
class _Coat:
    """One coat of strokes: size relative to the hand's, how often the canvas is covered, how freely it is laid."""

    scale: float
    cover: float
    loose: float


COATS = (_Coat(1.9, 1.1, 1.0), _Coat(1.0, 1.9, 0.7))
FINE_COAT = _Coat(0.42, 2.6, 0.4)


def brush(
    ground: Image.Image, picture: Image.Image, detail: Image.Image,
    hand: Hand, guide: Guide, texture: Field, rng: np.random.Generator,
) -> Field:  # fmt: skip
    """Colours 0 to 1: `ground` in broad strokes, then `picture` in fine ones where `detail` (L) says so.

    How many strokes there are and what is drawn from `rng` does not depend on the size in pixels.
    """
    plain = _colours(ground)
    height, width = plain.shape[:2]
    flow = _flow(ground)
    painted, relief = plain, np.zeros((height, width), np.float32)
    everywhere = np.ones((1, 1), bool)
    for coat in COATS:
        painted, relief = _lay(painted, relief, plain, everywhere, coat, hand, guide, flow, texture, rng)

    share = np.asarray(detail, np.float32) / np.float32(255)
    plain = _colours(picture)
    painted = mix(painted, plain, share)
    relief = relief * (1 - np.float32(0.8) * share)
    calm = replace(hand, slender=3.0, swirl=0.0, broken=0.8 * hand.broken, relief=0.6 * hand.relief)
    flow = _flow(picture)
    painted, relief = _lay(painted, relief, plain, share > 0.85, FINE_COAT, calm, guide, flow, texture, rng)
    painted = mix(painted, plain, np.float32(0.55) * share)
    return painted * _raking_light(relief, hand)[..., None]


def _lay(
    painted: Field, relief: Field, plain: Field, where: NDArray[np.bool_], coat: _Coat, hand: Hand, guide: Guide,
    flow: Field, texture: Field, rng: np.random.Generator,
) -> tuple[Field, Field]:  # fmt: skip
    """`painted` and its `relief` under one more coat, of strokes that start where `where` allows."""
    height, width = plain.shape[:2]
    breadth = hand.width * coat.scale
    length = breadth * hand.slender
    rows, columns = math.ceil(1.25 * coat.cover / breadth), math.ceil(1.25 * width / height / length)
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    place = rng.permutation((grid + rng.random(grid.shape)) / (rows, columns)).astype(np.float32)
    jitter = rng.standard_normal((len(place), 6), np.float32)
    size = rng.uniform(0.65, 1.0, len(place)).astype(np.float32)
    along_px, across_px = max(4.0, length * height), max(1.6, breadth * height)
    bristles = _bristles(rng, along_px, across_px)

    if where.size > 1:
        kept = where[(place[:, 0] * height).astype(np.int32), (place[:, 1] * width).astype(np.int32)]
        place, jitter, size = place[kept], jitter[kept], size[kept]
    y, x = place[:, 0] * np.float32(height), place[:, 1] * np.float32(width)
    row, column = y.astype(np.int32), x.astype(np.int32)
    level = guide.level[row]
    angle = _angles(place, flow, level, hand, texture)
    angle = (
        angle
        + (np.float32(0.10) + np.float32(0.10 * coat.loose)) * (1 - np.float32(0.7) * level) * jitter[:, 0]
    )
    bend = np.float32(0.10 + 0.15 * hand.swirl) * jitter[:, 1]
    tint = np.float32(hand.broken) * (jitter[:, 2:3] + np.float32(0.45) * jitter[:, 3:6])
    colours = np.clip(plain[row, column] + tint, 0, 1)

    top = _stamp((height, width), x, y, angle, size * guide.size[row], bend, bristles)
    bare = top < 0
    stroke, hair = np.divmod(np.maximum(top, 0), len(bristles.load))
    load = bristles.load[hair]
    cover = np.where(bare, np.float32(0), np.clip(np.float32(0.80) + np.float32(0.25) * load, 0, 1))
    paint = colours[stroke] if len(colours) else plain
    paint = paint + (np.float32(0.022 * hand.relief) * load)[..., None]
    return mix(painted, paint, cover), np.where(bare, relief, np.float32(0.5) + load)


@dataclass(frozen=True, slots=True)
class _Bristles:
    """The samples of one stroke: place along and across in pixels, bow, and how much paint each carries (−1 to 1)."""

    along: Field
    across: Field
    bow: Field
    load: Field


def _bristles(rng: np.random.Generator, along_px: float, across_px: float) -> _Bristles:
    """Hairs of unlike load, a ridge of paint where the brush lifts, ragged ends."""
    hairs, ragged = rng.normal(0, 0.6, 9), rng.uniform(0.0, 0.16, 9)
    u, v = np.meshgrid(
        np.linspace(-0.5, 0.5, max(5, math.ceil(along_px / STEP_PX))),
        np.linspace(-0.5, 0.5, max(3, math.ceil(across_px / STEP_PX))),
        indexing="ij",
    )
    knots = np.linspace(-0.5, 0.5, 9)
    load = np.interp(v, knots, hairs) * (1 + 0.8 * u) + 0.7 * np.exp(-(((u - 0.42) / 0.07) ** 2))
    rounded = 0.35 * np.abs(2 * v) ** 3
    start, end = np.interp(v, knots, ragged) + rounded, np.interp(-v, knots, ragged) + rounded
    held = (u + 0.5 > start) & (0.5 - u > 0.6 * end)
    along, across, bow = u[held] * along_px, v[held] * across_px, u[held] ** 2 * along_px
    return _Bristles(*(a.astype(np.float32) for a in (along, across, bow, load[held])))


def _stamp(
    shape: tuple[int, int], x: Field, y: Field, angle: Field, size: Field, bend: Field, bristles: _Bristles
) -> NDArray[np.int32]:
    """For each pixel stroke · samples + sample of the stroke on top, −1 where there is none."""
    height, width = shape
    cos, sin = np.cos(angle) * size, np.sin(angle) * size
    samples = len(bristles.load)
    margin = math.ceil(float(np.abs(bristles.along).max() * 1.6 + bristles.across.max())) + 2
    stride = width + 2 * margin  # strokes that leave the picture end in the margin
    top = np.full((height + 2 * margin) * stride, -1, np.int32)
    step = max(1, CHUNK // samples)
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
        spot = (py + np.float32(margin)).astype(np.int32)
        spot *= stride
        spot += (px + np.float32(margin)).astype(np.int32)
        first = start * samples
        top[spot] = np.arange(first, first + spot.size, dtype=np.int32).reshape(
            spot.shape
        )  # the last one stays
    return top.reshape(-1, stride)[margin : margin + height, margin : margin + width]


def _flow(picture: Image.Image) -> Field:
    """The structure tensor (3, FLOW_SIDE, FLOW_SIDE) of the picture's forms."""
    side = FLOW_SIDE
    small = np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BOX), np.float32) / 255
    down, across = np.gradient(small)
    products = np.stack([across * across, across * down, down * down])
    smooth = products.reshape(3, side // 4, 4, side // 4, 4).mean((2, 4)).astype(np.float32)
    return np.stack(
        [np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC)) for p in smooth]
    )


def _angles(place: Field, flow: Field, level: Field, hand: Hand, texture: Field) -> Field:
    """Angles of strokes at `place` (y, x in 0 to 1): along the forms, level where there are none or it is wanted."""
    xx, xy, yy = flow[
        :, (place[:, 0] * FLOW_SIDE).astype(np.int32), (place[:, 1] * FLOW_SIDE).astype(np.int32)
    ]
    strength = np.hypot(xx - yy, 2 * xy) + np.float32(1e-5)
    cos, sin = (yy - xx) / strength, -2 * xy / strength  # of twice the angle, at right angles to the gradient
    strong = np.clip(strength / np.float32(6e-5), 0, 1) * (1 - level)
    angle = np.float32(0.5) * np.arctan2(sin * strong, cos * strong + (1 - strong))
    turn = sample(texture, place[:, 1] * np.float32(0.45) + np.float32(0.7), place[:, 0] * np.float32(0.3))
    found: Field = angle + np.float32(0.8 * hand.swirl) * turn * (1 - level)
    return found


def _raking_light(relief: Field, hand: Hand) -> Field:
    """How a light from the upper left brightens and darkens the paint's relief and the canvas's weave."""
    height, width = relief.shape
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    weave = np.sin(rows * np.float32(2.1))[:, None] * np.sin(columns * np.float32(2.1))
    slope = np.zeros_like(relief)
    slope[1:, 1:] = relief[1:, 1:] - relief[:-1, :-1]
    shading: Field = 1 + np.float32(0.10 * hand.relief) * slope + np.float32(0.014) * weave
    return shading


def _colours(picture: Image.Image) -> Field:
    return np.asarray(picture, np.float32) / np.float32(255)

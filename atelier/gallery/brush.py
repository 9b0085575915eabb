"""Oil on canvas: a smooth picture becomes strokes that follow its forms. Knows no subject."""

import math

import numpy as np
from PIL import Image

from atelier.gallery.noise import Field, sample
from atelier.gallery.scene import Hand

STEP_PX = 0.72  # between samples of a stroke: below 1/√2, or a turned stroke would have holes


def brush(picture: Image.Image, hand: Hand, texture: Field, calm: Field, rng: np.random.Generator) -> Field:
    """The picture in strokes, colours 0 to 1. `calm` (h, w), 0 to 1, is where the smooth picture shows through.

    How many strokes there are and what is drawn from `rng` does not depend on the picture's size.
    """
    plain = np.asarray(picture, np.float32) / np.float32(255)
    height, width = plain.shape[:2]
    angles = _flow(picture, hand, texture)
    painted, relief = plain, np.zeros((height, width), np.float32)
    for scale, loose in ((1.9, 1.0), (1.0, 0.7)):
        painted, relief = _layer(painted, relief, plain, angles, hand, scale, loose, rng)
    painted = painted + (plain - painted) * calm[..., None]
    relief = relief * (1 - 0.6 * calm)
    slope = np.zeros_like(relief)
    slope[1:, 1:] = relief[1:, 1:] - relief[:-1, :-1]
    weave = _weave(height, width)
    shading = np.float32(1) + np.float32(0.10 * hand.relief) * slope + np.float32(0.014) * weave
    return painted * shading[..., None]


def _layer(
    painted: Field, relief: Field, plain: Field, angles: Field, hand: Hand, scale: float, loose: float,
    rng: np.random.Generator,
) -> tuple[Field, Field]:  # fmt: skip
    """One coat of strokes over `painted`."""
    height, width = plain.shape[:2]
    breadth, length = hand.width * scale, hand.width * hand.slender * scale
    aspect = width / height
    rows, columns = math.ceil(1.5 / breadth * 0.62), math.ceil(1.5 * aspect / length * 1.45)
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    centre = (grid + rng.random(grid.shape)) / (rows, columns)
    centre = rng.permutation(centre).astype(np.float32)
    count = len(centre)
    y, x = centre[:, 0] * height, centre[:, 1] * width
    at = (y.astype(np.int32), x.astype(np.int32))
    angle = angles[at] + rng.normal(0, 0.10 + 0.10 * loose, count).astype(np.float32)
    size = rng.uniform(0.65, 1.0, count).astype(np.float32)
    bend = rng.normal(0, 0.10 + 0.15 * hand.swirl, count).astype(np.float32)
    tint = rng.normal(0, hand.broken, (count, 1)) + rng.normal(0, 0.45 * hand.broken, (count, 3))
    colours = np.clip(plain[at] + tint.astype(np.float32), 0, 1)

    along_px, across_px = max(4.0, length * height), max(1.6, breadth * height)
    u = np.linspace(-0.5, 0.5, max(5, math.ceil(along_px / STEP_PX)), dtype=np.float32)
    v = np.linspace(-0.5, 0.5, max(3, math.ceil(across_px / STEP_PX)), dtype=np.float32)
    bristles, kept = _bristles(rng, u, v)
    u_kept, v_kept = (a.ravel()[kept] for a in np.meshgrid(u, v, indexing="ij"))
    # a stroke's frame turned into the picture's, for all strokes and all their samples at once
    cos, sin = (np.cos(angle) * size)[:, None], (np.sin(angle) * size)[:, None]
    run = (u_kept * np.float32(along_px))[None, :]
    side = (v_kept * np.float32(across_px))[None, :] + bend[:, None] * (u_kept**2 * np.float32(along_px))[
        None, :
    ]
    px = (x[:, None] + run * cos - side * sin).astype(np.int32)
    py = (y[:, None] + run * sin + side * cos).astype(np.int32)
    inside = (px >= 0) & (px < width) & (py >= 0) & (py < height)
    spot = np.where(inside, py * width + px, width * height)
    top = np.full(width * height + 1, -1, np.int32)
    top[spot.ravel()] = np.arange(spot.size, dtype=np.int32)  # of several strokes the last one stays on top
    top = top[:-1].reshape(height, width)

    bare = top < 0
    stroke, hair = np.divmod(np.maximum(top, 0), len(u_kept))
    load = bristles.ravel()[kept][hair]
    thick = np.where(bare, np.float32(0), np.float32(0.5) + load)
    cover = np.where(bare, np.float32(0), np.clip(0.80 + 0.25 * load, 0, 1))
    paint = colours[stroke] + (np.float32(0.022 * hand.relief) * load)[..., None]
    return painted + (paint - painted) * cover[..., None], np.where(bare, relief, thick)


def _bristles(rng: np.random.Generator, u: Field, v: Field) -> tuple[Field, np.ndarray]:
    """Paint load of a stroke's samples, about −1 to 1, and the flat places of those that the ragged ends leave."""
    hairs = np.interp(v, np.linspace(-0.5, 0.5, 9), rng.normal(0, 0.6, 9))
    ragged = np.interp(v, np.linspace(-0.5, 0.5, 9), rng.uniform(0.0, 0.16, 9))
    ragged = ragged + 0.35 * np.abs(2 * v) ** 3
    load = hairs[None, :] * (0.6 + 0.8 * (u[:, None] + 0.5)) + 0.7 * np.exp(
        -(((u[:, None] - 0.42) / 0.07) ** 2)
    )
    inside = (u[:, None] + 0.5 > ragged) & (0.5 - u[:, None] > 0.6 * ragged[::-1])
    return load.astype(np.float32), np.flatnonzero(inside)


def _flow(picture: Image.Image, hand: Hand, texture: Field) -> Field:
    """The angle of a stroke at each pixel: along the forms, level where there are none."""
    width, height = picture.size
    small = np.asarray(picture.convert("L").resize((96, 96), Image.Resampling.BOX), np.float32) / 255
    down, across = np.gradient(small)
    products = np.stack([across * across, across * down, down * down])
    smooth = products.reshape(3, 24, 4, 24, 4).mean((2, 4))
    smooth[2] += 4e-5  # a light preference for level strokes
    spread = [
        np.asarray(Image.fromarray(p.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
        for p in smooth
    ]
    level = 0.5 * np.arctan2(2 * spread[1], spread[0] - spread[2]) + math.pi / 2
    rows, columns = (np.arange(n, dtype=np.float32) / height * 0.3 for n in (height, width))
    turn = sample(texture, columns[None, :] + 0.7, rows[:, None] + 0.2)
    found: Field = (level + 0.8 * hand.swirl * turn).astype(np.float32)
    return found


def _weave(height: int, width: int) -> Field:
    """Canvas: two sets of threads, over and under."""
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    found: Field = (np.sin(rows * 2.1)[:, None] * np.sin(columns * 2.1)[None, :]).astype(np.float32)
    return found

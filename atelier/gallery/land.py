"""Headlands, cliffs and beaches: where land is and what colour it has. Knows no strokes."""

import numpy as np

from atelier.gallery.moods import rgb
from atelier.gallery.noise import Field, mix, sample, smoothstep
from atelier.gallery.scene import Coast, Scene


def paint_land(scene: Scene, coast: Coast, texture: Field, colours: Field, x: Field, y: Field) -> Field:
    """`colours` (3, rows, columns) with the coast over them."""
    if coast.kind == "beach":
        return _beach(scene, coast, texture, colours, x, y)
    half = scene.aspect[0] / scene.aspect[1] / 2
    inland = half - coast.side * x[None, :]  # 0 at the picture's edge, growing towards the tip
    share = np.clip(1 - inland / coast.reach, 0, 1)
    ridge = sample(texture, x[None, :] * 0.6 + 0.2, np.full((1, 1), 0.4, np.float32))
    ridge = ridge + 0.5 * sample(texture, x[None, :] * 1.9, np.full((1, 1), 0.7, np.float32))
    steep = 0.55 if coast.kind == "headland" else 0.30
    rise = coast.height * share**steep * (1 + 0.16 * ridge)
    crown = coast.foot - rise
    foot = coast.foot + 0.006 * ridge * (share > 0)
    soft = 2.0 / len(y)
    mask = smoothstep(-soft, soft, y[:, None] - crown) * smoothstep(-soft, soft, foot - y[:, None])
    mask = mask * smoothstep(0.0, 0.02, share + 0 * mask)

    rock = sample(texture, x[None, :] * 1.3 + 0.5, y[:, None] * 0.5)
    rock = rock + 0.8 * sample(texture, x[None, :] * 3.1, y[:, None] * 1.4)
    up = (coast.foot - y[:, None]) / coast.height
    tone = np.clip(0.42 + 0.22 * rock + 0.25 * up, 0, 1)
    land = mix(rgb(scene.mood.land_shade), rgb(scene.mood.land_light), tone)
    if coast.kind == "headland":  # far away: air between
        land = mix(land, rgb(scene.mood.sky[-1]), np.full((1, 1), 0.28, np.float32))
    image = _shadow(scene, coast, colours, crown, x, y)
    return mix(image, land, mask)


def _shadow(scene: Scene, coast: Coast, colours: Field, crown: Field, x: Field, y: Field) -> Field:
    """The land's dark reflection under its foot."""
    depth = (y[:, None] - coast.foot) / (0.75 * (coast.foot - crown) + 1e-3)
    mask = smoothstep(1.0, 0.2, depth) * (depth > 0) * (coast.foot - crown > 0.004)
    return mix(colours, rgb(scene.mood.land_shade), 0.5 * mask)


def _beach(scene: Scene, coast: Coast, texture: Field, colours: Field, x: Field, y: Field) -> Field:
    """Sand rising from the lower edge towards one side, wet and foaming where it meets the water."""
    half = scene.aspect[0] / scene.aspect[1] / 2
    inland = half - coast.side * x[None, :]
    edge = coast.foot + 0.11 * (inland / coast.reach) ** 1.5
    edge = edge + 0.008 * sample(texture, x[None, :] * 0.8, np.full((1, 1), 0.1, np.float32))
    depth = y[:, None] - edge
    grain = sample(texture, x[None, :] * 0.9, y[:, None] * 3.0)
    sand = mix(
        rgb(scene.mood.land_shade),
        rgb(scene.mood.land_light),
        np.clip(0.25 + 6 * depth + 0.12 * grain, 0, 1),
    )
    shore = mix(colours, sand, smoothstep(-0.004, 0.012, depth))
    foam = np.exp(-(((depth + 0.002 + 0.004 * grain) / 0.006) ** 2))
    second = 0.6 * np.exp(-(((depth + 0.040 + 0.008 * grain) / 0.007) ** 2))
    return mix(shore, rgb(scene.mood.crest), np.clip(0.85 * foam + second, 0, 1))

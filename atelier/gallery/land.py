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
    line = np.zeros((1, 1), np.float32)
    ridge = sample(texture, x[None, :] * 0.6 + 0.2, line + 0.4) + 0.6 * sample(
        texture, x[None, :] * 1.9, line + 0.7
    )
    if coast.kind == "headland":
        rise = coast.height * share**0.55 * (1 + 0.16 * ridge)
    else:  # a sheer face, then a shoulder
        rise = 0.55 * smoothstep(0.0, 0.16, share) + 0.45 * smoothstep(0.22, 0.75, share + 0.06 * ridge)
        rise = coast.height * rise * (1 + 0.12 * ridge)
    crown = coast.foot - rise
    foot = coast.foot + 0.004 * ridge
    soft = 2.0 / len(y)
    mask = smoothstep(-soft, soft, y[:, None] - crown) * smoothstep(-soft, soft, foot - y[:, None])
    mask = mask * smoothstep(0.0, 0.02, share)

    image = _shadow(scene, coast, colours, crown, y)
    surf = np.exp(-(((y[:, None] - foot - 0.004) / 0.007) ** 2)) * smoothstep(0.0, 0.05, share)
    image = mix(image, rgb(scene.mood.crest), 0.7 * surf * min(1.0, 0.3 + scene.mood.swell))
    return mix(image, _rock(scene, coast, texture, x, y), mask)


def _rock(scene: Scene, coast: Coast, texture: Field, x: Field, y: Field) -> Field:
    """Faces turned to the light and away from it, paler towards the top and with distance."""
    across, down = x[None, :] * 1.1 + 0.25 * y[:, None], y[:, None] * 0.45
    turned = sample(texture, across, down) - sample(texture, across - 0.03 * coast.side, down + 0.012)
    grain = sample(texture, x[None, :] * 2.6, y[:, None] * 1.5)
    up = (coast.foot - y[:, None]) / coast.height
    tone = np.clip(0.34 + 0.62 * turned + 0.10 * grain + 0.28 * up, 0, 1)
    rock = mix(rgb(scene.mood.land_shade), rgb(scene.mood.land_light), tone)
    if coast.kind == "cliff":
        return rock
    air = np.full((1, 1), 0.28, np.float32)
    return mix(rock, rgb(scene.mood.sky[-1]), air)


def _shadow(scene: Scene, coast: Coast, colours: Field, crown: Field, y: Field) -> Field:
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

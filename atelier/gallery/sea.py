"""The sea: waves in perspective, the sky's reflection in them, glitter and foam. Knows the sky only as an image."""

import numpy as np

from atelier.gallery.moods import rgb
from atelier.gallery.noise import Field, mix, sample, smoothstep
from atelier.gallery.scene import Scene


def paint_sea(scene: Scene, texture: Field, sky: Field, x: Field, y: Field) -> Field:
    """Colours (3, rows, columns) over x and y > horizon; `sky` is what `paint_sky` gave for the same columns."""
    mood = scene.mood
    near = ((y - scene.horizon) / (1 - scene.horizon))[:, None]  # 0 at the horizon, 1 at the viewer
    distance = 1 / (near + 0.10)
    across = x[None, :] * distance
    along = distance + 0.0 * across
    swell = sample(texture, across * 0.10 + 0.37, along * 0.34)
    chop = sample(texture, across * 0.31 + 0.11, along * 0.95 + 0.5)
    height = swell + 0.55 * chop
    face = height - (
        sample(texture, across * 0.10 + 0.37, (along + 0.05) * 0.34)
        + 0.55 * sample(texture, across * 0.31 + 0.11, (along + 0.05) * 0.95 + 0.5)
    )  # how far the water leans towards us

    depth = np.sqrt(near)
    water = mix(rgb(mood.sea_far), rgb(mood.sea_near), depth)
    tilt = np.clip(0.5 + (0.6 + 0.6 * mood.swell) * face, 0, 1)
    mirrored = _reflection(sky, near, tilt)
    sheen = np.clip(0.50 - 0.28 * near + (0.30 + 0.25 * mood.swell) * (tilt - 0.5), 0.04, 0.85)
    colours = mix(water, mirrored * np.float32(0.86), sheen)

    crest = smoothstep(0.9, 2.2, height + 0.8 * face) * (0.25 + 0.75 * mood.swell) * np.minimum(1, 3 * near)
    colours = mix(colours, rgb(mood.crest), 0.75 * crest)
    caps = 1 - np.abs(
        sample(texture, across * 0.17 + 0.77, along * 0.8)
    )  # thin lines where a noise crosses zero
    caps = (
        smoothstep(0.80, 0.98, caps)
        * smoothstep(-0.2, 0.9, chop + 0.5 * face)
        * np.clip(1.4 * mood.swell - 0.5, 0, 1)
    )
    colours = mix(colours, rgb(mood.crest), 0.85 * caps * np.minimum(1, 0.25 + 3 * near))
    trough = smoothstep(0.5, 1.8, -height) * (0.15 + 0.25 * mood.swell)
    colours = colours * (1 - trough)

    spread = 0.55 * scene.light_radius + 0.10 * near + 0.012 * chop * near
    column = np.exp(-(((x[None, :] - scene.light_x) / (spread + 0.01)) ** 2))
    spark = smoothstep(0.1, 0.9, 1.15 * column + 0.45 * face + 0.28 * chop - 0.25 - 0.25 * near)
    strength = mood.path
    colours = mix(colours, rgb(mood.glow), strength * 0.45 * column * (1 - 0.4 * near))
    colours = mix(colours, rgb(mood.disk) * 0.6 + rgb(mood.glow) * 0.4, strength * spark * np.sqrt(column))
    haze = np.exp(-near / 0.035)
    return mix(colours, sky[:, -1:], 0.25 * haze)


def _reflection(sky: Field, near: Field, tilt: Field) -> Field:
    """The sky's colour that water at this nearness and tilt throws back."""
    rows, columns = sky.shape[1:]
    softened = sky[:, :: max(1, rows // 24)]
    row = (1 - np.clip(0.05 + 0.75 * near * (0.4 + 0.9 * tilt), 0, 1)) * (softened.shape[1] - 1)
    found: Field = softened[:, row.astype(np.int32), np.arange(columns)[None, :]]
    return found

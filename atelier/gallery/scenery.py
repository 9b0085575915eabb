"""The sea: waves in perspective, the sky's reflection in them, glitter and foam. Knows the sky only as an image."""

import numpy as np

from atelier.gallery.moods import rgb
from atelier.gallery.noise import Field, mix, sample, smoothstep
from atelier.gallery.scene import Scene


def paint_sea(scene: Scene, texture: Field, sky: Field, x: Field, y: Field) -> Field:
    """Colours (3, rows, columns) over x and y > horizon; `sky` is what `paint_sky` gave for the same columns."""
    mood = scene.mood
    near = ((y - scene.horizon) / (1 - scene.horizon))[:, None]  # 0 at the horizon, 1 at the viewer
    along = 1 / (near + 0.10)  # the distance
    across = x[None, :] * along
    swell, chop = _waves(texture, across, along)
    height = swell + 0.55 * chop
    farther_swell, farther_chop = _waves(texture, across, along + 0.05)
    face = height - (farther_swell + 0.55 * farther_chop)  # how far the water leans towards us

    tilt = np.clip(0.5 + (0.6 + 0.6 * mood.swell) * face, 0, 1)
    sheen = np.clip(0.50 - 0.28 * near + (0.30 + 0.25 * mood.swell) * (tilt - 0.5), 0.04, 0.85)
    colours = mix(rgb(mood.sea_far), rgb(mood.sea_near), np.sqrt(near))
    colours = mix(colours, np.float32(0.86) * _reflection(sky, near, tilt), sheen)

    crest = smoothstep(0.9, 2.2, height + 0.8 * face) * (0.25 + 0.75 * mood.swell) * np.minimum(1, 3 * near)
    colours = mix(colours, rgb(mood.crest), 0.75 * crest)
    line = 1 - np.abs(sample(texture, across * 0.17 + 0.77, along * 0.8))  # thin where a noise crosses zero
    caps = smoothstep(0.80, 0.98, line) * smoothstep(-0.2, 0.9, chop + 0.5 * face)
    caps = caps * max(0.0, min(1.0, 1.4 * mood.swell - 0.5)) * np.minimum(1, 0.25 + 3 * near)
    colours = mix(colours, rgb(mood.crest), 0.85 * caps)
    trough = smoothstep(0.5, 1.8, -height) * (0.15 + 0.25 * mood.swell)
    colours = _glitter(scene, colours * (1 - trough), x, near, chop, face)
    haze = np.exp(-near / 0.035)
    return mix(colours, sky[:, -1:], 0.25 * haze)


def _waves(texture: Field, across: Field, along: Field) -> tuple[Field, Field]:
    """The long waves and the short ones on them."""
    return (
        sample(texture, across * 0.10 + 0.37, along * 0.34),
        sample(texture, across * 0.31 + 0.11, along * 0.95 + 0.5),
    )


def _glitter(scene: Scene, colours: Field, x: Field, near: Field, chop: Field, face: Field) -> Field:
    """The light's path on the water: a soft column that the waves break into sparks."""
    mood = scene.mood
    spread = 0.01 + 0.55 * scene.light_radius + 0.10 * near + 0.012 * chop * near
    column = np.exp(-(((x[None, :] - scene.light_x) / spread) ** 2))
    spark = smoothstep(0.1, 0.9, 1.15 * column + 0.45 * face + 0.28 * chop - 0.25 - 0.25 * near)
    colours = mix(colours, rgb(mood.glow), mood.path * 0.45 * column * (1 - 0.4 * near))
    return mix(colours, rgb(mood.disk) * 0.6 + rgb(mood.glow) * 0.4, mood.path * spark * np.sqrt(column))


def _reflection(sky: Field, near: Field, tilt: Field) -> Field:
    """The sky's colour that water at this nearness and tilt throws back."""
    rows, columns = sky.shape[1:]
    softened = sky[:, :: max(1, rows // 24)]
    row = (1 - np.clip(0.05 + 0.75 * near * (0.4 + 0.9 * tilt), 0, 1)) * (softened.shape[1] - 1)
    found: Field = softened[:, row.astype(np.int32), np.arange(columns)[None, :]]
    return found

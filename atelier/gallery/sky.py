"""The sky: gradient, glow, clouds in perspective. Knows neither the disk itself nor what lies below the horizon."""

import numpy as np

from atelier.gallery.moods import rgb
from atelier.gallery.noise import Field, mix, sample, smoothstep
from atelier.gallery.scene import Scene


def paint_sky(scene: Scene, texture: Field, x: Field, y: Field) -> Field:
    """Colours (3, rows, columns) over x (columns,) and y (rows,) ≤ horizon, in heights of the painting."""
    mood = scene.mood
    rise = (scene.horizon - y) / scene.horizon  # 1 at the top, 0 at the horizon
    drift = sample(texture, x[None, :] * 0.23 + 0.3, y[:, None] * 0.6 + 0.1)
    stops = np.concatenate([rgb(colour) for colour in mood.sky], axis=1)[..., 0]
    place = np.clip(1 - rise[:, None] + 0.05 * drift, 0, 1) * (len(mood.sky) - 1)
    steps = np.arange(len(mood.sky))
    colours = np.stack([np.interp(place, steps, plane).astype(np.float32) for plane in stops])

    far = np.hypot(x[None, :] - scene.light_x, (y[:, None] - scene.light_y) * 1.15).astype(np.float32)
    glow = 0.75 * np.exp(-((far / 0.20) ** 2)) + 0.35 * np.exp(-far / 0.30)
    if mood.light == "moon":
        glow = 0.45 * np.exp(-((far / 0.14) ** 2)) + 0.35 * np.exp(-far / 0.22)
    colours = mix(colours, rgb(mood.glow), np.clip(glow, 0, 0.9))

    density, lit = _clouds(scene, texture, x, rise)
    towards = np.exp(-((far / 0.35) ** 2))  # clouds near the light catch it
    tone = np.clip(0.15 + 0.75 * lit + 0.45 * towards, 0, 1)
    cloud = mix(rgb(mood.cloud_shade), rgb(mood.cloud_light), tone)
    veil = density * (1 - 0.35 * towards)
    return mix(colours, cloud, veil)


def _clouds(scene: Scene, texture: Field, x: Field, rise: Field) -> tuple[Field, Field]:
    """How thick the clouds are, 0 to 1, and how much of their light they catch."""
    mood = scene.mood
    distance = 1 / (rise[:, None] + 0.35)  # clouds are a ceiling: they shrink and flatten towards the horizon
    across = x[None, :] * distance * 0.32 + 0.11
    along = distance * 0.30
    body = sample(texture, across, along)
    toward_x = np.sign(scene.light_x - x[None, :]) * 0.012
    shifted = sample(texture, across + toward_x, along + 0.02)
    wisps = sample(texture, across * 2.7 + 0.5, along * 3.9 + 0.2)
    threshold = 1.1 - 2.0 * mood.cloud_cover
    bank = 0.5 * np.exp(-(((rise[:, None] - 0.22) / 0.18) ** 2))  # more of them low over the water
    thick = smoothstep(threshold - 0.35, threshold + 0.85, body + bank + 0.22 * wisps)
    clear = smoothstep(0.0, 0.10, rise[:, None])
    return 0.88 * thick * clear, np.clip(0.5 + 1.1 * (body - shifted) + 0.12 * wisps, 0, 1)

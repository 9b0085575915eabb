"""Painting the works of the built-in archive: sky, sea and land, the sun or moon, vessels, gulls, and the strokes.

In the functions of scenery, x (1, columns) and y (rows, 1) are in heights of the painting, as in scene.py; colours are
arrays (3, rows, columns) of 0 to 1, and a texture varies them.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from atelier.gallery.brush import FloatArray, fractal, mix, paint_strokes, rgb, sample, smoothstep, to_image
from atelier.gallery.scene import HANDS, Coast, Scene, describe, generator
from atelier.gallery.vessels import OVERSAMPLING, draw_gulls, draw_vessel, paste_reflection, paste_vessel


def paint(seed: int, index: int, size_px: int) -> Image.Image:
    """Paint work `index` of the archive `seed` as RGB, the longer side `size_px`; the same bytes in every process."""
    scene, rng = describe(seed, index), generator(seed, index, 1)
    size, mood = scene.size(size_px), scene.mood
    texture = fractal(rng)
    ground = _underpaint(scene, texture, size)
    detail = Image.new("L", size, 0)
    vessels = [draw_vessel(scene, vessel, size) for vessel in scene.vessels]
    for vessel in vessels:
        paste_reflection(ground, vessel, mood.swell, texture)
    picture = ground.copy()
    _paint_disk(picture, detail, scene)
    for vessel in vessels:
        paste_vessel(picture, detail, vessel, mood.swell, texture)
    if scene.gulls:
        draw_gulls(rng, picture, detail, scene.gulls, scene.horizon, mood.hull)
    return to_image(paint_strokes(ground, picture, detail, HANDS[scene.style], _guide(scene, size[1]), texture, rng))


def _underpaint(scene: Scene, texture: FloatArray, size: tuple[int, int]) -> Image.Image:
    """Paint sky, sea and land without strokes, at half size and enlarged; the strokes bring the sharpness."""
    width, height = (max(8, side // 2) for side in size)
    y = _centres(height)[:, None]
    x = ((_centres(width) - np.float32(0.5)) * np.float32(scene.aspect[0] / scene.aspect[1]))[None, :]
    above = int((y <= scene.horizon).sum())
    sky = _paint_sky(scene, texture, x, y[:above])
    sea = _paint_sea(scene, texture, sky, x, y[above:])
    colours = np.concatenate([sky, sea], axis=1)
    if scene.coast is not None:
        colours = _paint_land(scene, scene.coast, texture, colours, x, y)
    return to_image(colours).resize(size, Image.Resampling.BICUBIC)


def _paint_sky(scene: Scene, texture: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Gradient, glow and clouds in perspective, for y down to the horizon; without the sun or moon itself."""
    mood = scene.mood
    rise = (scene.horizon - y) / scene.horizon  # 1 at the top, 0 at the horizon
    drift = sample(texture, x * 0.23 + 0.3, y * 0.6 + 0.1)
    stops = np.concatenate([rgb(colour) for colour in mood.sky], axis=1)[..., 0]
    place = np.clip(1 - rise + 0.05 * drift, 0, 1) * (len(mood.sky) - 1)
    steps = np.arange(len(mood.sky))
    colours = np.stack([np.interp(place, steps, plane).astype(np.float32) for plane in stops])

    far = np.hypot(x - scene.light_x, (y - scene.light_y) * 1.15).astype(np.float32)
    glow = 0.75 * np.exp(-((far / 0.20) ** 2)) + 0.35 * np.exp(-far / 0.30)
    if mood.light == "moon":
        glow = 0.45 * np.exp(-((far / 0.14) ** 2)) + 0.35 * np.exp(-far / 0.22)
    colours = mix(colours, rgb(mood.glow), np.clip(glow, 0, 0.9))

    density, lit = _clouds(scene, texture, x, rise)
    towards = np.exp(-((far / 0.35) ** 2))  # clouds near the light are lit
    tone = np.clip(0.15 + 0.75 * lit + 0.45 * towards, 0, 1)
    cloud = mix(rgb(mood.cloud_shade), rgb(mood.cloud_light), tone)
    veil = density * (1 - 0.35 * towards)
    return mix(colours, cloud, veil)


def _clouds(scene: Scene, texture: FloatArray, x: FloatArray, rise: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The clouds' opacity and how brightly they are lit, each 0 to 1."""
    mood = scene.mood
    distance = 1 / (rise + 0.35)  # perspective: smaller and flatter towards the horizon
    across = x * distance * 0.32 + 0.11
    along = distance * 0.30
    body = sample(texture, across, along)
    toward_x = np.sign(scene.light_x - x) * 0.012
    shifted = sample(texture, across + toward_x, along + 0.02)
    wisps = sample(texture, across * 2.7 + 0.5, along * 3.9 + 0.2)
    threshold = 1.1 - 2.0 * mood.cloud_cover
    bank = 0.5 * np.exp(-(((rise - 0.22) / 0.18) ** 2))  # more of them low over the water
    thick = smoothstep(threshold - 0.35, threshold + 0.85, body + bank + 0.22 * wisps)
    clear = smoothstep(0.0, 0.10, rise)
    return 0.88 * thick * clear, np.clip(0.5 + 1.1 * (body - shifted) + 0.12 * wisps, 0, 1)


def _paint_sea(scene: Scene, texture: FloatArray, sky: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Waves in perspective with the reflection of `sky` above them, glitter and foam, for y below the horizon."""
    mood = scene.mood
    near = (y - scene.horizon) / (1 - scene.horizon)  # 0 at the horizon, 1 at the viewer
    along = 1 / (near + 0.10)  # the distance
    across = x * along
    swell, chop = _waves(texture, across, along)
    height = swell + 0.55 * chop
    farther_swell, farther_chop = _waves(texture, across, along + 0.05)
    face = height - (farther_swell + 0.55 * farther_chop)  # slope of the water towards the viewer

    tilt = np.clip(0.5 + (0.6 + 0.6 * mood.swell) * face, 0, 1)
    sheen = np.clip(0.50 - 0.28 * near + (0.30 + 0.25 * mood.swell) * (tilt - 0.5), 0.04, 0.85)
    colours = mix(rgb(mood.sea_far), rgb(mood.sea_near), np.sqrt(near))
    softened = sky[:, :: max(1, sky.shape[1] // 24)]
    row = (1 - np.clip(0.05 + 0.75 * near * (0.4 + 0.9 * tilt), 0, 1)) * (softened.shape[1] - 1)
    reflected = softened[:, row.astype(np.int32), np.arange(sky.shape[2])[None, :]]
    colours = mix(colours, np.float32(0.86) * reflected, sheen)

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


def _waves(texture: FloatArray, across: FloatArray, along: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Heights of the long waves, and of the short ones on them."""
    swell = sample(texture, across * 0.10 + 0.37, along * 0.34)
    return swell, sample(texture, across * 0.31 + 0.11, along * 0.95 + 0.5)


def _glitter(
    scene: Scene, colours: FloatArray, x: FloatArray, near: FloatArray, chop: FloatArray, face: FloatArray
) -> FloatArray:
    """Add the light's path on the water: a soft column that the waves break into sparks."""
    mood = scene.mood
    spread = 0.01 + 0.55 * scene.light_radius + 0.10 * near + 0.012 * chop * near
    column = np.exp(-(((x - scene.light_x) / spread) ** 2))
    spark = smoothstep(0.1, 0.9, 1.15 * column + 0.45 * face + 0.28 * chop - 0.25 - 0.25 * near)
    colours = mix(colours, rgb(mood.glow), mood.path * 0.45 * column * (1 - 0.4 * near))
    return mix(colours, rgb(mood.disk) * 0.6 + rgb(mood.glow) * 0.4, mood.path * spark * np.sqrt(column))


def _paint_land(
    scene: Scene, coast: Coast, texture: FloatArray, colours: FloatArray, x: FloatArray, y: FloatArray
) -> FloatArray:
    """Paint a headland, a cliff or a beach over `colours`."""
    if coast.kind == "beach":
        return _beach(scene, coast, texture, colours, x, y)
    half = scene.aspect[0] / scene.aspect[1] / 2
    inland = half - coast.side * x  # 0 at the picture's edge, growing towards the tip
    share = np.clip(1 - inland / coast.reach, 0, 1)
    line = np.zeros((1, 1), np.float32)
    ridge = sample(texture, x * 0.6 + 0.2, line + 0.4) + 0.6 * sample(texture, x * 1.9, line + 0.7)
    if coast.kind == "headland":
        rise = coast.height * share**0.55 * (1 + 0.16 * ridge)
    else:  # a sheer face, then a shoulder
        rise = 0.55 * smoothstep(0.0, 0.16, share) + 0.45 * smoothstep(0.22, 0.75, share + 0.06 * ridge)
        rise = coast.height * rise * (1 + 0.12 * ridge)
    crown = coast.foot - rise
    foot = coast.foot + 0.004 * ridge
    soft = 2.0 / len(y)
    mask = smoothstep(-soft, soft, y - crown) * smoothstep(-soft, soft, foot - y)
    mask = mask * smoothstep(0.0, 0.02, share)

    depth = (y - coast.foot) / (0.75 * (coast.foot - crown) + 1e-3)
    reflected = smoothstep(1.0, 0.2, depth) * (depth > 0) * (coast.foot - crown > 0.004)
    image = mix(colours, rgb(scene.mood.land_shade), 0.5 * reflected)
    surf = np.exp(-(((y - foot - 0.004) / 0.007) ** 2)) * smoothstep(0.0, 0.05, share)
    image = mix(image, rgb(scene.mood.crest), 0.7 * surf * min(1.0, 0.3 + scene.mood.swell))
    return mix(image, _rock(scene, coast, texture, x, y), mask)


def _rock(scene: Scene, coast: Coast, texture: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Colours of rock: light and dark faces, paler towards the top and with distance."""
    across, down = x * 1.1 + 0.25 * y, y * 0.45
    turned = sample(texture, across, down) - sample(texture, across - 0.03 * coast.side, down + 0.012)
    grain = sample(texture, x * 2.6, y * 1.5)
    up = (coast.foot - y) / coast.height
    tone = np.clip(0.34 + 0.62 * turned + 0.10 * grain + 0.28 * up, 0, 1)
    rock = mix(rgb(scene.mood.land_shade), rgb(scene.mood.land_light), tone)
    if coast.kind == "cliff":
        return rock
    air = np.full((1, 1), 0.28, np.float32)
    return mix(rock, rgb(scene.mood.sky[-1]), air)


def _beach(
    scene: Scene, coast: Coast, texture: FloatArray, colours: FloatArray, x: FloatArray, y: FloatArray
) -> FloatArray:
    """Add sand that rises from the lower edge towards one side, with foam where it meets the water."""
    half = scene.aspect[0] / scene.aspect[1] / 2
    inland = half - coast.side * x
    edge = coast.foot + 0.11 * (inland / coast.reach) ** 1.5
    edge = edge + 0.008 * sample(texture, x * 0.8, np.full((1, 1), 0.1, np.float32))
    depth = y - edge
    grain = sample(texture, x * 0.9, y * 3.0)
    tone = np.clip(0.25 + 6 * depth + 0.12 * grain, 0, 1)
    sand = mix(rgb(scene.mood.land_shade), rgb(scene.mood.land_light), tone)
    shore = mix(colours, sand, smoothstep(-0.004, 0.012, depth))
    foam = np.exp(-(((depth + 0.002 + 0.004 * grain) / 0.006) ** 2))
    second = 0.6 * np.exp(-(((depth + 0.040 + 0.008 * grain) / 0.007) ** 2))
    return mix(shore, rgb(scene.mood.crest), np.clip(0.85 * foam + second, 0, 1))


def _paint_disk(picture: Image.Image, detail: Image.Image, scene: Scene) -> None:
    """Paint sun or moon onto `picture`, and mark it in `detail`, so that fine strokes keep it round."""
    width, height = picture.size
    radius = scene.light_radius * height
    side = 2 * math.ceil(radius) + 2
    left, top = round(width / 2 + scene.light_x * height - side / 2), round(scene.light_y * height - side / 2)
    centre, fine = side * OVERSAMPLING / 2, radius * OVERSAMPLING
    mask = Image.new("L", (side * OVERSAMPLING, side * OVERSAMPLING), 0)
    strength = round(255 * scene.mood.disk_share)
    ImageDraw.Draw(mask).ellipse((centre - fine, centre - fine, centre + fine, centre + fine), fill=strength)
    mask = mask.reduce(OVERSAMPLING)
    dip = min(max(round(scene.horizon * height) - top, 0), side)
    mask.paste(0, (0, dip, side, side))  # the part below the horizon
    picture.paste(to_image(rgb(scene.mood.disk)).resize(mask.size), (left, top), mask)
    detail.paste(mask, (left, top))


def _guide(scene: Scene, height: int) -> FloatArray:
    """Strokes are level over water and larger towards the viewer; at the horizon they are fine and straight."""
    y = _centres(height)
    near = np.clip((y - scene.horizon) / (1 - scene.horizon), 0, 1)
    line = np.exp(-(((y - scene.horizon) / 0.03) ** 2))
    water = y > scene.horizon
    level = np.clip(np.where(water, 0.82 - 0.25 * near * scene.mood.swell, 0.12) + line, 0, 1)
    size = np.where(water, 0.55 + 0.5 * near, 1.0) * (1 - 0.45 * line)
    return np.stack([level, size]).astype(np.float32)


def _centres(count: int) -> FloatArray:
    """The centres of `count` equal parts of 0 to 1."""
    return (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)

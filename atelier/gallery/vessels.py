"""Drawing sailing vessels and gulls, placing vessels on the water, and their reflections in the waves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from atelier.gallery.brush import FloatArray, rgb
from atelier.gallery.scene import Mood, Scene, Vessel

OVERSAMPLING = 3  # of a drawing
# in heights of the vessel above its waterline:
WIDTH = 2.2  # of a drawing
HEADROOM = 1.06  # from the upper edge to the waterline
DRAUGHT = 0.06  # below the waterline, later hidden by the water

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PlacedVessel:
    """A vessel's drawing (RGBA) and its place in the picture, in pixels."""

    drawing: Image.Image
    left: int
    waterline: int  # `DRAUGHT` vessel heights above the drawing's lower edge
    height_px: int


def draw_vessel(scene: Scene, vessel: Vessel, size: tuple[int, int]) -> PlacedVessel:
    """Draw a vessel for a picture of `size` (width, height)."""
    width, height = size
    height_px = max(6, round(vessel.height * height))
    light_from = 1 if scene.light_x > vessel.x else -1
    drawing = _Drawing(height_px, scene.mood, vessel.heel, light_from * vessel.heading)
    {"ship": _ship, "brig": _brig, "cutter": _cutter, "lugger": _lugger}[vessel.rig](drawing)
    cutout = drawing.image.reduce(OVERSAMPLING)
    cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if vessel.heading < 0 else cutout
    left = round(width / 2 + vessel.x * height - cutout.width / 2)
    return PlacedVessel(cutout, left, round(vessel.waterline * height), height_px)


def paste_vessel(
    picture: Image.Image, detail: Image.Image, vessel: PlacedVessel, swell: float, texture: FloatArray
) -> None:
    """Paste a vessel onto `picture`, its keel hidden by waves of height `swell`, and into the mask `detail` as 255."""
    columns = np.arange(vessel.drawing.width)
    wave = texture[91, (columns * 150 // vessel.height_px) % len(texture)] * (0.004 + 0.018 * swell) * vessel.height_px
    surface = (HEADROOM + 0.25 * DRAUGHT) * vessel.height_px + wave
    dry = np.clip(surface[None, :] - np.arange(vessel.drawing.height)[:, None], 0, 1)
    alpha = Image.fromarray((np.asarray(vessel.drawing.getchannel("A")) * dry).astype(np.uint8))
    corner = (vessel.left, vessel.waterline - round(HEADROOM * vessel.height_px))
    picture.paste(vessel.drawing, corner, alpha)
    detail.paste(255, corner, alpha)


def paste_reflection(picture: Image.Image, vessel: PlacedVessel, swell: float, texture: FloatArray) -> None:
    """Paste a vessel's reflection: upside down, shortened, darkened, and distorted by the waves."""
    wide, depth = vessel.drawing.width, max(2, round(vessel.height_px * 0.7))
    right, bottom = min(picture.width, vessel.left + wide), min(picture.height, vessel.waterline + depth)
    box = max(0, vessel.left), vessel.waterline, right, bottom
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    above = vessel.drawing.crop((0, 0, wide, round(HEADROOM * vessel.height_px)))
    mirrored = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((wide, depth), Image.Resampling.BILINEAR)
    rows = np.arange(box[3] - box[1])
    sway = texture[(rows * 190 // depth) % len(texture), 17] * (0.2 + 0.8 * rows / depth)
    shift = np.round(sway * (0.02 + 0.03 * swell) * vessel.height_px).astype(np.int32)
    columns = np.arange(box[0] - vessel.left, box[2] - vessel.left)[None, :] + shift[:, None]
    image = np.asarray(mirrored, np.float32)[rows[:, None], columns % wide] / np.float32(255)
    fade = ((0.75 - 0.35 * swell) * (1 - rows / depth) ** 0.8).astype(np.float32)
    under = np.asarray(picture.crop(box), np.float32) / np.float32(255)
    share = image[..., 3] * fade[:, None]
    mixed = under + (np.float32(0.7) * image[..., :3] - under) * share[..., None]
    picture.paste(Image.fromarray((np.clip(mixed, 0, 1) * 255).astype(np.uint8)), box[:2])


def draw_gulls(
    rng: np.random.Generator, picture: Image.Image, detail: Image.Image, count: int, horizon: float, dark: str
) -> None:
    """Draw a loose flight of gulls onto the middle of the sky, and mark them in `detail`."""
    pens = (ImageDraw.Draw(picture), _bytes(rgb(dark).ravel())), (ImageDraw.Draw(detail), 210)
    width, height = picture.size
    centre = rng.uniform((0.3, 0.35), (0.7, 0.75)) * (width, height * horizon)
    for _ in range(count):
        x, y = centre + rng.normal(0, (0.10, 0.05)) * height
        y = min(y, 0.9 * horizon * height)
        span, dip, tilt = rng.uniform(0.008, 0.02) * height, rng.uniform(0.2, 0.5), rng.normal(0, 0.2)
        left, right = (
            ((-1, -dip - tilt), (-0.5, -dip * 1.1 - tilt / 2)),
            ((0.5, -dip * 1.1 + tilt / 2), (1, -dip + tilt)),
        )
        for pen, ink in pens:
            pen.line(
                [(x + span * u, y + span * v) for u, v in (*left, (0, 0), *right)],
                fill=ink,
                width=max(1, round(span / 5)),
            )


class _Drawing:
    """A canvas for one vessel: x from −1.1 to 1.1, the bow on the right; y up from the waterline, the masthead at 1.

    `light_from` is 1 for light from the bow, −1 from the stern.
    """

    def __init__(self, height_px: int, mood: Mood, heel: float, light_from: int) -> None:
        self.scale, self.light_from = height_px * OVERSAMPLING, light_from
        self.cos, self.sin = math.cos(heel), math.sin(heel)
        sides = round(WIDTH * self.scale), round((HEADROOM + DRAUGHT) * self.scale)
        width, height = (-(-side // OVERSAMPLING) * OVERSAMPLING for side in sides)
        self.light, self.shade, self.dark = (rgb(c).ravel() for c in (mood.sail_light, mood.sail_shade, mood.hull))
        self.rim = 0.4 * (rgb(mood.glow).ravel() - self.light)  # added where light shines through a sail
        self.image = Image.new("RGBA", (width, height), (*_bytes(self.shade), 0))
        self.draw = ImageDraw.Draw(self.image)

    def at(self, points: Sequence[Point]) -> list[Point]:
        turned = ((x * self.cos + y * self.sin, y * self.cos - x * self.sin) for x, y in points)
        return [((x + WIDTH / 2) * self.scale, (HEADROOM - y) * self.scale) for x, y in turned]

    def sail(self, luff: Sequence[Point], leech: Sequence[Point]) -> None:
        """Draw a sail between two edges (as many points each, from the top), in strips from light to shade."""
        strips = 10
        for strip in range(strips):
            a, b = strip / strips, (strip + 1) / strips
            side = (strip + 0.5) / strips if self.light_from < 0 else 1 - (strip + 0.5) / strips
            tone = 1.0 - 0.85 * side**1.4
            left = [_between(p, q, a) for p, q in zip(luff, leech, strict=True)]
            right = [_between(p, q, b) for p, q in zip(luff, leech, strict=True)]
            colour = self.shade + (self.light - self.shade) * tone + self.rim * max(0.0, 1 - 3 * side)
            self.draw.polygon(self.at([*left, *reversed(right)]), fill=(*_bytes(colour), 255))

    def timber(self, points: Sequence[Point], lift: float = 0.0) -> None:
        colour = self.dark + (self.light - self.dark) * lift
        self.draw.polygon(self.at(points), fill=(*_bytes(colour), 255))

    def spar(self, start: Point, end: Point, width: float) -> None:
        px = max(1, round(width * self.scale))
        self.draw.line(self.at([start, end]), fill=(*_bytes(self.dark), 255), width=px)

    def hull(self, stern: float, bow: float, depth: float, castle: float) -> None:
        """Draw a hull with sheer from stern to bow, a raking stem, and a pale strake."""
        deck = [(stern, depth + castle), (stern + 0.16, depth + 0.6 * castle), (0, depth * 0.86), (bow - 0.12, depth)]
        self.timber([*deck, (bow, depth + 0.03), (bow - 0.10, -DRAUGHT), (stern + 0.07, -DRAUGHT)])
        strake = [(stern + 0.02, depth * 0.72 + castle * 0.6), (0, depth * 0.60), (bow - 0.05, depth * 0.76)]
        self.timber([*strake, *((x, y - 0.016) for x, y in reversed(strake))], lift=0.45)

    def jib(self, head: Point, tack: Point, clew: Point) -> None:
        """Draw a triangular sail with a rounded leech."""
        self.sail(_edge(head, clew, -0.03), _edge(head, tack))

    def square_sails(self, *masts: tuple[float, float, float]) -> None:
        """Draw masts (place, height, width of the lowest sail), each with three sails under yards, filled with wind."""
        for mast, head, _ in masts:
            self.spar((mast, 0.08), (mast, head), 0.018)
        for mast, head, lowest in masts:
            for low, high, share in ((0.20, 0.47, 1.0), (0.49, 0.73, 0.82), (0.75, 0.93, 0.6)):
                top, foot, width = head * high, head * low, lowest * share
                belly, upper, lower = 0.05 * width / 0.3, width * 0.40, width * 0.5
                luff = _edge((mast - upper, top), (mast - lower, foot), belly, parts=4)
                leech = _edge((mast + upper, top), (mast + lower, foot), 1.9 * belly, parts=4)
                self.sail(luff, leech)
                self.spar((mast - upper - 0.02, top), (mast + upper + 0.03, top), 0.012)


def _ship(drawing: _Drawing) -> None:
    drawing.jib((0.40, 0.74), (0.86, 0.28), (0.50, 0.22))
    drawing.jib((0.42, 0.62), (0.74, 0.22), (0.46, 0.18))
    drawing.spar((0.52, 0.15), (0.92, 0.30), 0.02)
    drawing.square_sails((-0.42, 0.80, 0.27), (-0.06, 1.0, 0.36), (0.31, 0.92, 0.32))
    drawing.hull(-0.66, 0.62, 0.145, 0.055)


def _brig(drawing: _Drawing) -> None:
    drawing.jib((0.30, 0.78), (0.78, 0.28), (0.38, 0.20))
    drawing.spar((0.42, 0.14), (0.84, 0.29), 0.02)
    drawing.square_sails((-0.20, 1.0, 0.38), (0.22, 0.94, 0.36))
    drawing.hull(-0.54, 0.52, 0.13, 0.035)


def _cutter(drawing: _Drawing) -> None:
    drawing.spar((0.06, 0.06), (0.06, 1.0), 0.02)
    drawing.spar((0.36, 0.10), (0.78, 0.16), 0.016)
    drawing.jib((0.08, 0.86), (0.76, 0.17), (0.20, 0.18))
    drawing.sail(_edge((-0.30, 0.97), (-0.54, 0.14), -0.05), _edge((0.05, 0.80), (0.05, 0.16)))
    drawing.spar((0.05, 0.80), (-0.31, 0.98), 0.012)
    drawing.spar((0.05, 0.15), (-0.55, 0.14), 0.014)
    drawing.hull(-0.50, 0.46, 0.10, 0.02)


def _lugger(drawing: _Drawing) -> None:
    for mast, head, width in ((-0.28, 0.74, 0.40), (0.14, 1.0, 0.52)):
        drawing.spar((mast, 0.06), (mast, head), 0.02)
        fore, aft = mast + 0.42 * width, mast - 0.50 * width
        drawing.sail(
            _edge((aft, head * 0.99), (aft, head * 0.17), -0.04), _edge((fore, head * 0.80), (fore - 0.02, head * 0.20))
        )
        drawing.spar((mast - 0.52 * width, head), (mast + 0.44 * width, head * 0.79), 0.014)
    drawing.jib((0.18, 0.80), (0.72, 0.16), (0.34, 0.17))
    drawing.hull(-0.52, 0.50, 0.12, 0.03)


def _edge(top: Point, foot: Point, bulge: float = 0.0, parts: int = 5) -> list[Point]:
    """An edge of a sail, from the top, bent forward by `bulge` in its middle."""
    points = ((_between(top, foot, part / parts), part / parts) for part in range(parts + 1))
    return [(x + bulge * math.sin(math.pi * t), y) for (x, y), t in points]


def _between(p: Point, q: Point, t: float) -> Point:
    return (p[0] + (q[0] - p[0]) * t, p[1] + (q[1] - p[1]) * t)


def _bytes(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = (round(float(c) * 255) for c in colour)
    return r, g, b

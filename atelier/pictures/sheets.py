"""Contact sheets: pictures of one size side by side as one. Knows arrays and PNGs, not where pictures come from.

Pictures with words above them, side by side as one: what a person compares at a glance. Knows arrays and PNGs.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from atelier.files import replacing
from atelier.pictures import Pixels
from atelier.pictures.vips import srgb

SIDE_PX = 512  # about how wide a grid of pictures is

MOST, FEWEST = 8, 3  # pictures a row of it


def sheet(images: Pixels, columns: int | None = None, pad_px: int = 2) -> Pixels:
    """Pictures (n, H, W, 3), row by row, as one (rows, columns) sheet with white seams.

    Without `columns` the sheet is about as wide as high.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"a sheet needs uint8 (n, H, W, 3) pictures, not {images.dtype} {images.shape}")
    count, height, width, _ = images.shape
    columns = columns or max(1, round(math.sqrt(count * height / width)))
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    down, right = height + pad_px, width + pad_px
    drawn = np.full((rows * down + pad_px, columns * right + pad_px, 3), 255, np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = pad_px + row * down, pad_px + column * right
        drawn[top : top + height, left : left + width] = image
    return drawn


def grid(pictures: Pixels) -> Pixels:
    """As many of the pictures (n, H, W, 3), in their order, as are seen well, as one square grid."""
    side = max(pictures.shape[1:3])
    columns = min(max(SIDE_PX // side, FEWEST), MOST)
    shown = pictures[: columns**2]
    if side * columns > SIDE_PX:
        scale = SIDE_PX / columns / side
        size = (round(pictures.shape[2] * scale), round(pictures.shape[1] * scale))
        shown = np.stack([np.array(Image.fromarray(p).resize(size, Image.Resampling.LANCZOS)) for p in shown])
    else:
        times = SIDE_PX // (side * columns)  # whole pixels: what is coarse shall look coarse
        shown = shown.repeat(times, axis=1).repeat(times, axis=2)
    return sheet(shown, columns)


def write_sheet(path: Path, images: Pixels, columns: int | None = None, pad_px: int = 2) -> None:
    """Write the sheet as a PNG: whole or not at all, the same bytes for the same pictures."""
    with replacing(path) as temporary:
        Image.fromarray(sheet(images, columns, pad_px)).save(
            temporary, format="PNG", compress_level=6, icc_profile=srgb()
        )


def thumbnail(rgb: Pixels, side_px: int) -> Pixels:
    """The picture with its longer side at most `side_px`; a picture that is small enough stays as it is."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return np.array(picture)


TITLE_PX, TEXT_PX, GAP_PX, LEAD = 22, 16, 16, 1.3

INK, PAPER = (24, 24, 24), (255, 255, 255)


@dataclass(frozen=True)
class Panel:
    """A picture (H, W, 3) with a title and a few lines; lines that are too wide are folded."""

    title: str
    lines: tuple[str, ...]
    picture: Pixels


def fitted(picture: Pixels, side_px: int) -> Pixels:
    """About `side_px` on its longer side: a small picture enlarged by whole pixels, a large one reduced."""
    times = side_px // max(picture.shape[:2])
    if times:
        return picture.repeat(times, axis=0).repeat(times, axis=1)
    image = Image.fromarray(picture)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return np.array(image)


def panels(heading: str, given: Sequence[Panel], columns: int) -> Pixels:
    """The panels row by row under the heading, all rows as high as their highest panel."""
    drawn = [_panel(panel) for panel in given]
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    widths = [
        max(row[place].width for row in rows if place < len(row)) for place in range(min(columns, len(drawn)))
    ]
    width = sum(widths) + GAP_PX * (len(widths) + 1)
    top = _words(heading, (), width - 2 * GAP_PX)
    heights = [max(panel.height for panel in row) for row in rows]
    canvas = Image.new("RGB", (width, top.height + sum(heights) + GAP_PX * (len(rows) + 2)), PAPER)
    canvas.paste(top, (GAP_PX, GAP_PX))
    y = top.height + 2 * GAP_PX
    for row, height in zip(rows, heights, strict=True):
        x = GAP_PX
        for panel, across in zip(row, widths, strict=False):
            canvas.paste(panel, (x, y + height - panel.height))  # pictures level, whatever the words above
            x += across + GAP_PX
        y += height + GAP_PX
    return np.array(canvas)


def write_panels(path: Path, heading: str, given: Sequence[Panel], columns: int) -> None:
    """Write the panels as a PNG: whole or not at all, the same bytes for the same panels."""
    with replacing(path) as temporary:
        Image.fromarray(panels(heading, given, columns)).save(
            temporary, format="PNG", compress_level=6, icc_profile=srgb()
        )


def _panel(panel: Panel) -> Image.Image:
    picture = Image.fromarray(panel.picture)
    words = _words(panel.title, panel.lines, picture.width)
    canvas = Image.new("RGB", (picture.width, words.height + picture.height), PAPER)
    canvas.paste(words, (0, 0))
    canvas.paste(picture, (0, words.height))
    return canvas


def _words(title: str, lines: Sequence[str], width: int) -> Image.Image:
    """A title and lines under it, as wide as asked and as high as they need."""
    placed: list[tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont, int]] = []
    y = 0
    for text, size_px in ((title, TITLE_PX), *((line, TEXT_PX) for line in lines)):
        font = ImageFont.load_default(size_px)
        for line in _folded(text, font, width):
            placed.append((line, font, y))
            y += round(size_px * LEAD)
    canvas = Image.new("RGB", (width, y + GAP_PX // 2), PAPER)
    draw = ImageDraw.Draw(canvas)
    for line, font, top in placed:
        draw.text((0, top), line, fill=INK, font=font)
    return canvas


def _folded(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in lines no wider than `width`."""
    for letters in range(len(text), 8, -1):
        lines = textwrap.wrap(text, letters)
        if all(font.getlength(line) <= width for line in lines):
            return lines
    return textwrap.wrap(text, 8)

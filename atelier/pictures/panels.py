"""Pictures with words above them, side by side as one: what a person compares at a glance. Knows arrays and PNGs."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from atelier.files import replacing
from atelier.pictures.colour import srgb

Pixels = npt.NDArray[np.uint8]
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

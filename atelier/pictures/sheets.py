"""Contact sheets of pictures, and panels: pictures side by side under titles and lines of text."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from atelier.files import replacing
from atelier.pictures import Pixels, srgb

GRID_PX = 512  # about the side of a grid
MIN_COLUMNS, MAX_COLUMNS = 3, 8  # of a grid
TITLE_PX, TEXT_PX, LINE_HEIGHT = 22, 16, 1.3  # panels' fonts, and the height of a line in units of their sizes
PAD_PX, GAP_PX = 2, 16  # around a sheet's pictures, and around panels
INK, PAPER = (24, 24, 24), (255, 255, 255)
MIN_LINE_LETTERS = 8


@dataclass(frozen=True)
class Panel:
    """A picture (H, W, 3) under a title and lines of text; lines that are too wide are wrapped."""

    title: str
    lines: tuple[str, ...]
    picture: Pixels


def sheet(images: Pixels, columns: int | None = None) -> Pixels:
    """Lay out pictures (n, H, W, 3) row by row with white gaps; without `columns` about as wide as high."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"a sheet needs uint8 (n, H, W, 3) pictures, not {images.dtype} {images.shape}")
    count, height, width, _ = images.shape
    columns = min(columns or max(1, round(math.sqrt(count * height / width))), count)
    rows = math.ceil(count / columns)
    down, right = height + PAD_PX, width + PAD_PX
    drawn = np.full((rows * down + PAD_PX, columns * right + PAD_PX, 3), 255, np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = PAD_PX + row * down, PAD_PX + column * right
        drawn[top : top + height, left : left + width] = image
    return drawn


def grid(pictures: Pixels) -> Pixels:
    """Lay out the first pictures of (n, H, W, 3) as a square grid of about 512 px, three to eight a row."""
    side = max(pictures.shape[1:3])
    columns = min(max(GRID_PX // side, MIN_COLUMNS), MAX_COLUMNS)
    shown = pictures[: columns**2]
    if side * columns > GRID_PX:
        scale = GRID_PX / columns / side
        size = (round(pictures.shape[2] * scale), round(pictures.shape[1] * scale))
        shown = np.stack([np.array(Image.fromarray(p).resize(size, Image.Resampling.LANCZOS)) for p in shown])
    else:
        times = GRID_PX // (side * columns)  # by whole pixels, which stay visible
        shown = shown.repeat(times, axis=1).repeat(times, axis=2)
    return sheet(shown, columns)


def write_sheet(path: Path, images: Pixels, columns: int | None = None) -> None:
    """Write the sheet of pictures (n, H, W, 3) as a PNG, atomically; equal pictures give equal bytes."""
    write_png(path, sheet(images, columns))


def thumbnail(rgb: Pixels, side_px: int) -> Pixels:
    """Reduce a picture (H, W, 3) to a longer side of at most `side_px`."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return np.array(picture)


def fitted(picture: Pixels, side_px: int) -> Pixels:
    """Scale a picture (H, W, 3) to a longer side of at most `side_px`.

    A smaller one is enlarged by the largest whole factor that fits, a larger one is reduced.
    """
    times = side_px // max(picture.shape[:2])
    return picture.repeat(times, axis=0).repeat(times, axis=1) if times else thumbnail(picture, side_px)


def panels(heading: str, shown: Sequence[Panel], columns: int) -> Pixels:
    """Lay out panels row by row under a heading; the bottoms of a row's pictures are level."""
    drawn = [_panel(panel) for panel in shown]
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    widths = [max(row[place].width for row in rows if place < len(row)) for place in range(min(columns, len(drawn)))]
    width = sum(widths) + GAP_PX * (len(widths) + 1)
    top = _text(heading, (), width - 2 * GAP_PX)
    heights = [max(panel.height for panel in row) for row in rows]
    canvas = Image.new("RGB", (width, top.height + sum(heights) + GAP_PX * (len(rows) + 2)), PAPER)
    canvas.paste(top, (GAP_PX, GAP_PX))
    y = top.height + 2 * GAP_PX
    for row, height in zip(rows, heights, strict=True):
        x = GAP_PX
        for panel, across in zip(row, widths, strict=False):
            canvas.paste(panel, (x, y + height - panel.height))
            x += across + GAP_PX
        y += height + GAP_PX
    return np.array(canvas)


def write_panels(path: Path, heading: str, shown: Sequence[Panel], columns: int) -> None:
    """Write panels under a heading as a PNG, atomically; equal panels give equal bytes."""
    write_png(path, panels(heading, shown, columns))


def write_png(path: Path, pixels: Pixels) -> None:
    """Write (H, W, 3) pixels as an sRGB PNG, atomically; equal pixels give equal bytes."""
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=6, icc_profile=srgb())


def _panel(panel: Panel) -> Image.Image:
    text = _text(panel.title, panel.lines, panel.picture.shape[1])
    return Image.fromarray(np.concatenate([np.asarray(text), panel.picture]))


def _text(title: str, lines: Sequence[str], width: int) -> Image.Image:
    """Draw a title and lines under it, `width` wide and as high as they need."""
    placed: list[tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont, int]] = []
    y = 0
    for text, size_px in ((title, TITLE_PX), *((line, TEXT_PX) for line in lines)):
        font = ImageFont.load_default(size_px)
        for line in _wrapped(text, font, width):
            placed.append((line, font, y))
            y += round(size_px * LINE_HEIGHT)
    canvas = Image.new("RGB", (width, y + GAP_PX // 2), PAPER)
    draw = ImageDraw.Draw(canvas)
    for line, font, top in placed:
        draw.text((0, top), line, fill=INK, font=font)
    return canvas


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Wrap a text into lines no wider than `width` pixels."""
    for letters in range(len(text), MIN_LINE_LETTERS, -1):
        lines = textwrap.wrap(text, letters)
        if all(font.getlength(line) <= width for line in lines):
            return lines
    return textwrap.wrap(text, MIN_LINE_LETTERS)

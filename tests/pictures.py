"""Small images as bytes, good and hostile, for tests."""

import gzip
import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    """A small true JPEG: one colour fading to black, so that its hashes differ from other colours'."""
    fade = Image.linear_gradient("L").resize(size)
    return encoded(Image.composite(Image.new("RGB", size, colour), Image.new("RGB", size), fade), "JPEG")


def colour_field(size: tuple[int, int] = (96, 64), seed: int = 0) -> Image.Image:
    """A smooth colour field with an orientation: no two corners alike."""
    coarse = np.random.default_rng(seed).integers(20, 236, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """`image` as the bytes of a file."""
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def fitted(image: bytes, box: tuple[int, int]) -> bytes:
    """A JPEG of `image` made to fit into a box; never larger than it."""
    copy = Image.open(io.BytesIO(image)).convert("RGB")
    factor = min(box[0] / copy.width, box[1] / copy.height, 1)
    size = round(copy.width * factor), round(copy.height * factor)
    return encoded(copy.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=85)


def left_half(image: bytes) -> bytes:
    """A JPEG of the left half of `image`."""
    copy = Image.open(io.BytesIO(image)).convert("RGB")
    return encoded(copy.crop((0, 0, copy.width // 2, copy.height)), "JPEG", quality=85)


@cache
def placeholder() -> bytes:
    """Stands in for WikiArt's picture that says there is no picture."""
    return encoded(Image.new("RGB", (600, 480), (200, 200, 200)), "JPEG")


@cache
def pixel_bomb() -> bytes:
    """A PNG of 49 KB and 400 megapixels."""
    return encoded(Image.new("1", (20_000, 20_000)), "PNG")


@cache
def gzip_bomb() -> bytes:
    """1 MB that unpacks to 200 MB."""
    return gzip.compress(bytes(200_000_000), 1)

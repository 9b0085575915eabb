"""Small images as bytes, good and hostile, for tests."""

import gzip
import io
import struct
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


def tiff(tags: dict[int, list[int]], data: list[bytes], big_ends: bool = False, big: bool = False) -> bytes:
    """A TIFF of one picture: numbers by tag, and its uncompressed strips or tiles (where tag 322 is among the tags)."""
    ends, word = ">" if big_ends else "<", "Q" if big else "I"
    offsets, counts = (324, 325) if 322 in tags else (273, 279)
    tags = {**tags, offsets: [0] * len(data), counts: [len(part) for part in data]}
    head, room = (16, 8) if big else (8, 4)
    size = head + (8 if big else 2) + len(tags) * (20 if big else 12) + room
    values = {tag: struct.pack(f"{ends}{len(numbers)}{word}", *numbers) for tag, numbers in tags.items()}
    after = size + sum(len(value) for value in values.values() if len(value) > room)
    starts = [after + sum(len(part) for part in data[:number]) for number in range(len(data))]
    values[offsets] = struct.pack(f"{ends}{len(starts)}{word}", *starts)
    entries = outside = b""
    for tag, value in sorted(values.items()):
        entries += struct.pack(f"{ends}HH{word}", tag, 16 if big else 4, len(value) // room)
        entries += value.ljust(room, b"\0") if len(value) <= room else struct.pack(f"{ends}{word}", size + len(outside))
        outside += value if len(value) > room else b""
    magic = (b"MM" if big_ends else b"II") + struct.pack(f"{ends}H", 43 if big else 42)
    header = magic + (struct.pack(f"{ends}HHQ", 8, 0, 16) if big else struct.pack(f"{ends}I", 8))
    count = struct.pack(f"{ends}{'Q' if big else 'H'}", len(tags))
    return header + count + entries + struct.pack(f"{ends}{word}", 0) + outside + b"".join(data)

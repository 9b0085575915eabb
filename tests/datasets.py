"""A small packed set for tests that train or judge."""

import functools
import io
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.data.catalog import Work
from atelier.data.dataset import PackedDataset, Strips, View
from atelier.data.duplicates import Picture
from atelier.data.pack import write_dataset
from atelier.data.shards import Item


def noise(resolution: int, train: int) -> PackedDataset:
    """24 pictures of noise in memory, the first `train` of them to train on, the others held out."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, resolution, resolution, 3), dtype=np.uint8)
    ids = [f"{row:024x}" for row in range(24)]
    sides = (View(pixels[part], ids[part], mirror=True) for part in (slice(train), slice(train, None)))
    return PackedDataset(resolution, "center", True, *sides)


def noise_with_strips(resolution: int, train: int) -> PackedDataset:
    """The same, with noise for whole training paintings of two shapes, and 4 windows of each an epoch."""
    side = 3 * resolution // 2
    length = np.where(np.arange(train) % 2, 2 * side, side)
    pixels = np.random.default_rng(1).integers(0, 256, (length.sum(), side, 3), dtype=np.uint8)
    landscape, min_side = np.arange(train) % 4 == 1, np.full(train, resolution)
    strips = Strips(pixels, np.cumsum(length) - length, length, landscape, min_side, crops=4)
    return replace(noise(resolution, train), strips=strips)


def pack_blots(count: int = 60, resolution: int = 32) -> None:
    """Write a packed set of coloured blots to data/dataset of the current directory, landscapes and marines."""
    shutil.rmtree("data/dataset", ignore_errors=True)
    shutil.copytree(Path(_packed_blots(count, resolution).name) / "dataset", "data/dataset")


@functools.cache
def _packed_blots(count: int, resolution: int) -> "tempfile.TemporaryDirectory[str]":
    """A folder with the set, packed once in a process."""
    folder = tempfile.TemporaryDirectory()
    items = []
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(file, "PNG")
        items.append(Item(f"w{n:03d}", "png", file.getvalue()))
    write_dataset(
        [Picture(item.id, 64, 64, f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}") for n, item in enumerate(items)],
        items,
        Path(folder.name) / "dataset",
        resolution=resolution,
        crop="center",
        mirror=True,
        held_out=0.3,
        workers=1,
        look_alikes={},
        advance=lambda: None,
        works=[work(item.id, "marine" if n % 3 else "landscape") for n, item in enumerate(items)],
    )
    return folder


def work(id: str, genre: str) -> Work:
    """A row of the catalog."""
    return Work(
        id=id, title="", artist="", artist_slug="", year_text="", year=None, genre=genre, style="", width=None,
        height=None, image_url="", page_url="", rights="unknown", source="folder",
    )  # fmt: skip

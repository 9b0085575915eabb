"""What the upscaler learns from and is judged by: paintings out of the shards, sharp at their own pixels.

A scraped JPEG is neither: so each is halved first, which leaves its compression artefacts behind. One whose half
is smaller than a training patch is reduced by less; one that is smaller itself is left out.
"""

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from atelier.data.duplicates import Picture
from atelier.data.pack import split
from atelier.data.shards import Item
from atelier.errors import AtelierError
from atelier.images.verify import pixels_of, read_rgb, room_for

REDUCTION = 2.0  # GAN.md 5.3
LONGEST_PX = 512  # only the middle of what is larger after its reduction: bounds memory by 786 kB a painting
HELD_OUT = 0.05  # share of the paintings that are kept from training
JUDGED = 40  # held-out paintings that are enough for a mean

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """Pictures (H, W, 3) to train on and to judge by; `found` is how many there were to choose from."""

    train: list[Pixels]
    held_out: list[Pixels]
    found: int

    @property
    def content_key(self) -> str:
        """A digest of what is trained on: other pictures, another key."""
        content = hashlib.sha256()
        for picture in self.train:
            content.update(repr(picture.shape).encode())
            content.update(picture.data)
        return content.hexdigest()


def read_pictures(
    known: Sequence[Picture], items: Iterable[Item], smallest_px: int, most: int, workers: int
) -> Pictures:
    """At most `most` of the known paintings, read from the shards' items and reduced; no side below `smallest_px`.

    The hash of its id decides whether a painting is chosen: no seed, and few changes where paintings come or go.
    Raises AtelierError where fewer than two are large enough.
    """
    usable = [picture for picture in known if min(picture.width, picture.height) >= smallest_px]
    if len(usable) < 2:
        raise AtelierError(
            f"data/images: {len(usable)} of {len(known):,} paintings measure {smallest_px} px or more on their "
            "shorter side; the upscaler needs two: lower train_upscaler.patch_px, or download more"
        )
    chosen = heapq.nsmallest(most, usable, key=lambda picture: hashlib.sha256(picture.id.encode()).digest())
    train, held_out = split(chosen, HELD_OUT)
    wanted = {picture.id for picture in [*train, *held_out[:JUDGED]]}

    def read(item: Item) -> tuple[str, Pixels]:
        with room_for(pixels_of(item.content)):
            return item.id, reduced(read_rgb(item.content, item.name), smallest_px)

    with ThreadPoolExecutor(workers) as pool:  # Pillow decodes and resizes without Python's lock
        by_id = dict(pool.map(read, (item for item in items if item.id in wanted)))
    return Pictures(
        [by_id[picture.id] for picture in train],
        [by_id[picture.id] for picture in held_out[:JUDGED]],
        len(known),
    )


def reduced(image: Image.Image, smallest_px: int) -> Pixels:
    """A painting at half its size, or as near to that as `smallest_px` allows; the middle, where it is large."""
    reduction = min(REDUCTION, min(image.size) / smallest_px)
    width, height = (max(round(side / reduction), smallest_px) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = max(width - LONGEST_PX, 0) // 2, max(height - LONGEST_PX, 0) // 2
    middle = image.crop((left, top, min(left + LONGEST_PX, width), min(top + LONGEST_PX, height)))
    return np.asarray(middle)

"""WikiArt's smaller copies of its images: which to ask for where pictures are kept small, and whether one is a copy.

Which copies exist follows from the original's size: in 512 of 512 real list records, `map`, which says it copy by
copy, is what `exists_from` gives, and the works of the App layer have a size but no `map`. Sizes that WikiArt does not
tell are guesses, the smaller ones: a wrong guess may cost a request or some bytes, never a wrong picture.
"""

import re
from typing import NamedTuple

from atelier.data.catalog import Work

TRIED = 3  # variants before the original: a work of which none is there costs no more requests in vain
USUAL_SHAPE = 0.75  # shorter side : longer side, where the catalog tells no size
SHAPE_TOLERANCE = 0.03  # and a pixel, for rounding

_PLAIN = re.compile(r"https?://[^?#!]+")  # nothing can be appended to other addresses


class _Variant(NamedTuple):
    """The box that a variant fits into at least; it is never larger than the original.

    `exists_from`: WikiArt makes it of originals that are so wide or so high.
    """

    name: str
    width: int
    height: int | None = None  # None: as high as it gets
    exists_from: tuple[int, int] = (0, 0)


# smallest first; WikiArt has the first two of all works, the last of a fifth
VARIANTS = (
    _Variant("PinterestSmall", 210),
    _Variant("PinterestLarge", 280),
    _Variant("Portrait", 400, 400, (400, 400)),
    _Variant("Blog", 500, 500, (500, 500)),
    _Variant("Large", 600, 750, (750, 600)),
    _Variant("HalfHD", 800, 800, (1366, 800)),
    _Variant("HD", 1200, 1200, (1920, 1200)),
)


def addresses(work: Work, size_px: int | None, min_side_px: int) -> list[str]:
    """Where to ask for a work's picture, one after the other: variants whose shorter side suffices, the original last.

    The original alone where nobody may make do with less: its size must be seen to be believed, or is below what is
    asked for anyway.
    """
    original = work.image_url
    if size_px is None or work.source != "wikiart" or not _PLAIN.fullmatch(original):
        return [original]
    size = catalogued_size(work)
    if size is None and min_side_px > size_px:  # a variant would not tell whether the original is too small
        return [original]
    if size is not None and min(size) < max(size_px, min_side_px):
        return [original]
    enough = [variant for variant in VARIANTS if _suffices(variant, size, size_px)]
    return [f"{original}!{variant.name}.jpg" for variant in enough[:TRIED]] + [original]


def catalogued_size(work: Work) -> tuple[int, int] | None:
    """The original's width and height, where the catalog has both."""
    if not work.width or not work.height or min(work.width, work.height) < 1:
        return None
    return work.width, work.height


def is_copy(size: tuple[int, int], original: tuple[int, int] | None) -> bool:
    """Whether a picture of `size` has the shape of the original and not more pixels: no crop, no frame, no stand-in."""
    if original is None:
        return True
    (width, height), (full_width, full_height) = size, original
    due = full_height * width / full_width
    return width <= full_width and abs(height - due) <= 1 + SHAPE_TOLERANCE * due


def _suffices(variant: _Variant, original: tuple[int, int] | None, size_px: int) -> bool:
    if original is None:
        return min(variant.width, variant.height or variant.width) * USUAL_SHAPE >= size_px
    width, height = original
    if width < variant.exists_from[0] and height < variant.exists_from[1]:
        return False
    factor = min(variant.width / width, (variant.height or height) / height)
    return factor < 1 and round(min(original) * factor) >= size_px

"""One work's picture: fetched from its source and verified in full; or the reason why there is none.

Pictures no larger than asked are kept as the bytes that came, whatever their colours: conversion to plain sRGB
happens on reading (`images.read_rgb`). Larger ones are converted, made smaller and kept as JPEG.
"""

import hashlib
from typing import NamedTuple

from atelier.arrivals import Arrival, Limits
from atelier.catalog import Work
from atelier.images import Refused, is_placeholder_url, shrink, verify
from atelier.polite import FetchError
from atelier.sources import Source

# a false or damaged picture may be the site's bad moment: as many looks, or until one repeats itself
LOOKS = 3
PASSING = ("error", "refused")  # of a site, not of a picture: asked again by the next run


class Answer(NamedTuple):
    """What a work gave, and whether that will be so the next time."""

    arrival: Arrival
    lasts: bool


def ask(work: Work, source: Source, limits: Limits) -> Answer:
    """One work, asked for in any thread of any process; keeps nothing."""
    seen: set[bytes] = set()
    while True:
        try:
            fetched = source.fetch(work)
        except FetchError as error:
            return Answer(Arrival(error.kind, error.reason), error.kind not in PASSING)
        if is_placeholder_url(fetched.url):
            return Answer(Arrival("placeholder", f"the site shows {fetched.url} instead"), True)
        arrival = _judged(fetched.content, limits)
        if arrival.status not in ("truncated", "not-an-image"):
            return Answer(arrival, True)
        digest = hashlib.sha256(fetched.content).digest()
        if digest in seen:
            return Answer(arrival, True)
        seen.add(digest)
        if len(seen) == LOOKS:
            return Answer(arrival, False)


def key_of(work: Work, source: Source) -> str:
    """What a work's picture is kept under: its id, its address, and what else decides its bytes."""
    return "\0".join((work.id, work.image_url, source.version(work)))


def _judged(content: bytes, limits: Limits) -> Arrival:
    verdict = verify(content, limits.image)
    if isinstance(verdict, Refused):
        return Arrival(verdict.status, verdict.reason, came_bytes=len(content))
    kept, size, extension = content, (verdict.width, verdict.height), verdict.extension
    if limits.size_px and min(size) > limits.size_px:
        kept, size = shrink(verdict.image, limits.size_px)
        extension = "jpg"
    return Arrival(
        "ok",
        extension=extension,
        sha256=hashlib.sha256(kept).hexdigest(),
        phash=verdict.phash,
        width=size[0],
        height=size[1],
        came_px=(verdict.width, verdict.height),
        came_bytes=len(content),
        content=kept,
    )

"""One work's picture: fetched from its source, verified in full, kept; or the reason why there is none.

Pictures no larger than asked are kept as the bytes that came, whatever their colours: conversion to plain sRGB
happens on reading (`images.read_rgb`). Larger ones are converted, made smaller and kept as JPEG.
"""

import hashlib
from dataclasses import dataclass

from atelier.account import Entry
from atelier.arrivals import Arrival, Arrivals
from atelier.catalog import Work
from atelier.images import Refused, is_placeholder_url, shrink, verify
from atelier.polite import FetchError
from atelier.sources import Source

# a false or damaged picture may be the site's bad moment: as many looks, or until one repeats itself
LOOKS = 3
PASSING = ("error", "refused")  # of a site, not of a picture: asked again by the next run


@dataclass(frozen=True)
class Fetcher:
    """One work after the other, in any of many threads."""

    source: Source
    arrivals: Arrivals

    def bring(self, work: Work) -> Entry:
        """A work's entry, from what is kept or by asking the source."""
        key = key_of(work, self.source)
        arrival = self.arrivals.load(key)
        if arrival is None:
            arrival, lasts = self._ask(work)
            if lasts:
                self.arrivals.save(key, arrival)
        return arrival.entry(work.id)

    def _ask(self, work: Work) -> tuple[Arrival, bool]:
        """What a work gave, and whether that will be so the next time."""
        seen: set[bytes] = set()
        while True:
            try:
                fetched = self.source.fetch(work)
            except FetchError as error:
                return Arrival(error.kind, error.reason), error.kind not in PASSING
            if is_placeholder_url(fetched.url):
                return Arrival("placeholder", f"the site shows {fetched.url} instead"), True
            arrival = self._judge(fetched.content)
            if arrival.status not in ("truncated", "not-an-image"):
                return arrival, True
            digest = hashlib.sha256(fetched.content).digest()
            if digest in seen:
                return arrival, True
            seen.add(digest)
            if len(seen) == LOOKS:
                return arrival, False

    def _judge(self, content: bytes) -> Arrival:
        limits = self.arrivals.limits
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


def key_of(work: Work, source: Source) -> str:
    """What a work's picture is kept under: its id, its address, and what else decides its bytes."""
    return "\0".join((work.id, work.image_url, source.version(work)))

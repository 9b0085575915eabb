"""One work's picture: fetched from its source and verified in full; or the reason why there is none.

Pictures no larger than asked are kept as the bytes that came, whatever their colours: conversion to plain sRGB
happens on reading (`images.read_rgb`). Larger ones are converted, made smaller and kept as JPEG; of those, the
smallest variant that the site has and that suffices is asked for instead of the original.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from atelier.data.catalog import Work
from atelier.download.arrivals import Arrival, Limits
from atelier.download.sources import Source, addresses, catalogued_size, is_copy
from atelier.images.verify import ImageLimits, Refused, encode_jpeg, is_placeholder_url, verify
from atelier.web.response import FetchError, Redirected

# a false or damaged picture may be the site's bad moment: as many looks, or until one repeats itself
LOOKS = 3
PASSING = ("error", "refused")  # of a site, not of a picture: asked again by the next run


class Answer(NamedTuple):
    """What a work gave, and whether that will be so the next time."""

    arrival: Arrival
    lasts: bool


def ask(work: Work, source: Source, limits: Limits) -> Answer:
    """One work, asked for in any thread of any process; keeps nothing."""
    if is_placeholder_url(work.image_url):
        return Answer(Arrival("placeholder", f"the catalog has {work.image_url} in its place"), True)
    *variants, original = addresses(work, limits.size_px, limits.image.min_side_px)
    for address in variants:
        # only what lasts leads on: from a site in trouble, another variant would give other bytes than the next run
        try:
            answer = _looked_at(
                replace(work, image_url=address), source, lambda content: _variant(content, work, limits)
            )
        except FetchError as error:
            if error.kind == "error" and error.status is None:
                return _failed(error)
            continue
        if answer.arrival.status == "ok" or not answer.lasts:
            return answer
    try:
        return _looked_at(replace(work, image_url=original), source, lambda content: _judged(content, limits))
    except FetchError as error:
        return _failed(error)


def key_of(work: Work, source: Source) -> str:
    """What a work's picture is kept under: its id, its address, and what else decides its bytes."""
    return "\0".join((work.id, work.image_url, source.version(work)))


def may_pass(answer: Answer) -> bool:
    """Whether a work has no picture because of trouble that may pass by itself.

    A refusal is the source's decision, and what it redirects to its error page is most likely gone.
    """
    return not answer.lasts and answer.arrival.status not in ("ok", "refused", "missing")


def _failed(error: FetchError) -> Answer:
    reason = error.reason
    if isinstance(
        error, Redirected
    ):  # to the site's error page, which it may also show when it is in trouble
        return Answer(Arrival("missing", reason), False)
    if error.status == 451:
        reason += ": not shown in your country (a geo-block, for legal reasons)"
    return Answer(Arrival(error.kind, reason), error.kind not in PASSING)


def _looked_at(work: Work, source: Source, judge: Callable[[bytes], Arrival]) -> Answer:
    """What one address gives, after as many looks as it takes to know. Raises FetchError."""
    seen: set[bytes] = set()
    while True:
        fetched = source.fetch(work)
        if is_placeholder_url(fetched.url):
            return Answer(Arrival("placeholder", f"the site shows {fetched.url} instead"), True)
        arrival = judge(fetched.content)
        if arrival.status not in ("truncated", "not-an-image"):
            return Answer(arrival, True)
        digest = hashlib.sha256(fetched.content).digest()
        if digest in seen:
            return Answer(arrival, True)
        seen.add(digest)
        if len(seen) == LOOKS:
            return Answer(arrival, False)


def _variant(content: bytes, work: Work, limits: Limits) -> Arrival:
    """A smaller copy, which must reach `size_px`; what is asked of the picture is asked of the original's size."""
    assert limits.size_px
    arrival = _judged(content, replace(limits, image=ImageLimits(limits.size_px, limits.image.max_pixels)))
    original = catalogued_size(work)
    if arrival.status != "ok":
        return arrival
    if not is_copy(arrival.came_px, original):
        return Arrival("refused", f"{arrival.came_px} is no smaller copy of {original}")
    return replace(arrival, original_px=original or arrival.came_px)


def _judged(content: bytes, limits: Limits) -> Arrival:
    verdict = verify(content, limits.image, limits.size_px or math.inf)
    if isinstance(verdict, Refused):
        return Arrival(verdict.status, verdict.reason, came_bytes=len(content))
    kept, size, extension = content, (verdict.width, verdict.height), verdict.extension
    if verdict.image is not None:
        kept, size, extension = encode_jpeg(verdict.image), verdict.image.size, "jpg"
    return Arrival(
        "ok",
        reason=verdict.note,
        extension=extension,
        sha256=hashlib.sha256(kept).hexdigest(),
        phash=verdict.phash,
        width=size[0],
        height=size[1],
        original_px=(verdict.width, verdict.height),
        came_px=(verdict.width, verdict.height),
        came_bytes=len(content),
        content=kept,
    )

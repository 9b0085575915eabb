"""Fetching one work's picture and verifying it completely; or the reason why there is none.

Pictures no larger than `size_px` are kept as the bytes that came, whatever their colours; they become plain sRGB when
they are read (`images.read_rgb`). Larger ones are converted, reduced and kept as JPEG. For those, the smallest of the
site's variants that is large enough is fetched instead of the original.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from atelier.data.catalog import Work
from atelier.download.arrivals import Arrival, Limits
from atelier.download.sources import Source, catalog_size, image_urls, is_smaller_copy
from atelier.images.verify import ImageLimits, Refused, encode_jpeg, is_placeholder_url, verify
from atelier.web.response import FetchError, Redirected

MAX_FETCHES = 3  # of a damaged or false picture, which may be a temporary failure; fewer if the bytes repeat
SITE_FAILURES = ("error", "refused")  # statuses caused by the site: requested again by the next run


class Outcome(NamedTuple):
    """What fetching a work gave. If it is final, the next run does not fetch the work again."""

    arrival: Arrival
    is_final: bool


def fetch_work(work: Work, source: Source, limits: Limits) -> Outcome:
    """Fetch and verify one work's picture, in any thread of any process."""
    if is_placeholder_url(work.image_url):
        return Outcome(Arrival("placeholder", f"the catalog has {work.image_url} in its place"), True)
    *variants, original = image_urls(work, limits.size_px, limits.image.min_side_px)
    for url in variants:
        # go on only after a final outcome: after a temporary failure the next run might use another variant's bytes
        try:
            outcome = _fetch_until_final(
                replace(work, image_url=url), source, lambda content: _verify_variant(content, work, limits)
            )
        except FetchError as error:
            if error.kind == "error" and error.status is None:
                return _failure(error)
            continue
        if outcome.arrival.status == "ok" or not outcome.is_final:
            return outcome
    try:
        return _fetch_until_final(replace(work, image_url=original), source, lambda content: _verify(content, limits))
    except FetchError as error:
        return _failure(error)


def arrival_key(work: Work, source: Source) -> str:
    """The key of a work's arrival: its id, its URL, and what else decides its bytes."""
    return "\0".join((work.id, work.image_url, source.version(work)))


def is_temporary_failure(outcome: Outcome) -> bool:
    """Whether a work has no picture because of a failure that may be temporary.

    A refusal is the source's decision, and a work that redirects to the site's error page is most likely gone.
    """
    return not outcome.is_final and outcome.arrival.status not in ("ok", "refused", "missing")


def _failure(error: FetchError) -> Outcome:
    reason = error.reason
    if isinstance(error, Redirected):  # to the site's error page, which it may also show in a temporary failure
        return Outcome(Arrival("missing", reason), False)
    if error.status == 451:
        reason += ": not shown in your country (a geo-block, for legal reasons)"
    return Outcome(Arrival(error.kind, reason), error.kind not in SITE_FAILURES)


def _fetch_until_final(work: Work, source: Source, check: Callable[[bytes], Arrival]) -> Outcome:
    """Fetch one URL until its bytes are a picture or repeat, at most MAX_FETCHES times. Raises FetchError."""
    digests: set[bytes] = set()
    while True:
        fetched = source.fetch(work)
        if is_placeholder_url(fetched.url):
            return Outcome(Arrival("placeholder", f"the site shows {fetched.url} instead"), True)
        arrival = check(fetched.content)
        if arrival.status not in ("truncated", "not-an-image"):
            return Outcome(arrival, True)
        digest = hashlib.sha256(fetched.content).digest()
        if digest in digests:
            return Outcome(arrival, True)
        digests.add(digest)
        if len(digests) == MAX_FETCHES:
            return Outcome(arrival, False)


def _verify_variant(content: bytes, work: Work, limits: Limits) -> Arrival:
    """Verify a smaller copy, whose shorter side must have `size_px`; other limits concern the original's size."""
    assert limits.size_px
    arrival = _verify(content, replace(limits, image=ImageLimits(limits.size_px, limits.image.max_pixels)))
    original = catalog_size(work)
    if arrival.status != "ok":
        return arrival
    if not is_smaller_copy(arrival.came_px, original):
        return Arrival("refused", f"{arrival.came_px} is no smaller copy of {original}")
    return replace(arrival, original_px=original or arrival.came_px)


def _verify(content: bytes, limits: Limits) -> Arrival:
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

"""What the long way costs, in a sentence for the person who may not want it. Asks nobody."""

WORKS_PER_ARTIST = 39  # 223,095 works of 5,755 artists


def announcement(
    asked: str,
    *,
    shown: int,
    claimed: int | None,
    edge: int | None,
    artists: int,
    rate_per_s: float,
    free_only: bool,
) -> str:
    """What was cut, what completing it takes, and what makes it shorter. `artists` are those that will be asked for.

    The number of requests is one of WikiArt's means: an oeuvre's size is known when it has been asked for.
    """
    beyond = max((claimed or 0) - shown, 0)
    requests = artists + max(artists * WORKS_PER_ARTIST, beyond) + (beyond if free_only else 0)
    of = f" of {claimed:,}" if claimed else ""
    which = f" that is undated or from {edge} on" if edge is not None else ""
    return (
        f"{asked}: its list ends after {shown:,}{of} works, the earliest; the others are looked for among the works "
        f"of {artists:,} artists, each{which} asked for by itself. At WikiArt's {WORKS_PER_ARTIST} works an artist "
        f"that is up to {requests:,} requests, {requests / rate_per_s / 3600:,.1f} hours at the set rate. What "
        "arrives is kept, so it may be stopped and goes on; scrape.wikiart.limit and "
        "scrape.wikiart.max_requests make it shorter"
    )

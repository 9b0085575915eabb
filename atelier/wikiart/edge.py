"""Where a cut list ends in time: what is dated well before was shown by the list, or is not of it."""

import statistics
from collections.abc import Sequence

from atelier.data.catalog import Work
from atelier.wikiart.app import is_dated

NEIGHBOURS = 30  # on either side, whose middle year says which year belongs at a place of the list
LEAST_MARGIN = 20  # years; of 512 works of a real list the latest stood 10 years behind its place
PASSED_OVER = (
    1000  # one work in so many may stand further behind: a slip of the pen should not cost 100,000 requests
)


def edge_of(works: Sequence[Work]) -> int | None:
    """The year before which a dated work would have been in `works`, a list's first ones in its order.

    Lists ascend by year but for a few works that stand later than their year; how much later in this list is the
    margin. None where too little is dated to tell.
    """
    years = [work.year for work in works if is_dated(work) and work.year is not None]
    if len(years) < 4 * NEIGHBOURS:
        return None
    behind = sorted(
        (
            statistics.median(years[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1]) - year
            for place, year in enumerate(years)
        ),
        reverse=True,
    )
    margin = max(behind[len(years) // PASSED_OVER], LEAST_MARGIN)
    return int(statistics.median(years[-2 * NEIGHBOURS :]) - margin)

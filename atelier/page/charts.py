"""Line charts as SVG, which take the page's colours and can be read by a screen reader."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

WIDTH, HEIGHT = 560, 180  # px of the drawing
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 22  # px of margins


@dataclass(frozen=True)
class Chart:
    """One curve: title, `points` of an SVG polyline, labels at the axes' ends, and a sentence that describes it."""

    title: str
    points: str
    y_labels: tuple[str, str]
    x_labels: tuple[str, str]
    sentence: str


def read_charts(path: Path) -> list[Chart]:
    """A chart of each column of a CSV file over its first one, `kimg`; none for a file without rows of numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.reader(file)]
    if not rows:
        return []
    charts = []
    for number, title in enumerate(rows[0][1:], 1):
        points = [(float(row[0]), float(row[number])) for row in rows[1:] if row[number:] and row[number]]
        if points:
            charts.append(chart(title, points))
    return charts


def chart(title: str, points: Sequence[tuple[float, float]]) -> Chart:
    """Draw points (kimg, value), in the order of kimg."""
    xs, ys = zip(*points, strict=True)
    low, high, first, last = min(ys), max(ys), xs[0], xs[-1]
    drawn = [
        (
            LEFT + (x - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT),
            TOP + (high - y) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM),
        )
        for x, y in points
    ]
    turns = sum(1 for one, other in pairwise(ys) if other < one)
    falls = f", lower than before in {turns} of {len(ys) - 1} steps" if len(ys) > 1 else ""
    return Chart(
        title,
        " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn),
        (f"{high:.3g}", f"{low:.3g}"),
        (f"{first:g}", f"{last:g} kimg"),
        f"{title} from {ys[0]:.3g} at {first:g} kimg to {ys[-1]:.3g} at {last:g} kimg{falls}",
    )

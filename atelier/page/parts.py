"""Parts of the pages: rendering a template of `web/`, charts, and the page of a night or an exploration.

A line chart is an SVG, which takes the page's colours and can be read by a screen reader. The page of a night or an
exploration has a sheet of pictures and tables that can be sorted.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from atelier import __version__
from atelier.files import write_bytes

WEB = Path(__file__).parent / "web"
WIDTH, HEIGHT = 560, 180  # px of the drawing
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 22  # px of margins


@dataclass(frozen=True)
class Table:
    """A table: its caption, the columns' names, and its rows.

    `pictures` has for each row the path of a picture, relative to the page, or None; empty for a table without.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    pictures: Sequence[str | None] = field(default_factory=tuple)


def write_report_page(
    path: Path, title: str, paragraphs: Sequence[str], tables: Sequence[Table], sheet: str | None = None
) -> None:
    """Write the page. `sheet` is the path of a picture, relative to the page. All texts are escaped."""
    page = render(
        "report.html",
        title=title,
        paragraphs=[paragraph for paragraph in paragraphs if paragraph],
        tables=[table for table in tables if table.rows],
        sheet=sheet,
        script=read_script("report.js"),
    )
    write_bytes(path, page.encode())


def render(template: str, **values: Any) -> str:
    """Render a template of `web/` with the pages' style; texts are escaped unless they are Markup."""
    environment = Environment(loader=FileSystemLoader(WEB), autoescape=True, undefined=StrictUndefined)
    style = Markup((WEB / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(version=__version__, style=style, **values)


def read_script(name: str) -> Markup:
    """Read a script of `web/` for a page to contain."""
    return Markup((WEB / name).read_text(encoding="utf-8"))


def read_charts(path: Path) -> list[dict[str, Any]]:
    """A chart of each column of a CSV file over its first one, `kimg`; none for a file without rows of numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.reader(file)]
    if not rows:
        return []
    charts = []
    for number, title in enumerate(rows[0][1:], 1):
        points = [(float(row[0]), float(row[number])) for row in rows[1:] if row[number:] and row[number]]
        if points:
            charts.append(_chart(title, points))
    return charts


def _chart(title: str, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """A curve of points (kimg, value): an SVG polyline, the labels at the axes' ends, and a sentence about it."""
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
    return {
        "title": title,
        "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn),
        "y_labels": (f"{high:.3g}", f"{low:.3g}"),
        "x_labels": (f"{first:g}", f"{last:g} kimg"),
        "sentence": f"{title} from {ys[0]:.3g} at {first:g} kimg to {ys[-1]:.3g} at {last:g} kimg{falls}",
    }

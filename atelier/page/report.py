"""A page with a sheet of pictures and tables that can be sorted: of a night, or of an exploration."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from atelier import __version__
from atelier.files import write_bytes

WEB = Path(__file__).parent / "web"


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
    environment = Environment(loader=FileSystemLoader(WEB), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html").render(
        title=title,
        paragraphs=[paragraph for paragraph in paragraphs if paragraph],
        tables=[table for table in tables if table.rows],
        sheet=sheet,
        version=__version__,
        style=Markup((WEB / "style.css").read_text(encoding="utf-8")),
        script=Markup((WEB / "report.js").read_text(encoding="utf-8")),
    )
    write_bytes(path, page.encode())

"""Pages of nights and explorations: tables that can be sorted, and texts that anybody may have written."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier.page.parts import Table, write_report_page
from tests.browser import WIDTHS_PX, check_accessibility, opened


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_rows_are_sorted_by_the_pressed_column_with_empty_cells_last(
    width_px: int, tmp_path: Path, browser: Any
) -> None:
    for name in ("one.png", "two.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    rows = [("a", "10", "<b>"), ("b", "9", ""), ("c", "", "x"), ("d", "-1", "y")]
    table = Table("Trials", ("trial", "kid", "said"), rows, ("one.png", None, "two.png", None))
    write_report_page(tmp_path / "report.html", "Trials & <errors>", ["<script>"], [table], "one.png")
    with opened(tmp_path / "report.html", width_px, browser) as page:
        check_accessibility(page)

        def column() -> list[str]:
            return list(page.eval_on_selector_all("tbody tr", "rows => rows.map(row => row.cells[1].textContent)"))

        page.click("text=kid")
        assert column() == ["d", "b", "a", "c"]
        page.click("text=kid")
        assert column() == ["a", "b", "d", "c"]
        assert page.inner_text("h1") == "Trials & <errors>"
        page.click("tbody tr:first-child a")
        assert page.url.endswith("one.png")

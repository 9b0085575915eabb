"""Years as WikiArt writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.data.catalog import EARLIEST_YEAR, LATEST_YEAR, parse_year


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("1916", 1916),
        ("1827-1828", 1828),
        ("1827 – 1828", 1828),
        ("1887-88", 1888),
        ("1887-12", 1887),
        ("XX cent.", 1950),
        ("XIX cent.", 1850),
        ("XIX-XX cent.", 1900),
        ("XX-XXI cent.", 1963),
        ("II cent. BC", -150),
        ("19th century", 1850),
        ("1890s", 1894),
        ("c. 1300 BC", -1300),
        ("1300-1250 BC", -1250),
        ("-500", -500),
        ("c.1435", 1435),
        ("17 June 1889", 1889),
        ("1500 (?)", 1500),
        ("79", 79),
        ("?", None),
        ("", None),
        ("0", None),
        ("20000", None),
        ("99999999999", None),
        ("MMXX cent.", None),
        ("unknown", None),
    ],
)
def test_a_year_is_read_as(text, year):
    assert parse_year(text) == year


@given(st.integers(1000, LATEST_YEAR))
def test_a_plain_year_is_itself_and_its_negative_before_christ(year):
    assert parse_year(str(year)) == year
    assert parse_year(f"{year} BC") == -year


@given(st.integers(1000, 2000), st.integers(0, 100))
def test_a_range_is_its_last_year(year, length):
    assert parse_year(f"{year}-{year + length}") == year + length


@given(st.text() | st.text(alphabet="0123456789-–/ .cXIVBCents?"))
def test_any_text_gives_a_storable_year_or_none(text):
    year = parse_year(text)
    assert year is None or EARLIEST_YEAR <= year <= LATEST_YEAR

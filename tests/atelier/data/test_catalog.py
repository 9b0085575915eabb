"""The catalog, the download records, and reading years."""

import dataclasses
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.data.catalog import (
    CATALOG_SCHEMA,
    EARLIEST_YEAR,
    LATEST_YEAR,
    DownloadRecord,
    Work,
    catalog_frame,
    parse_year,
    read_catalog,
    read_downloads,
    write_catalog,
    write_downloads,
)
from atelier.errors import AtelierError

WORK = Work(
    id="a" * 24, title="La mer à Étretat", artist="Anna Ancher", artist_slug="anna-ancher", year_text="c. 1300 BC",
    year=-1300, genre="marina", style="", width=640, height=None, image_url="gallery:/images/a/b.jpg", page_url="",
    rights="unknown", source="gallery",
)  # fmt: skip


def works(count: int) -> list[Work]:
    return [dataclasses.replace(WORK, id=f"{number:024x}", year=number or None) for number in range(count)]


def test_what_is_written_is_read_sorted_by_id(tmp_path):
    path = tmp_path / "data" / "catalog.parquet"
    write_catalog(reversed(works(50)), path)
    assert read_catalog(path) == works(50)
    assert pq.read_table(path).schema.equals(CATALOG_SCHEMA)


def test_the_same_works_in_any_order_are_the_same_bytes(tmp_path):
    shuffled = works(200)
    random.Random(1).shuffle(shuffled)
    write_catalog(works(200), tmp_path / "a.parquet")
    write_catalog(shuffled, tmp_path / "elsewhere" / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "elsewhere" / "b.parquet").read_bytes()


def test_an_empty_catalog_keeps_its_columns(tmp_path):
    write_catalog([], tmp_path / "catalog.parquet")
    assert read_catalog(tmp_path / "catalog.parquet") == []
    assert list(catalog_frame([]).columns) == CATALOG_SCHEMA.names


@pytest.mark.parametrize("identity", ["", "../a", "a/b", "a.b", "é", "a" * 65, "a\n", "."])
def test_an_id_unfit_for_a_file_name_is_an_error(tmp_path, identity):
    with pytest.raises(AtelierError, match="ids are 1 to 64 of"):
        write_catalog([dataclasses.replace(WORK, id=identity)], tmp_path / "catalog.parquet")
    assert not list(tmp_path.iterdir())


def test_two_works_with_one_id_are_an_error(tmp_path):
    with pytest.raises(AtelierError, match="names two works"):
        write_catalog([WORK, dataclasses.replace(WORK, title="Another")], tmp_path / "catalog.parquet")


def test_ids_that_differ_in_capitals_alone_are_an_error_that_names_both(tmp_path):
    two = [dataclasses.replace(WORK, id=identity, title=identity) for identity in ("Sea-1", "sea-1")]
    with pytest.raises(AtelierError, match="Sea-1, but for its capitals sea-1, names two works: 'Sea-1' and 'sea-1'"):
        write_catalog(two, tmp_path / "catalog.parquet")
    assert not list(tmp_path.iterdir())


def test_a_missing_damaged_or_foreign_file_says_what_to_do(tmp_path):
    path = tmp_path / "catalog.parquet"
    with pytest.raises(AtelierError, match="is missing: `dvc repro` makes it"):
        read_catalog(path)
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(AtelierError, match="is no parquet file"):
        read_catalog(path)
    catalog_frame([WORK]).drop(columns="rights").to_parquet(path)
    with pytest.raises(AtelierError, match="has other columns"):
        read_catalog(path)


def test_download_records_are_read_back_and_their_order_does_not_change_the_bytes(tmp_path: Path) -> None:
    entries = [
        DownloadRecord(id="b", status="missing", reason="HTTP 404"),
        DownloadRecord(id="a", status="ok", sha256="0" * 64, phash="f" * 16, width=96, height=64, bytes=1234),
    ]
    write_downloads(entries, tmp_path / "one.parquet")
    write_downloads(entries[::-1], tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert read_downloads(tmp_path / "one.parquet") == entries[::-1]


@pytest.mark.parametrize("id", ["../sea", "a\0b", "", "a/b", "a" * 65, "sea\n"])
def test_a_download_record_with_an_id_unfit_for_a_file_name_is_an_error(tmp_path: Path, id: str) -> None:
    with pytest.raises(AtelierError, match="is no id"):
        write_downloads([DownloadRecord(id=id, status="missing")], tmp_path / "account.parquet")
    assert list(tmp_path.iterdir()) == []


def test_download_records_whose_ids_differ_in_case_alone_are_kept_apart(tmp_path: Path) -> None:
    entries = [DownloadRecord(id="SEA", status="missing"), DownloadRecord(id="sea", status="missing")]
    write_downloads(entries, tmp_path / "account.parquet")
    assert read_downloads(tmp_path / "account.parquet") == entries


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
def test_a_plain_year_is_read_as_itself_and_as_negative_before_christ(year):
    assert parse_year(str(year)) == year
    assert parse_year(f"{year} BC") == -year


@given(st.integers(1000, 2000), st.integers(0, 100))
def test_a_range_of_years_is_read_as_its_last_year(year, length):
    assert parse_year(f"{year}-{year + length}") == year + length


@given(st.text() | st.text(alphabet="0123456789-–/ .cXIVBCents?"))
def test_any_text_gives_a_storable_year_or_none(text):
    year = parse_year(text)
    assert year is None or EARLIEST_YEAR <= year <= LATEST_YEAR

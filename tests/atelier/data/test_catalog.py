"""The catalog file: what it keeps, what it refuses, and its bytes."""

import dataclasses
import random

import pyarrow.parquet as pq
import pytest

from atelier.data.catalog import CATALOG_SCHEMA, Work, catalog_frame, read_catalog, write_catalog
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
def test_an_id_that_is_unfit_for_a_file_name_is_refused(tmp_path, identity):
    with pytest.raises(AtelierError, match="ids are 1 to 64 of"):
        write_catalog([dataclasses.replace(WORK, id=identity)], tmp_path / "catalog.parquet")
    assert not list(tmp_path.iterdir())


def test_an_id_that_names_two_works_is_refused(tmp_path):
    with pytest.raises(AtelierError, match="names two works"):
        write_catalog([WORK, dataclasses.replace(WORK, title="Another")], tmp_path / "catalog.parquet")


def test_ids_that_differ_only_in_their_capitals_are_refused_by_name(tmp_path):
    two = [dataclasses.replace(WORK, id=identity, title=identity) for identity in ("Sea-1", "sea-1")]
    with pytest.raises(
        AtelierError, match="Sea-1, but for its capitals sea-1, names two works: 'Sea-1' and 'sea-1'"
    ):
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

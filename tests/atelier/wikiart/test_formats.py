"""Parsing the JSON of lists, real and hostile, as works."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.data.catalog import Work, read_catalog, write_catalog
from atelier.wikiart.formats import FOREIGN, MALFORMED, UnexpectedContent, parse_list_page

BASE = "https://www.wikiart.org"
GOOD = {
    "id": "577271cfedc2cb3880c2de61", "title": "Winter in Kursk", "year": "1916", "width": 634, "height": 750,
    "artistName": "Aleksandr Deyneka",
    "image": "https://uploads8.wikiart.org/images/aleksandr-deyneka/winter-in-kursk-1916.jpg",
    "map": "0123**67*", "paintingUrl": "/en/aleksandr-deyneka/winter-in-kursk-1916",
    "artistUrl": "/en/aleksandr-deyneka", "albums": None, "flags": 2, "images": None,
}  # fmt: skip


def read(**changes) -> Work | str:
    content = json.dumps({"Paintings": [{**GOOD, **changes}], "AllPaintingsCount": 1}).encode()
    return parse_list_page(content, BASE).records[0]


def test_a_record_becomes_a_work():
    assert read() == Work(
        id="577271cfedc2cb3880c2de61", title="Winter in Kursk", artist="Aleksandr Deyneka",
        artist_slug="aleksandr-deyneka", year_text="1916", year=1916, genre="", style="", width=634, height=750,
        image_url="https://uploads8.wikiart.org/images/aleksandr-deyneka/winter-in-kursk-1916.jpg",
        page_url="https://www.wikiart.org/en/aleksandr-deyneka/winter-in-kursk-1916", rights="unknown",
        source="wikiart",
    )  # fmt: skip


def test_all_real_records_are_works(wikiart_samples, tmp_path):
    records = json.loads((wikiart_samples / "list_records_socialist-realism.json").read_text(encoding="utf-8"))
    page = parse_list_page(json.dumps({"Paintings": records, "AllPaintingsCount": 512}).encode(), BASE)
    works = [work for work in page.records if isinstance(work, Work)]
    assert page.claimed == len(works) == len(records) == 512
    assert not any("&" in work.title and ";" in work.title for work in works)
    assert all(work.year and 1850 < work.year < 2026 and work.artist_slug for work in works)
    assert Counter(work.year for work in works if work.year_text == "XX cent.") == {1950: 44}
    write_catalog(works, tmp_path / "catalog.parquet")
    assert read_catalog(tmp_path / "catalog.parquet") == sorted(works, key=lambda work: work.id)


def test_all_real_image_urls_are_allowed(wikiart_samples):
    urls = (wikiart_samples / "image_urls_self-portrait.txt").read_text(encoding="utf-8").split()
    works = [read(image=url) for url in urls]
    assert len(works) == 2148
    assert all(isinstance(work, Work) and work.image_url.isascii() for work in works)


def test_html_entities_in_titles_are_decoded():
    work = read(title="Th&#233;o&#39;s &quot;sea&quot; &amp; sky", artistName="Andr&#233; &amp; Co")
    assert isinstance(work, Work)
    assert (work.title, work.artist) == ('Théo\'s "sea" & sky', "André & Co")


def test_control_characters_and_lone_surrogates_are_removed():
    work = read(title="a\x00b\n\x1b[31mc \ud800 d")
    assert isinstance(work, Work)
    assert work.title == "a b [31mc ? d"
    assert isinstance(read(title="x" * 100_000), Work)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"id": 577271},
        {"id": "../../../../etc/passwd"},
        {"id": "577271CFEDC2CB3880C2DE61"},
        {"id": "577271cfedc2cb3880c2de61\n"},
        {"title": {"en": "Winter"}},
        {"artistName": ["a"]},
        {"year": [1916]},
        {"year": True},
        {"image": None},
        {"image": ""},
        {"image": 7},
    ],
)
def test_a_malformed_record_becomes_its_reason(changes):
    assert read(**changes) == MALFORMED


@pytest.mark.parametrize("record", [None, 7, "text", [], [GOOD], True])
def test_a_record_of_another_type_is_malformed(record):
    content = json.dumps({"Paintings": [record, GOOD]}).encode()
    first, second = parse_list_page(content, BASE).records
    assert first == MALFORMED and isinstance(second, Work)


@pytest.mark.parametrize(
    "image",
    [
        "https://elsewhere.example/a.jpg",
        "https://wikiart.org.elsewhere.example/a.jpg",
        "https://wikiart.org@elsewhere.example/a.jpg",
        "https://notwikiart.org/a.jpg",
        "https://uploads1.wikiart.org:8080/a.jpg",
        "file:///etc/passwd",
        "ftp://uploads1.wikiart.org/a.jpg",
        "//elsewhere.example/a.jpg",
        "http://127.0.0.1/a.jpg",
        "http://[::1/a.jpg",
        "javascript:alert(1)",
        "https://uploads1.wikiart.org/" + "a" * 5000,
    ],
)
def test_an_image_on_a_foreign_host_is_refused(image):
    assert read(image=image) == FOREIGN


def test_non_ascii_image_urls_are_percent_encoded_once():
    for image in ("https://uploads1.wikiart.org/images/a/mer bleu\u00e9(1).jpg",
                  "https://uploads1.wikiart.org/images/a/mer%20bleu%C3%A9(1).jpg"):  # fmt: skip
        work = read(image=image)
        assert isinstance(work, Work)
        assert work.image_url == "https://uploads1.wikiart.org/images/a/mer%20bleu%C3%A9(1).jpg"


@pytest.mark.parametrize("side", [0, -1, "634", 6.5, True, None, 10**30])
def test_an_impossible_size_is_unknown(side):
    work = read(width=side)
    assert isinstance(work, Work) and work.width is None and work.height == 750


@pytest.mark.parametrize("address", [None, 7, "", "/en/..", "/en/a/b", "//evil", "http://[", "/en/ "])
def test_an_unusual_artist_url_leaves_the_slug_empty(address):
    work = read(artistUrl=address)
    assert isinstance(work, Work) and work.artist_slug == ""


def test_a_list_ends_in_null_or_nothing():
    for end in (b"null", b"[]"):
        page = parse_list_page(b'{"Paintings": ' + end + b', "AllPaintingsCount": "many"}', BASE)
        assert (page.claimed, list(page.records)) == (None, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"<!DOCTYPE html><html>", "it begins with '<!DOCTYPE"),
        (b'{"Paintings": [{"title": "\xff\xfe"}]}', "not UTF-8 at byte"),
        (b'{"Paintings": ' + b"[" * 200_000, "nested too deep"),
        (b'{"Paintings": ' + b'{"a":' * 200_000, "nested too deep"),
        (b'{"Paintings": [], "AllPaintingsCount": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"Paintings": NaN}', "NaN is no JSON"),
        (b"[]", "a list, not an object"),
        (b'"Paintings"', "a str, not an object"),
        (b"{}", "without Paintings"),
        (b'{"Paintings": {"0": {}}}', "neither a list nor null"),
        (b'{"Paintings": "all"}', "neither a list nor null"),
    ],
)
def test_content_that_is_no_list_page_raises_unexpected_content(content, words):
    with pytest.raises(UnexpectedContent, match=words):
        parse_list_page(content, BASE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, max_size=4))
def test_every_record_becomes_a_storable_work_or_a_reason(changes):
    record = read(**changes)
    if isinstance(record, Work):
        for text in (record.title, record.artist, record.artist_slug, record.image_url, record.page_url):
            text.encode()
    else:
        assert record in (MALFORMED, FOREIGN)

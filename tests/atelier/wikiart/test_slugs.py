"""Genres and styles: the shipped table and the site's index."""

import json
import time

import pytest

from atelier.errors import AtelierError
from atelier.web.client import PoliteClient
from atelier.web.response import FetchError
from atelier.wikiart.pages import Slug, fetch_slugs, parse_index, parse_mark, read_slugs, unknown_slug
from tests.lookalike import lookalike

INDEX = """<html><ul class="dictionaries-list">
<li class="dottedItem">
<a target="_self" href="/en/paintings-by-genre/marina?select=featured">marina <sup>3600</sup></a></li>
<li class="dottedItem"><a href="/en/paintings-by-genre/artist-s-book">Artist&#39;s   book <sup>1,277</sup></a></li>
<li class="dottedItem"><a href="/en/paintings-by-genre/uncounted">Uncounted</a></li>
<li><a href="/en/paintings-by-style/cubism">another kind <sup>1</sup></a></li>
<li><a href="/en/paintings-by-genre/../../etc">bad <sup>1</sup></a></li>
<li><a href="http://[">worse</a></li>
</ul><a href="/en/paintings-by-genre/elsewhere-on-the-page">no entry</a></html>"""


def client_of(site):
    return PoliteClient(site.base_url, contact="", rate_per_s=None, retries=0, timeout_s=5)


@pytest.mark.parametrize(("kind", "count", "known"), [("genre", 68, "landscape"), ("style", 224, "realism")])
def test_the_shipped_table_is_sorted_and_complete(kind, count, known):
    slugs = [entry.slug for entry in read_slugs(kind)]
    assert slugs == sorted(set(slugs)) and len(slugs) == count and known in slugs


def test_the_shipped_table_equals_the_crawled_index(wikiart_samples):
    for kind, file, column in (
        ("genre", "genres.json", "urls_retrieved_by_json2_crawl"),
        ("style", "styles.json", "count_2020_11"),
    ):
        crawled = json.loads((wikiart_samples / file).read_text(encoding="utf-8"))
        assert {(entry.slug, entry.count) for entry in read_slugs(kind)} == {
            (row["slug"], row[column]) for row in crawled
        }


def test_the_real_index_of_styles_is_read_completely(wikiart_samples):
    entries = parse_index((wikiart_samples / "styles_index.html").read_bytes(), "style")
    assert len(entries) == 197
    assert Slug("impressionism", "Impressionism", 16212) in entries
    assert any(entry.slug == "na-ve-art-primitivism" for entry in entries)
    assert all(entry.count for entry in entries)


def test_the_live_index_is_fetched_and_parsed():
    with lookalike({}, index_html=INDEX) as site, client_of(site) as client:
        assert fetch_slugs("genre", client) == [
            Slug("artist-s-book", "Artist's book", 1277),
            Slug("marina", "marina", 3600),
            Slug("uncounted", "Uncounted", None),
        ]
        assert site.requests[0].path == "/en/paintings-by-genre"
        assert read_slugs("genre", live=True, base_url=site.base_url) == fetch_slugs("genre", client)


def test_the_live_table_of_wikiart_needs_a_contact():
    with pytest.raises(AtelierError, match=r"scrape\.wikiart\.contact"):
        read_slugs("genre", live=True)


def test_an_index_without_entries_is_an_error():
    layout = "<html>new layout</html>"
    with (
        lookalike({}, index_html=layout) as site,
        client_of(site) as client,
        pytest.raises(AtelierError, match="the page has changed"),
    ):
        fetch_slugs("style", client)


def test_a_missing_index_is_an_error():
    with lookalike({}) as site, client_of(site) as client, pytest.raises(FetchError, match="404"):
        fetch_slugs("style", client)


def test_an_unknown_slug_gets_close_matches():
    assert unknown_slug("genre", "landscape") is None
    assert "landscape" in str(unknown_slug("genre", "landscap"))
    assert "art-nouveau-modern" in str(unknown_slug("style", "art-nouveau"))
    assert "`atelier styles` lists them" in str(unknown_slug("style", "zzzzzz"))


@pytest.mark.parametrize("piece", ["<!--", "<![CDATA[", "<?x", "<a ", "</a", "<a x='", "<!x", "<ul><li>"])
def test_a_hostile_page_is_parsed_in_time(piece):
    page = (piece * (200_000 // len(piece))).encode()
    began_s = time.process_time()
    assert parse_index(page, "genre") == [] and parse_mark(page) == "unknown"
    assert time.process_time() - began_s < 4  # html.parser alone takes minutes


def test_links_in_comments_are_no_entries():
    page = INDEX.replace("<li>", "<!-- <li class='dottedItem'><a href='/en/paintings-by-genre/gone'>x</a> --><li>")
    assert parse_index(page.encode(), "genre") == parse_index(INDEX.encode(), "genre")

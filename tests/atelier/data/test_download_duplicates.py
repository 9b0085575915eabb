"""What a download says once every work has its lot: stand-ins, identical bytes, look-alikes."""

from dataclasses import replace

from atelier.data.catalog import DownloadRecord, Work
from atelier.data.duplicates import mark_duplicates

WORK = Work(
    id="", title="The Sea", artist="", artist_slug="", year_text="", year=None, genre="", style="", width=None,
    height=None, image_url="", page_url="", rights="unknown", source="wikiart",
)  # fmt: skip


def works(**artists: str) -> list[Work]:
    """Works by id, and who painted each."""
    return [replace(WORK, id=id, artist_slug=artist) for id, artist in artists.items()]


def came(id: str, content: str, phash: str = "") -> DownloadRecord:
    phash = phash or f"{hash_of(content):016x}"
    return DownloadRecord(id=id, status="ok", sha256=content, phash=phash, width=400, height=300, bytes=9)


def hash_of(content: str) -> int:
    return int.from_bytes(content.encode().ljust(8, b"\x55")[:8])


def test_the_same_bytes_under_three_artists_works_show_none_of_them() -> None:
    entries = [came(id, "frame") for id in "dcba"] + [came("e", "painting")]
    result = mark_duplicates(entries, works(a="monet", b="monet", c="turner", d="cezanne", e="monet"))
    assert [entry.id for entry in result] == list("abcde")
    assert [entry.status for entry in result] == ["placeholder"] * 4 + ["ok"]
    assert "4 works of 3 artists" in result[2].reason
    assert result[0] == DownloadRecord(id="a", status="placeholder", reason=result[0].reason)


def test_the_same_bytes_under_fewer_artists_are_one_painting_and_its_duplicates() -> None:
    entries = [came(id, "sea") for id in "cba"]
    for artists in ({"a": "monet", "b": "monet", "c": "turner"}, {"a": "", "b": "monet", "c": "turner"}):
        result = mark_duplicates(entries, works(**artists))
        assert [(entry.status, entry.reason) for entry in result] == [
            ("ok", ""), ("duplicate", "the same bytes as a"), ("duplicate", "the same bytes as a"),
        ]  # fmt: skip


def test_a_look_alike_stays_ok_and_names_the_other() -> None:
    entries = [came("a", "one", "0" * 16), came("b", "two", "0" * 15 + "3"), came("c", "two", "0" * 15 + "3")]
    result = mark_duplicates(entries, works(a="monet", b="monet", c="monet"))
    assert [(entry.status, entry.reason) for entry in result] == [
        ("ok", ""), ("ok", "looks like a, 2 bits apart"), ("duplicate", "the same bytes as b"),
    ]  # fmt: skip


def test_what_never_came_keeps_its_reason() -> None:
    lacking = DownloadRecord(id="a", status="missing", reason="HTTP 404")
    assert mark_duplicates([lacking], works(a="monet")) == [lacking]
    assert mark_duplicates([], []) == []


def test_a_look_alike_keeps_the_note_on_its_colours() -> None:
    large = replace(came("a", "sea"), width=800, height=600)
    small = replace(came("b", "seb"), phash=large.phash, reason="the first of 2 pages")
    (_, settled_small) = mark_duplicates([large, small], works(a="monet", b="monet"))
    assert settled_small.reason == "looks like a, 0 bits apart; the first of 2 pages"

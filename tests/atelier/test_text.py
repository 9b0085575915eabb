"""Cleaning of untrusted texts."""

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from atelier.text import MAX_CHARS, clean, escape_csv_cell, printable, slug, unescape_csv_cell


def test_entities_are_resolved_once():
    assert clean("caf&#233; &amp;amp; sea") == "café &amp; sea"


@given(st.text(st.characters(), max_size=50))
def test_any_text_becomes_one_storable_line(text):
    cleaned = clean(text)
    cleaned.encode()
    assert len(cleaned) <= MAX_CHARS and cleaned == " ".join(cleaned.split()) and "\x00" not in cleaned


@given(st.text())
def test_any_text_gives_a_slug(text):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(text)) and len(slug(text)) <= 80


def test_slugs_keep_what_ascii_has():
    assert slug("Inês Salgueirinha") == "ines-salgueirinha"
    assert slug("Day's End — at Sea!") == "day-s-end-at-sea"
    assert slug("Søren Kierkegård") == "soren-kierkegard" and slug("Łódź, straße") == "lodz-strasse"
    assert slug("?!") == slug("") == "untitled"


def test_names_without_ascii_letters_get_different_slugs():
    names = [
        "葛飾北斎",
        "東洲斎写楽",
        "Илья Репин",
        "Иван Шишкин",
        "И. X",
        "Ф. X",
        "محمود سعيد",
        "𝒳 海",
        "a" * 90,
        "a" * 91,
    ]
    assert len({slug(name) for name in names}) == len(names)
    for name in names:
        assert slug(name) == slug(unicodedata.normalize("NFD", name))
    assert slug("Dvořák") == slug(unicodedata.normalize("NFD", "Dvořák")) == "dvorak"


@given(st.text(max_size=20))
def test_both_of_unicodes_normal_forms_become_the_same_text(text):
    assert clean(unicodedata.normalize("NFD", text)) == clean(unicodedata.normalize("NFC", text))


@given(st.text(st.sampled_from("=+-@\t\r' a1"), max_size=6))
def test_an_escaped_cell_is_no_formula_and_can_be_unescaped(text):
    assert not escape_csv_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unescape_csv_cell(escape_csv_cell(text)) == text.replace("\r", " ") or text.startswith("'")


def test_untrusted_text_is_printed_on_one_line() -> None:
    assert printable("a\n\x1b[2J \u202e b") == r"a [2J \u202e b"

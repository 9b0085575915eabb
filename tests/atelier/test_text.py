"""Texts from strangers."""

import re

from hypothesis import given
from hypothesis import strategies as st

from atelier.text import LONGEST, clean, slug


def test_entities_are_resolved_once():
    assert clean("caf&#233; &amp;amp; sea") == "café &amp; sea"


@given(st.text(st.characters(), max_size=50))
def test_any_text_becomes_one_storable_line(text):
    cleaned = clean(text)
    cleaned.encode()
    assert len(cleaned) <= LONGEST and cleaned == " ".join(cleaned.split()) and "\x00" not in cleaned


@given(st.text())
def test_any_text_gives_a_slug(text):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(text)) and len(slug(text)) <= 80


def test_slugs_keep_what_ascii_has():
    assert slug("Inês Salgueirinha") == "ines-salgueirinha"
    assert slug("Day's End — at Sea!") == "day-s-end-at-sea"
    assert slug("海") == "untitled"

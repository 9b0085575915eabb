"""Cleaning of untrusted texts, and opening of files that anybody may have made."""

import os
import re
import socket
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.errors import AtelierError
from atelier.text import MAX_CHARS, clean, escape_csv_cell, escaped, open_regular, printable, slug, unescape_csv_cell

HINT = "name a picture"


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


def test_a_plain_file_is_opened_through_a_link_too(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link", HINT) as file:
        assert file.read() == b"content"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    os.chdir(path.parent)  # a socket's address is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (Path.mkdir, "a folder"),
        (pipe, "a pipe"),
        (listening, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (loop, "leads back to itself"),
        (lambda path: path.symlink_to("nowhere"), "is missing"),
        (lambda path: None, "is missing"),
    ],
)
def test_pipes_sockets_devices_and_folders_are_refused_by_name_without_waiting(
    make, word, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "it")
    with pytest.raises(AtelierError, match=f"it .*{word}.*: {HINT}|it is {word}: {HINT}"):
        open_regular(tmp_path / "it", HINT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_reported_in_a_sentence(tmp_path) -> None:
    (tmp_path / "it").touch(0o000)
    with pytest.raises(AtelierError, match="may not be read"):
        open_regular(tmp_path / "it", HINT)


@pytest.mark.parametrize("name", ["a\0b", "n" * 5000, "a/" * 3000])
def test_an_impossible_name_is_reported_in_a_sentence(name) -> None:
    with pytest.raises(AtelierError, match="cannot be opened"):
        open_regular(Path(name), HINT)


def test_names_are_shown_on_one_line_and_without_escape_codes() -> None:
    assert escaped(Path("Œuvre 7.png")) == "Œuvre 7.png"
    assert escaped("a\nb\x1b[31m\u202e\udcff\u2028") == r"a\nb\x1b[31m\u202e\udcff\u2028"

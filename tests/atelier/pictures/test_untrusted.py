import os
import socket
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from atelier.pictures.untrusted import open_regular
from atelier.text import escaped

HINT = "name a picture"


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

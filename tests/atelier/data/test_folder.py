"""A folder of the user's own pictures as a source."""

import os
import shutil
import unicodedata

import pytest

from atelier.data.catalog import write_catalog
from atelier.data.folder import (
    ABSENT,
    BROKEN,
    COPY,
    IRREGULAR,
    NAMELESS,
    OUTSIDE,
    TWICE,
    UNLISTED,
    UNREADABLE,
    read_folder,
)
from atelier.errors import AtelierError
from atelier.files import digest
from tests.pictures import jpeg

SEAS = [jpeg((20, 60, blue)) for blue in range(100, 110)]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    for name, content in {
        "calm_sea.jpg": SEAS[0],
        "storms/rising-gale.JPEG": SEAS[1],
        "storms/night/squall.png": SEAS[2],
        "storms/.hidden.jpg": SEAS[3],
        ".cache/thumbnail.jpg": SEAS[4],
        "notes.txt": b"not an image",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def table(folder, text, encoding="utf-8"):
    path = folder.parent / "catalog.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_images_below_the_folder_are_works_and_subfolders_are_genres(folder):
    found = read_folder(folder)
    assert [(work.image_url, work.title, work.genre) for work in found.works] == [
        ("calm_sea.jpg", "calm sea", ""),
        ("storms/night/squall.png", "squall", "storms/night"),
        ("storms/rising-gale.JPEG", "rising gale", "storms"),
    ]
    assert found.listed == 3 and not found.skipped
    assert {(work.source, work.rights, work.artist_slug) for work in found.works} == {("folder", "unknown", "")}


def test_a_moved_file_stays_the_same_work_and_a_changed_one_does_not(folder):
    before = {work.title: work.id for work in read_folder(folder).works}
    (folder / "calm_sea.jpg").rename(folder / "storms" / "calm_sea.jpg")
    (folder / "storms" / "rising-gale.JPEG").write_bytes(SEAS[9])
    after = {work.title: work.id for work in read_folder(folder).works}
    assert after["calm sea"] == before["calm sea"] and after["squall"] == before["squall"]
    assert after["rising gale"] != before["rising gale"]


def test_copies_are_one_work_under_the_first_name(folder):
    shutil.copy(folder / "calm_sea.jpg", folder / "a_copy.jpg")
    found = read_folder(folder)
    assert found.works[0].image_url == "a_copy.jpg"
    assert found.skipped == {COPY: 1} and found.listed == 4


def test_links_out_of_the_folder_are_not_followed(folder, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "photo.jpg").write_bytes(SEAS[8])
    (folder / "link.jpg").symlink_to(tmp_path / "secret" / "photo.jpg")
    (folder / "linked").symlink_to(tmp_path / "secret")
    (folder / "upwards").symlink_to("..")
    (folder / "inwards").symlink_to("storms")
    (folder / "loop").symlink_to("loop")
    found = read_folder(folder)
    assert len(found.works) == 3 and found.skipped == {OUTSIDE: 3}


def test_a_link_within_the_folder_is_a_copy(folder):
    (folder / "zz.jpg").symlink_to("calm_sea.jpg")
    assert read_folder(folder).skipped == {COPY: 1}


def test_broken_links_are_counted(folder):
    (folder / "gone.jpg").symlink_to(folder / "nothing.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "to.jpg").symlink_to("fro.jpg")
    (folder / "fro.jpg").symlink_to("to.jpg")
    (folder / "round").symlink_to("round")
    found = read_folder(folder)
    assert len(found.works) == 3 and found.skipped == {BROKEN: 4}
    assert [note for note in found.notes if "fro.jpg, gone.jpg, loop.jpg, to.jpg" in note]


def test_a_file_that_cannot_be_read_is_counted_and_the_others_are_read(folder, monkeypatch):
    refused = {
        folder / "calm_sea.jpg": PermissionError(13, "Permission denied"),
        folder / "storms" / "rising-gale.JPEG": OSError(5, "I/O"),
    }
    if os.geteuid():
        (folder / "calm_sea.jpg").chmod(0)
    os.mkfifo(folder / "pipe.png")

    def read(path):
        if path in refused:
            raise refused[path]
        return digest(path)

    monkeypatch.setattr("atelier.data.folder.digest", read)
    found = read_folder(folder)
    assert [work.title for work in found.works] == ["squall"]
    assert found.skipped == {UNREADABLE: 2, IRREGULAR: 1}
    assert any("calm_sea.jpg, storms/rising-gale.JPEG; `chmod" in note for note in found.notes)
    (folder / "list.csv").write_text("file\ncalm_sea.jpg\nstorms/night/squall.png\npipe.png\n")
    found = read_folder(folder, folder / "list.csv")
    assert len(found.works) == 1 and found.skipped == {UNREADABLE: 1, IRREGULAR: 1, UNLISTED: 1}


def test_a_subfolder_that_cannot_be_listed_is_counted(folder, monkeypatch):
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("night"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = read_folder(folder)
    assert len(found.works) == 2 and found.skipped == {UNREADABLE: 1}
    assert any("storms/night/" in note for note in found.notes)


def test_pictures_of_unsupported_kinds_are_counted_by_kind_with_what_to_do(folder):
    for name in ("a.psd", "b.PSD", "raw/c.CR2", "raw/d.nef", "e.dng", "f.jxl", "g.svg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(SEAS[6])
    found = read_folder(folder)
    kinds = {".psd": 2, ".cr2": 1, ".nef": 1, ".dng": 1, ".jxl": 1, ".svg": 1}
    assert found.skipped == {f"{kind} (not read here)": count for kind, count in kinds.items()}
    assert found.listed == 3 + 7
    assert any("a.psd, b.PSD; save them as JPEG, PNG or TIFF" in note for note in found.notes)


def test_pictures_that_need_a_package_are_counted_with_what_to_install(folder, monkeypatch):
    monkeypatch.setattr("atelier.data.folder.missing_decoder", lambda kind: "install it" if kind == "HEIF" else "")
    for name in ("a.heic", "b.HEIF", "c.avif"):
        (folder / name).write_bytes(name.encode())
    found = read_folder(folder)
    assert len(found.works) == 4
    assert found.skipped == {".heic (not read here)": 1, ".heif (not read here)": 1}
    assert any("a.heic; install it" in note for note in found.notes)


def test_other_files_are_counted_by_suffix(folder):
    (folder / "thesis").write_bytes(b"")
    [note] = read_folder(folder).notes
    words = "1 .txt, 1 hidden files, 1 hidden folders, 1 without a suffix"
    assert note == f"passed over, since the names promise no picture: {words}"
    (folder / "catalog.csv").write_text("file\ncalm_sea.jpg\n")
    assert ".csv" not in "".join(read_folder(folder, folder / "catalog.csv").notes)


def test_a_studio_inside_the_folder_is_not_read(folder):
    (folder / "studio" / "data" / "artworks").mkdir(parents=True)
    (folder / "studio" / "data" / "artworks" / "1-00000.png").write_bytes(SEAS[9])
    found = read_folder(folder, studio=folder / "studio")
    assert len(found.works) == 3 and not found.skipped
    assert "1 folder of this studio" in found.notes[0]


@pytest.mark.parametrize(("on_disk", "in_csv"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFKD", "NFC")])
def test_a_csv_may_name_files_in_either_of_unicodes_normal_forms(folder, on_disk, in_csv):
    names = ["étude.jpg", "Müller/Dvořák.jpg", "Ōkubo.JPG", "plain.jpg", "각.png"]
    for number, name in enumerate(names):
        path = folder / unicodedata.normalize(on_disk, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(SEAS[number] + b"!")
    rows = "".join(f"{unicodedata.normalize(in_csv, name)},\n" for name in names)
    found = read_folder(folder, table(folder, f"file,title\n{rows}"))
    assert len(found.works) == 5 and found.skipped == {UNLISTED: 3}
    assert {work.title for work in found.works} == {"étude", "Dvořák", "Ōkubo", "plain", "각"}
    assert {work.genre for work in read_folder(folder).works} == {"", "Müller", "storms", "storms/night"}


def test_a_csv_may_name_files_in_other_capitals_unless_two_files_differ_in_them_alone(folder):
    (folder / "IMG_5.JPG").write_bytes(SEAS[5])
    (folder / "Étude.Jpeg").write_bytes(SEAS[6])
    (folder / "two.jpg").write_bytes(SEAS[7])
    (folder / "TWO.jpg").write_bytes(SEAS[8])
    text = "file\nimg_5.jpg\nE\u0301TUDE.jpeg\ntwo.jpg\nTwo.JPG\nIMG_5.JPG\n"
    found = read_folder(folder, table(folder, text))
    assert len([*folder.glob("[tT]*.jpg")]) == 2, "this disk does not tell capitals apart"
    assert sorted(work.image_url for work in found.works) == ["IMG_5.JPG", "two.jpg", "Étude.Jpeg"]
    assert found.skipped == {ABSENT: 1, TWICE: 1, UNLISTED: 4}


def test_rows_without_an_image_are_named(folder):
    names = "".join(f"lost_{number}.jpg\n" for number in range(7))
    [absent] = [
        note for note in read_folder(folder, table(folder, f"file\n{names}\u202eevil.jpg\n")).notes if ABSENT in note
    ]
    assert "lost_0.jpg, lost_1.jpg, lost_2.jpg, lost_3.jpg, lost_4.jpg and 3 more; " in absent
    assert "\u202e" not in absent


def test_a_file_name_that_is_not_utf_8_is_counted(folder):
    try:
        (folder / "caf\udce9.jpg").write_bytes(SEAS[7])
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert read_folder(folder).skipped == {NAMELESS: 1}


def test_the_csv_gives_title_artist_year_genre_and_style(folder):
    catalog = table(
        folder,
        "﻿File, title,artist,year,style,genre,owner\n"
        'storms/rising-gale.JPEG,"Gale, rising",Inês  Salgueirinha,XIX cent.,Realism,marina,me\n'
        "\n"
        "calm_sea.jpg\n",
    )
    found = read_folder(folder, catalog)
    calm, gale = found.works
    assert (gale.title, gale.artist, gale.artist_slug) == (
        "Gale, rising",
        "Inês Salgueirinha",
        "ines-salgueirinha",
    )
    assert (gale.year_text, gale.year, gale.genre, gale.style) == ("XIX cent.", 1850, "marina", "Realism")
    assert (calm.title, calm.artist, calm.year) == ("calm sea", "", None)
    assert found.skipped == {UNLISTED: 1}


def test_rows_without_an_image_are_counted(folder):
    catalog = table(
        folder,
        "file\ncalm_sea.jpg\n./calm_sea.jpg\nmissing.jpg\nnotes.txt\n.\n../catalog.csv\n/etc/passwd\n"
        "storms\\rising-gale.JPEG\nstorms/../../secret.jpg\n",
    )
    found = read_folder(folder, catalog)
    assert [work.image_url for work in found.works] == ["calm_sea.jpg", "storms/rising-gale.JPEG"]
    assert found.skipped == {ABSENT: 3, TWICE: 1, OUTSIDE: 3, UNLISTED: 1}
    assert found.listed == len(found.works) + sum(found.skipped.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"catalog\.csv:1: no column named file"),
        ("title,artist\nSea,Anna\n", r"catalog\.csv:1: no column named file"),
        ("file;title\ncalm_sea.jpg;Sea\n", "separated by semicolons"),
        ("file,title\ncalm_sea.jpg,Sea\n,Storm\n", r"catalog\.csv:3: file is empty"),
        ("file,title\ncalm_sea.jpg,Gale, rising\n", r"catalog\.csv:2: 3 cells under 2 columns"),
        ('file,title\ncalm_sea.jpg,"Gale" rising\n', r"catalog\.csv:2: not valid CSV"),
        ('file,title\ncalm_sea.jpg,"Gale\n', r"catalog\.csv:2: not valid CSV"),
        ("file\n" + "a" * 200_000, r"catalog\.csv:2: not valid CSV: field larger"),
    ],
)
def test_a_csv_with_a_mistake_is_an_error_that_names_the_line(folder, text, words):
    with pytest.raises(AtelierError, match=words):
        read_folder(folder, table(folder, text))


def test_a_csv_in_another_encoding_is_an_error(folder):
    with pytest.raises(AtelierError, match="not UTF-8 at byte"):
        read_folder(folder, table(folder, "file,title\ncalm_sea.jpg,Étretat\n", "latin-1"))


def test_a_missing_folder_or_csv_names_the_key(folder, tmp_path):
    with pytest.raises(AtelierError, match=r"scrape\.folder\.path holds .*no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(AtelierError, match=r"scrape\.folder\.path holds .*no such folder"):
        read_folder(folder / "notes.txt")
    with pytest.raises(AtelierError, match=r"scrape\.folder\.catalog holds .*no such file"):
        read_folder(folder, tmp_path / "nowhere.csv")


def test_the_same_folder_elsewhere_gives_the_same_bytes(folder, tmp_path):
    write_catalog(read_folder(folder).works, tmp_path / "a.parquet")
    shutil.copytree(folder, tmp_path / "far" / "away")
    write_catalog(read_folder(tmp_path / "far" / "away").works, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_real_paintings_are_all_found(paintings):
    found = read_folder(paintings, paintings / "catalog.csv")
    assert len(found.works) == 1374 and not found.skipped
    assert {"Claude Monet", "Vincent van Gogh"} <= {work.artist for work in found.works}
    assert all(work.image_url.startswith("images/") for work in found.works)

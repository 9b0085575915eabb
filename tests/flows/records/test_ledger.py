"""Looking up pictures by their pixels or files, in a studio with a history."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from atelier import paths
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.pictures.compare import pixels_sha256
from atelier.provenance.facts import canonical_json, read_provenance
from flows import cli
from flows.records import ledger
from tests.flows.kept_studio import KeptStudio
from tests.users import unprivileged


@pytest.fixture
def studio(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> KeptStudio:
    """Two models: the first with two artworks and their prints, tagged; the second with one artwork."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    studio = KeptStudio.new(tmp_path / "studio", environment)
    monkeypatch.chdir(studio.root)
    first, second = studio.model(kimg=1.0), studio.model(kimg=2.0)
    artworks = [studio.artwork(first, index) for index in range(2)]
    studio.commit("first", lock=studio.lock(first, artworks, [studio.print_of(art) for art in artworks]))
    studio.git("tag", "atelier@v1.0.0")
    told = f'{{"version": "1.0.0", "generator_sha256": "{first.sha256}", "night": "2026-11-24"}}'
    studio.commit("champion", **{"models/champion.json": told})
    studio.commit("second", lock=studio.lock(second, [studio.artwork(second, 0)], []))
    for number, content in enumerate(artworks):
        (tmp_path / f"artwork-{number}.png").write_bytes(content)
    (tmp_path / "print.png").write_bytes(studio.print_of(artworks[1]))
    return studio


def quiet(text: str) -> None:
    raise AssertionError(text)


def test_models_are_listed_with_the_number_of_their_pictures_and_their_names(studio) -> None:
    with ledger.opened(quiet) as book:
        second, first = book.models()
    assert (second.in_work_tree, second.artworks, second.prints, second.lacking) == (True, 1, 0, 0)
    assert (first.in_work_tree, first.artworks, first.prints) == (False, 2, 2)
    assert first.versions == ("1.0.0",)
    assert [(commit.subject, commit.tags) for commit in first.commits] == [
        ("champion", ()),
        ("first", ("atelier@v1.0.0",)),
    ]


def test_a_picture_without_provenance_is_found_by_its_pixels(studio, tmp_path) -> None:
    for name, folder in (("artwork-1.png", "artworks"), ("print.png", "prints")):
        Image.open(tmp_path / name).save(tmp_path / "saved.bmp")
        sha256 = pixels_sha256(tmp_path / "saved.bmp")
        with ledger.opened(quiet) as book:
            (picture,) = book.of_pixels(sha256)
        assert picture.path == f"data/{folder}/1-00001.png"
        assert picture.provenance == read_provenance(tmp_path / name)
        assert [commit.subject for commit in picture.commits] == ["champion", "first"]


def test_other_pixels_are_unknown(studio) -> None:
    with ledger.opened(quiet) as book:
        assert book.of_pixels("0" * 64) == []


def test_only_new_versions_of_dvc_lock_are_read(studio, monkeypatch) -> None:
    read_locks = []
    real = ledger.history.parse_lock
    monkeypatch.setattr(ledger.history, "parse_lock", lambda text: (read_locks.append(1), real(text))[1])
    with ledger.opened(quiet):
        assert len(read_locks) == 2
    shutil.rmtree(studio.root / ".dvc/cache")
    with ledger.opened(quiet) as book:
        assert len(read_locks) == 2 and [model.artworks for model in book.models()] == [1, 2]
    third = studio.model(kimg=3.0)
    studio.write("dvc.lock", studio.lock(third, [studio.artwork(third, 7)], []))
    with ledger.opened(quiet) as book:
        newest = book.models()[0]
    assert len(read_locks) == 3
    assert (newest.md5, newest.artworks, newest.commits, newest.in_work_tree) == (third.md5, 1, (), True)


def test_a_dvc_lock_without_a_model_adds_no_model(studio) -> None:
    studio.write("dvc.lock", "schema: '2.0'\nstages:\n  scrape:\n    cmd: python -m tasks.scrape\n")
    with ledger.opened(quiet) as book:
        assert len(book.models()) == 2  # those of the commits


def test_missing_folders_are_counted_and_read_once_they_are_back(studio) -> None:
    cache = studio.root / ".dvc/cache"
    cache.rename(studio.root / "elsewhere")
    said: list[str] = []
    with ledger.opened(said.append) as book:
        assert book.lacking() == 4 and [model.lacking for model in book.models()] == [2, 2]
    assert len(said) == 1 and "remote" in said[0]
    with ledger.opened(quiet) as book:  # asked once only
        assert book.lacking() == 4
    (studio.root / "elsewhere").rename(cache)
    with ledger.opened(quiet) as book:
        assert book.lacking() == 0 and [model.artworks for model in book.models()] == [1, 2]


def test_a_file_that_was_replaced_in_the_cache_is_ignored(studio, tmp_path) -> None:
    forged = tmp_path / "artwork-0.png"
    entry = studio.object(_md5(tmp_path / "artwork-1.png"))
    entry.write_bytes(forged.read_bytes())
    with ledger.opened(quiet) as book:
        assert book.of_file(_md5(tmp_path / "artwork-1.png")) == []
        assert len(book.of_file(_md5(forged))) == 1


def test_a_damaged_ledger_and_one_of_another_version_are_built_again(studio) -> None:
    sha256 = pixels_sha256(studio.root.parent / "artwork-0.png")
    for damage in (b"no database at all" * 99, None):
        if damage:
            paths.LEDGER.parent.mkdir(exist_ok=True)
            paths.LEDGER.write_bytes(damage)
        else:
            with sqlite3.connect(paths.LEDGER) as other:
                other.execute("PRAGMA user_version = 99")
        with ledger.opened(quiet) as book:
            assert book.of_pixels(sha256)


@pytest.mark.parametrize("version", [ledger.SCHEMA_VERSION, 99])
def test_a_busy_ledger_is_not_replaced_like_a_damaged_one(studio, monkeypatch, version) -> None:
    with ledger.opened(quiet):
        pass
    monkeypatch.setattr(ledger, "WAIT_S", 0.05)
    studio.write("dvc.lock", studio.lock(studio.model(kimg=4.0), [], []))  # there is something to write
    with closing(sqlite3.connect(paths.LEDGER, isolation_level=None)) as other:
        other.execute(f"PRAGMA user_version = {version}")
        other.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(AtelierError, match=r"ledger\.sqlite: database is locked; another process is"),
            ledger.opened(quiet),
        ):
            pass
        other.execute("INSERT INTO lists VALUES ('kept', 1)")
        other.execute("COMMIT")
        assert other.execute("SELECT count(*) FROM lists WHERE md5 = 'kept'").fetchone() == (1,)
    inode = paths.LEDGER.stat().st_ino
    with ledger.opened(quiet) as book:
        assert len(book.models()) == 3
    assert paths.LEDGER.stat().st_ino == inode


def test_in_a_read_only_studio_new_entries_are_kept_in_memory(studio, environment) -> None:
    with ledger.opened(quiet):
        pass
    studio.write("dvc.lock", studio.lock(studio.model(kimg=4.0), [], []))
    before = digest(paths.LEDGER)
    folders = [paths.LEDGER.parent, studio.root]
    paths.LEDGER.chmod(0o444)
    for folder in folders:
        folder.chmod(0o555)
    try:
        command = [*unprivileged(), sys.executable, "-m", "flows.cli", "ledger"]
        asked = subprocess.run(command, env=environment, capture_output=True, text=True)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert asked.returncode == 0, asked.stderr
    assert "ledger.sqlite cannot be written" in asked.stderr and "Traceback" not in asked.stderr
    assert "the work tree" in asked.stdout and "champion 1.0.0" in " ".join(asked.stdout.split())
    assert digest(paths.LEDGER) == before


def test_nothing_is_downloaded_for_commits_that_only_a_remote_branch_reaches(studio, tmp_path) -> None:
    third = studio.model(kimg=3.0)
    loose = studio.commit_aside("theirs", studio.lock(third, [studio.artwork(third, 0)], []))
    studio.git("update-ref", "refs/remotes/origin/theirs", loose)
    with ledger.opened(quiet):
        pass  # at hand: read
    paths.LEDGER.unlink()
    shutil.rmtree(studio.root / ".dvc/cache")
    asked: list[str] = []
    real = ledger.storage.fetch_objects
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ledger.storage, "fetch_objects", lambda names, *rest: (asked.extend(names), real(names, *rest))[1]
        )
        with ledger.opened(lambda text: None) as book:
            assert book.lacking() == 5  # an empty folder is one to all
    assert len(asked) == 4


def test_provenance_in_the_ledger_is_the_pictures_own(studio, tmp_path) -> None:
    with ledger.opened(quiet) as book:
        (picture,) = book.of_file(_md5(tmp_path / "print.png"))
    assert canonical_json(picture.provenance) == canonical_json(read_provenance(tmp_path / "print.png"))


def test_the_command_tells_which_picture_a_file_is(studio, tmp_path) -> None:
    Image.open(tmp_path / "print.png").save(tmp_path / "a\nb.webp", lossless=True)
    Image.new("RGB", (3, 3)).save(tmp_path / "unknown.png")
    asked = CliRunner().invoke(cli.app, ["ledger", "../artwork-0.png", "../a\nb.webp"])
    assert asked.exit_code == 0, asked.output
    assert "../artwork-0.png: as it was made\n" in asked.output
    assert "data/artworks/1-00000.png: picture 0 of seed 1, truncation 0.7\n" in asked.output
    assert "../a\\nb.webp: its pixels, in a file that another program saved\n" in asked.output
    assert "data/prints/1-00001.png: picture 1 of seed 1, truncation 0.7, as a print ×2\n" in asked.output
    assert "named by champion 1.0.0, atelier@v1.0.0\n" not in asked.output and "atelier@v1.0.0\n" in asked.output
    asked = CliRunner().invoke(cli.app, ["ledger", "../unknown.png", "/dev/zero", "dvc.lock", ".."])
    assert asked.exit_code == 1
    lines = asked.output.splitlines()
    assert len(lines) == 4 and "Traceback" not in asked.output
    for line, words in zip(lines, ("unknown", "a device", "not a picture", "a folder"), strict=True):
        assert words in line


def test_the_command_lists_all_models(studio) -> None:
    asked = CliRunner().invoke(cli.app, ["ledger"])
    assert asked.exit_code == 0
    rows = [line.split() for line in asked.output.splitlines() if "2026" in line or "20" in line]
    assert any(row[-2:] == ["2", "2"] for row in rows) and any(row[-2:] == ["1", "0"] for row in rows)
    assert "champion 1.0.0" in " ".join(asked.output.split()) and "atelier@v1.0.0" in asked.output


def _md5(path: Path) -> str:
    return digest(path, "md5")

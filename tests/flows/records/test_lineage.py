"""The text of `reproduce --explain` in a studio with a history, and what it says about missing facts."""

import csv
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from atelier.provenance.facts import Provenance, read_provenance
from flows.records import lineage
from flows.repaint.picture import OutputFolder
from tests.flows.kept_studio import KeptStudio, work

OLD = {
    "generator_sha256": "c" * 64, "kimg": 40.0, "seed": 1, "imported": {"format": "torch7"},
    "grown_from_px": 64, "start": {"generator_sha256": "f" * 64, "kimg": 7.0},
}  # fmt: skip


class PrintInStudio:
    """A studio, and one of its prints."""

    def __init__(self, studio: KeptStudio, made: Provenance) -> None:
        self.studio, self.made = studio, made

    def explained(self, keep: Callable[[str], Path] | None = None) -> str:
        return lineage.explain(self.made, lambda text: None, self.studio.root, keep)


@pytest.fixture
def example(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> PrintInStudio:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    studio = KeptStudio.new(tmp_path / "studio", environment)
    monkeypatch.chdir(studio.root)
    versions = {"torch": "2.15.0", "atelier": "0.1.0\x1b[2J"}
    model = studio.model(kimg=120.5, seed=3, mirror=True, paintings=4, versions=versions, start=OLD)
    artists = ("Turner", "Aivazovsky", "Turner", "Turner \x1b[31m", "Homer")
    works = [work(number, artist, 1840 + number) for number, artist in enumerate(artists)]
    artwork = studio.artwork(model, 3)
    data = studio.dataset([*works, work(5, "Homer", None, "sketch", title="=cmd()|\u202eSea")])
    studio.commit("my studio", lock=studio.lock(model, [artwork], [studio.print_of(artwork)], data))
    studio.git("tag", "atelier@v1.0.0")
    champion = '{"version": "1.0.0", "generator_sha256": "%s", "night": "2026-11-24"}'
    studio.commit("a night", **{"models/champion.json": champion % model.sha256})
    (tmp_path / "print.png").write_bytes(studio.print_of(artwork))
    return PrintInStudio(studio, read_provenance(tmp_path / "print.png"))


def test_the_text_has_all_facts_of_a_print(example) -> None:
    text = example.explained()
    for words in (
        "picture    picture 3 of seed 1, truncation 0.7",
        "print      ×2 lanczos; pillow 12",
        "24 × 16 px, by Atelier 0.1.0 and torch 2.15.0",
        "model      dcgan of 64 px: ndf 8, ngf 8, nz 4",
        "120.5 kimg, seed 3; by atelier 0.1.0 [2J, torch 2.15.0",
        "lr 0.0002 (dvc.lock of ",
        "named by   champion 1.0.0",
        "tag atelier@v1.0.0",
        "2 commits, the newest ",
        "4 paintings to train on, each mirrored too",
        "paintings  5 trained on, 1 held out",
        "4 artists: Turner 2, Homer 2, Aivazovsky 1, Turner [31m 1",
        "of 1840 to 1844, 1 undated",
        "2 genres: marina 5, sketch 1",
        "parents    SHA-256 cccccccccccc…: 40 kimg, seed 1, imported: format: torch7, grown from 64 px",
        "SHA-256 ffffffffffff…: 7 kimg",
    ):
        assert words in text, text
    assert text.isprintable() or all(line.isprintable() for line in text.split("\n"))


def test_the_table_of_paintings_has_no_formulas_for_a_spreadsheet(example, tmp_path) -> None:
    output = OutputFolder(tmp_path, True, [])
    assert str(tmp_path / "paintings.csv") in example.explained(partial(output.write_csv, "paintings"))
    with (tmp_path / "paintings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train"] * 5 + ["held-out"]
    assert rows[1]["artist"] == "Aivazovsky" and rows[1]["year"] == "1841"
    assert rows[5]["title"] == "'=cmd()|\\u202eSea"


def test_a_table_never_replaces_another_file(example, tmp_path) -> None:
    (tmp_path / "paintings.csv").write_text("mine")
    again = [example.explained(partial(OutputFolder(tmp_path, True, []).write_csv, "paintings")) for _ in range(2)]
    assert (tmp_path / "paintings.csv").read_text() == "mine"
    assert all(f"{tmp_path / 'paintings-2.csv'} lists the paintings" in text for text in again)


def test_in_a_new_clone_only_the_list_of_the_paintings_is_downloaded_not_the_pictures(example) -> None:
    cache, remote = example.studio.root / ".dvc/cache", example.studio.root.parent / "remote ü#1"
    cache.rename(remote)
    example.studio.write(".dvc/config", f"[core]\n    remote = r\n['remote \"r\"']\n    url = '{remote}'\n")
    assert "paintings  5 trained on, 1 held out" in example.explained()
    brought = {path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    assert b"large" not in brought  # what stands for images.npy
    assert not [*cache.rglob("*.dir")]  # to DVC that would say that the folder's files are all there
    assert example.explained() == example.explained()


def test_missing_facts_are_named(example) -> None:
    shutil.rmtree(example.studio.root / ".dvc/cache")
    text = example.explained()
    assert "how it was trained is not known: its model, SHA-256" in text
    assert "lr 0.0002" in text  # dvc.lock knows that
    assert "paintings  not known: the data set's list of them is neither in DVC's cache nor in its remote" in text
    assert "parents    not known, because the model's file was not found" in text


def test_of_a_picture_of_another_studio_only_its_provenance_is_explained(example, tmp_path) -> None:
    other = KeptStudio.new(tmp_path / "other", example.studio.environment)
    text = lineage.explain(example.made, lambda text: None, other.root)
    assert "picture 3 of seed 1" in text and "MD5 " in text
    assert "no commit, tag or experiment here names it: the picture is of another studio" in text
    assert "no dvc.lock here says how the stage train made it" in text


def test_the_paintings_of_a_commit_that_only_a_remote_branch_reaches_are_not_read(example) -> None:
    studio = example.studio
    loose = studio.git("rev-parse", "HEAD")
    studio.git("update-ref", "refs/remotes/origin/theirs", loose)
    studio.git("tag", "-d", "atelier@v1.0.0")
    studio.git("checkout", "-q", "--orphan", "empty")
    studio.git("rm", "-q", "-f", "dvc.lock")
    studio.commit("nothing")
    studio.git("branch", "-q", "-D", "main")
    assert "paintings  not known: only a commit that HEAD, a branch or a tag" in example.explained()

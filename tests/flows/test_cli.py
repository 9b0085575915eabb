"""The commands of `atelier` that neither run flows nor need Prefect."""

import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from PIL import Image
from typer.testing import CliRunner

from atelier.data.catalog import DownloadRecord, Work, write_catalog, write_downloads
from atelier.data.folder import read_folder
from atelier.data.shards import Item, write_shards
from atelier.errors import AtelierError
from flows import cli
from tests.atelier.download.test_remove_unused import fill

WORK = Work(
    id="sea-1", title="Ninth Wave", artist="Anna Sea", artist_slug="anna-sea", year_text="1850", year=1850,
    genre="marina", style="romanticism", width=8, height=6, image_url="gallery:/images/anna-sea/1.jpg",
    page_url="gallery:/1", rights="public-domain", source="gallery",
)  # fmt: skip


def test_importing_the_command_imports_no_heavy_package():
    heavy = "{'prefect', 'dvc', 'torch', 'pandas', 'pyarrow', 'numpy', 'PIL', 'requests', 'bs4'}"
    script = f"import sys, flows.cli; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


def test_version_and_help():
    runner = CliRunner()
    assert runner.invoke(cli.app, ["--version"]).output.startswith("atelier 0.")
    bare = runner.invoke(cli.app, [])
    assert "show" in bare.output
    assert "run" in bare.output


def test_clean_lists_what_it_would_remove_and_removes_it_with_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _tree(tmp_path, monkeypatch)
    bare = CliRunner().invoke(cli.app, ["clean"])
    assert (bare.exit_code, "nothing to drop" in bare.output) == (0, True)
    directory = tmp_path / ".atelier/images"
    fill(directory, "old genre", 30, used_days_ago=40)
    path = fill(directory, "genre", 10, used_days_ago=3)
    before = path.read_bytes()
    told = CliRunner().invoke(cli.app, ["clean"])
    assert told.exit_code == 0, told.output
    assert ".atelier/images/original.v1.sqlite: 30 of 40 works, 1." in told.output
    assert "`atelier clean --yes` drops it" in told.output
    assert path.read_bytes() == before
    assert "nothing to drop" in CliRunner().invoke(cli.app, ["clean", "--days", "60"]).output
    dropped = CliRunner().invoke(cli.app, ["clean", "--yes"])
    assert (dropped.exit_code, "dropped 1." in dropped.output) == (0, True)
    assert path.stat().st_size < len(before) / 2
    assert "nothing to drop" in CliRunner().invoke(cli.app, ["clean"]).output
    path.write_bytes(b"no database" * 1000)
    damaged = CliRunner().invoke(cli.app, ["clean"])
    assert isinstance(damaged.exception, AtelierError)


def test_the_shipped_genres_and_styles_are_listed_with_their_counts():
    genres = CliRunner().invoke(cli.app, ["genres"]).output
    assert "marina" in genres
    assert "3,600" in genres
    assert "impressionism" in CliRunner().invoke(cli.app, ["styles"]).output


def test_control_characters_and_markup_in_a_title_are_printed_literally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _tree(tmp_path, monkeypatch)
    hostile = replace(WORK, title="abc\u202egnp.exe [/red]\u2066", artist="\u061cAnna\u200f")
    write_catalog([hostile], tmp_path / "data/catalog.parquet")
    shown = CliRunner().invoke(cli.app, ["show", "sea-1"])
    assert shown.exit_code == 0, shown.output
    assert "abc\\u202egnp.exe [/red]" in shown.output
    assert not set("\u202e\u2066\u061c\u200f") & set(shown.output)


@pytest.mark.parametrize(
    "command",
    [
        ["preset", "laptop-64"], ["show", "sea-1"], ["unpack"], ["unpack", "--to", "locked/deeper"],
        ["show", "sea-1", "--out", "locked/deeper"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_error_of_the_disk_is_a_sentence(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    _tree(tmp_path, monkeypatch)

    def refused(path: str | Path, *_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    if "locked/deeper" in command:
        (tmp_path / "locked").write_text("no folder")
    elif os.geteuid():
        (tmp_path / "params.yaml").chmod(0)
        (tmp_path / ".atelier").mkdir(mode=0o500)
    else:  # root may write everywhere
        monkeypatch.setattr(os, "mkdir", refused)
        monkeypatch.setattr(Path, "read_text", refused)
        monkeypatch.setattr(Path, "read_bytes", refused)
    monkeypatch.setattr(sys, "argv", ["atelier", *command])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and ("Permission denied" in said or "Not a directory" in said)


def test_show_extracts_a_painting_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    picture = _tree(tmp_path, monkeypatch)
    shown = CliRunner().invoke(cli.app, ["show", "sea-1"])
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / ".atelier/show/sea-1.png").read_bytes() == picture
    assert "Ninth Wave, Anna Sea, 1850" in shown.output
    assert "ok" in shown.output

    (tmp_path / "data/deeper").mkdir()
    monkeypatch.chdir(tmp_path / "data/deeper")
    assert CliRunner().invoke(cli.app, ["show", "sea-1", "--out", "here"]).exit_code == 0
    assert (tmp_path / "data/deeper/here/sea-1.png").read_bytes() == picture


def test_show_says_why_a_painting_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _tree(tmp_path, monkeypatch)
    assert "missing: 404" in CliRunner().invoke(cli.app, ["show", "sea-2"]).output
    with pytest.raises(AtelierError, match=r"catalog.parquet has no \.\./sea"):
        CliRunner().invoke(cli.app, ["show", "../sea"], catch_exceptions=False)


def test_an_unpacked_folder_can_be_scraped_as_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    picture = _tree(tmp_path, monkeypatch)
    unpacked = CliRunner().invoke(cli.app, ["unpack", "--to", "mine"])
    assert unpacked.exit_code == 0, unpacked.output
    assert "1 picture in" in unpacked.output
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["catalog.csv", "sea-1.png"]
    assert (tmp_path / "mine/sea-1.png").read_bytes() == picture
    (work,) = read_folder(tmp_path / "mine", tmp_path / "mine/catalog.csv").works
    assert (work.title, work.artist, work.year, work.genre) == ("Ninth Wave", "Anna Sea", 1850, "marina")


def test_unpack_extracts_the_named_works_and_lists_those_without_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _tree(tmp_path, monkeypatch)
    named = CliRunner().invoke(cli.app, ["unpack", "sea-2", "sea-1"])
    assert (tmp_path / ".atelier/unpacked/sea-1.png").is_file()
    assert "without a picture (`atelier show` says why): sea-2" in named.output
    with pytest.raises(AtelierError, match=r"catalog.parquet has no \.\./sea"):
        CliRunner().invoke(cli.app, ["unpack", "../sea"], catch_exceptions=False)
    assert "0 pictures" in CliRunner().invoke(cli.app, ["unpack", "--look-alikes"]).output


def test_import_reads_a_file_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    _tree(tmp_path, monkeypatch)
    (tmp_path / "data/net.t7").write_bytes(b"\x06\x00\x00\x00")
    monkeypatch.chdir(tmp_path / "data")
    refused = CliRunner().invoke(cli.app, ["import", "net.t7"])
    assert refused.exit_code == 1
    assert "net.t7 is no DCGAN that can be imported: a Lua function" in capfd.readouterr().err


def test_presets_are_listed_and_written_into_params_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shipped = Path("params.yaml").read_text()
    _tree(tmp_path, monkeypatch)
    (tmp_path / "params.yaml").write_text(shipped)
    listed = CliRunner().invoke(cli.app, ["preset"]).output
    assert "laptop-64" in listed
    assert "as shipped" in listed
    changed = CliRunner().invoke(cli.app, ["preset", "laptop-64"]).output
    assert "train.kimg: 64 -> 320" in changed
    assert "  kimg: 320 " in (tmp_path / "params.yaml").read_text()
    assert "already" in CliRunner().invoke(cli.app, ["preset", "laptop-64"]).output


def _tree(root: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.chdir(root)
    for name in ("dvc.yaml", "params.yaml"):
        (root / name).touch()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "navy").save(buffer, "PNG")
    write_catalog([WORK, replace(WORK, id="sea-2")], Path("data/catalog.parquet"))
    entries = [
        DownloadRecord(id="sea-1", status="ok"),
        DownloadRecord(id="sea-2", status="missing", reason="404"),
    ]
    write_downloads(entries, Path("data/downloads.parquet"))
    write_shards([Item("sea-1", "png", buffer.getvalue())], Path("data/images"))
    return buffer.getvalue()

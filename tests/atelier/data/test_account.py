"""The download account: its bytes, and what may stand in it."""

from pathlib import Path

import pytest

from atelier.data.catalog import DownloadRecord, read_downloads, write_downloads
from atelier.errors import AtelierError


def test_the_account_is_read_back_and_its_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    entries = [
        DownloadRecord(id="b", status="missing", reason="HTTP 404"),
        DownloadRecord(id="a", status="ok", sha256="0" * 64, phash="f" * 16, width=96, height=64, bytes=1234),
    ]
    write_downloads(entries, tmp_path / "one.parquet")
    write_downloads(entries[::-1], tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert read_downloads(tmp_path / "one.parquet") == entries[::-1]


@pytest.mark.parametrize("id", ["../sea", "a\0b", "", "a/b", "a" * 65, "sea\n"])
def test_an_id_that_no_file_may_have_is_not_written_down(tmp_path: Path, id: str) -> None:
    with pytest.raises(AtelierError, match="is no id"):
        write_downloads([DownloadRecord(id=id, status="missing")], tmp_path / "account.parquet")
    assert list(tmp_path.iterdir()) == []


def test_ids_that_differ_in_case_alone_are_two(tmp_path: Path) -> None:
    entries = [DownloadRecord(id="SEA", status="missing"), DownloadRecord(id="sea", status="missing")]
    write_downloads(entries, tmp_path / "account.parquet")
    assert read_downloads(tmp_path / "account.parquet") == entries

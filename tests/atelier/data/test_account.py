"""The download account: its bytes, and what may stand in it."""

from pathlib import Path

import pytest

from atelier.data.catalog import Entry, read_account, write_account
from atelier.errors import AtelierError


def test_the_account_is_read_back_and_its_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    entries = [
        Entry(id="b", status="missing", reason="HTTP 404"),
        Entry(id="a", status="ok", sha256="0" * 64, phash="f" * 16, width=96, height=64, bytes=1234),
    ]
    write_account(entries, tmp_path / "one.parquet")
    write_account(entries[::-1], tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert read_account(tmp_path / "one.parquet") == entries[::-1]


@pytest.mark.parametrize("id", ["../sea", "a\0b", "", "a/b", "a" * 65, "sea\n"])
def test_an_id_that_no_file_may_have_is_not_written_down(tmp_path: Path, id: str) -> None:
    with pytest.raises(AtelierError, match="is no id"):
        write_account([Entry(id=id, status="missing")], tmp_path / "account.parquet")
    assert list(tmp_path.iterdir()) == []


def test_ids_that_differ_in_case_alone_are_two(tmp_path: Path) -> None:
    entries = [Entry(id="SEA", status="missing"), Entry(id="sea", status="missing")]
    write_account(entries, tmp_path / "account.parquet")
    assert read_account(tmp_path / "account.parquet") == entries

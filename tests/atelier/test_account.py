"""The download account: its bytes, and how it is told."""

from pathlib import Path

from atelier.account import Entry, account_lines, read_account, write_account


def test_the_account_is_read_back_and_its_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    entries = [
        Entry(id="b", status="missing", reason="HTTP 404"),
        Entry(id="a", status="ok", sha256="0" * 64, phash="f" * 16, width=96, height=64, bytes=1234),
    ]
    write_account(entries, tmp_path / "one.parquet")
    write_account(entries[::-1], tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert read_account(tmp_path / "one.parquet") == entries[::-1]


def test_the_account_is_told_by_status_with_examples() -> None:
    entries = [Entry(id=f"w{n}", status="missing", reason="HTTP 404") for n in range(1200)]
    lines = account_lines([*entries, Entry(id="good", status="ok")])
    assert [line.split() for line in lines] == [
        ["ok", "1"], ["missing", "1,200"], ["w0:", "HTTP", "404"], ["w1:", "HTTP", "404"],
    ]  # fmt: skip

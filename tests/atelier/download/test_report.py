"""Printing the account: by status, with bytes and examples, on a terminal and in a log."""

import io

from rich.console import Console

from atelier.data.catalog import DownloadRecord
from atelier.download.arrivals import Arrival
from atelier.download.download import account_rows, print_account

RECORDS = [
    *(DownloadRecord(id=f"w{n:04d}", status="missing", reason="HTTP 404") for n in range(1200)),
    DownloadRecord(id="good-1", status="ok", bytes=1_500_000),
    DownloadRecord(id="good-2", status="ok", bytes=700_000, reason="looks like good-1, 2 bits apart"),
    DownloadRecord(id="again", status="duplicate", bytes=700_000, reason="the same bytes as good-2"),
]


def printed(terminal: bool, records: list[DownloadRecord]) -> str:
    file = io.StringIO()
    print_account(records, Console(file=file, force_terminal=terminal, width=100, soft_wrap=True, highlight=False))
    return file.getvalue()


def test_each_status_has_its_count_its_bytes_and_three_examples() -> None:
    assert [line.split() for line in printed(False, RECORDS).splitlines()] == [
        ["ok", "2", "2.2", "MB"], ["good-1"], ["good-2:", "looks", "like", "good-1,", "2", "bits", "apart"],
        ["look-alike", "1", "700.0", "kB"], ["good-2:", "looks", "like", "good-1,", "2", "bits", "apart"],
        ["missing", "1,200"],
        ["w0000:", "HTTP", "404"], ["w0001:", "HTTP", "404"], ["w0002:", "HTTP", "404"],
        ["duplicate", "1"], ["again:", "the", "same", "bytes", "as", "good-2"],
    ]  # fmt: skip


def test_a_log_gets_lines_and_a_terminal_a_table() -> None:
    table = printed(True, RECORDS)
    assert "│" in table and "│" not in printed(False, RECORDS)
    for words in ("1,200", "2.2 MB", "w0002: HTTP 404", "looks like good-1, 2 bits apart"):
        assert words in table


def test_control_characters_in_a_reason_are_not_printed() -> None:
    hostile = [
        DownloadRecord(id="a\0b", status="refused", reason="leads to \x1b[2J\x07[red]x[/red]\u2028" + "long " * 200)
    ]
    for terminal in (False, True):
        output = printed(terminal, hostile)
        assert "\x1b[2J" not in output and "\x07" not in output and "\0" not in output
        assert "[red]x[/red]" in output
    assert len(printed(False, hostile).splitlines()[1]) < 250


def test_an_empty_account_has_no_lines() -> None:
    assert account_rows([]) == []


def test_pictures_with_a_note_on_their_colours_are_counted_a_second_time_as_noted() -> None:
    arrival = Arrival("ok", "CMYK without a colour profile: its colours are a guess", content=b"123")
    records = [*RECORDS, arrival.record("inks")]
    rows = {row.status: row for row in account_rows(records)}
    assert (rows["ok"].works, rows["look-alike"].works, rows["noted"].works) == (3, 1, 1)
    assert rows["noted"].examples == ("inks: CMYK without a colour profile: its colours are a guess",)

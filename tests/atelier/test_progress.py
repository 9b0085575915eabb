"""Progress: the lines of a log and the file that the flows read."""

import json
from pathlib import Path

import pytest

from atelier.progress import Progress


def test_a_log_line_has_the_count_the_rate_the_time_left_and_the_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atelier.progress.LINE_INTERVAL_S", 0.0)
    now_s = [100.0]
    monkeypatch.setattr("atelier.progress.time.monotonic", lambda: now_s[0])
    with Progress("download", 1000, "works") as progress:
        progress.count_resumed(400, "40.0 MB")
        now_s[0] += 10
        progress.advance(100, "50.0 MB, 3 missing")
    resumed, going_on, last = capsys.readouterr().out.splitlines()
    assert resumed == "download: 400/1,000 works, 0 works/s, 40.0 MB"
    assert going_on == "download: 500/1,000 works, 10 works/s, ETA 0:50, 50.0 MB, 3 missing"
    assert last == "download: 500/1,000 works, 10 works/s, 50.0 MB, 3 missing"


def test_units_of_an_earlier_run_do_not_enter_the_rate(tmp_path: Path) -> None:
    with Progress("download", 1000, "works", tmp_path) as progress:
        progress.count_resumed(900)
        assert progress.rate == 0
        progress.advance(1)
        assert progress.rate > 0
    state = json.loads((tmp_path / "download.json").read_text())
    assert (state["done"], state["total"], state["unit"], state["note"]) == (901, 1000, "works", "")


def test_the_note_is_formatted_only_when_it_is_shown(tmp_path: Path) -> None:
    class Counting:
        times = 0

        def __str__(self) -> str:
            self.times += 1
            return "a note"

    note = Counting()
    with Progress("download", 1000, "works", tmp_path) as progress:
        for _ in range(1000):
            progress.advance(1, note)
    assert 0 < note.times < 20
    assert json.loads((tmp_path / "download.json").read_text())["note"] == "a note"


def test_a_preview_picture_is_in_the_file_at_once(tmp_path: Path) -> None:
    with Progress("train", 100, "kimg", tmp_path) as progress:
        progress.show_picture(Path("grids/20.png"))
        assert json.loads((tmp_path / "train.json").read_text())["picture"] == "grids/20.png"


def test_a_progress_file_that_cannot_be_written_does_not_stop_the_work(tmp_path: Path) -> None:
    with Progress("train", 2, "steps", tmp_path / "progress") as progress:
        progress.advance()
        (tmp_path / "progress/train.json").unlink(missing_ok=True)
        (tmp_path / "progress").rmdir()
        (tmp_path / "progress").write_text("in the way")
        progress.show_picture(tmp_path / "grid.png")
        progress.advance()
    assert progress.done == 2

"""How commands end: printing never fails, whatever the terminal, the pipe or the disk does; OSErrors are messages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atelier.errors import run_for_exit_code
from atelier.files import replacing

ROOT = Path(__file__).parents[2]
STAGE = [
    "-c",
    "from tasks.stage import main; main('scrape', lambda stage: print('a → b') or '64 × 64 px, é')",
]
PROGRESS = """
from atelier.progress import Progress
from tasks.stage import main

def work(stage):
    with stage.progress(3, "×") as progress:
        progress.print_line("above → below")
        progress.advance(3, "é")
    return "×" * 100_000

main("scrape", work)
"""
GENRES = ["-m", "flows.cli", "genres"]
COMMANDS = {"a stage": STAGE, "its progress": ["-c", PROGRESS], "the command": GENRES}


@pytest.fixture(autouse=True)
def in_a_studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text("scrape: {source: gallery}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)


def run(arguments: list[str], stdout: int, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, stdout=stdout,
        stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_characters_that_the_terminal_cannot_show_are_replaced(command: str) -> None:
    ended = run(COMMANDS[command], subprocess.PIPE, PYTHONIOENCODING="ascii:strict")
    assert (ended.returncode, ended.stderr) == (0, b"")
    if command == "a stage":
        assert b"\na ? b\n" in b"\n" + ended.stdout
        assert Path(".atelier/executed/scrape.json").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_pipe_fails_no_command(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = run(COMMANDS[command], writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_log_on_a_full_disk_fails_no_stage() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = run(STAGE, full.fileno())
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_closed_stdout_fails_no_command() -> None:
    script = f"{sys.executable} {GENRES[0]} {GENRES[1]} {GENRES[2]} >&- 2>&-"
    assert subprocess.run(["sh", "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0


def test_child_processes_do_not_fail_at_a_closed_pipe_either() -> None:
    script = (
        "import subprocess, sys\n"
        "from atelier.errors import ignore_output_errors\n"
        "ignore_output_errors(line_buffering=True)\n"
        "print('to nobody')\n"
        "child = [sys.executable, '-c', 'print(1)']\n"
        "sys.exit(subprocess.run(child).returncode)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    ended = run(["-c", script], writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_an_os_error_without_a_file_name_is_printed_as_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise OSError(5, "Input/output error")

    assert run_for_exit_code(fails, "") == 1
    assert capsys.readouterr().err == "Input/output error: the disk or network\n"


def test_a_full_disk_is_printed_as_a_sentence_that_says_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    assert run_for_exit_code(full, "") == 1
    assert capsys.readouterr().err == f"No space left on device: {tmp_path}: free some space, then run again\n"

    def copies() -> int:
        raise OSError(28, "No space left on device", "from", None, "to")

    assert run_for_exit_code(copies, "") == 1
    assert capsys.readouterr().err == "No space left on device: to: free some space, then run again\n"

    def writes() -> int:
        with replacing(tmp_path / "file"):
            return full()

    assert run_for_exit_code(writes, "") == 1
    assert capsys.readouterr().err == f"No space left on device: {tmp_path}/file: free some space, then run again\n"
    assert not [*tmp_path.glob("*file*")]

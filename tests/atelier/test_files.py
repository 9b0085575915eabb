"""replacing_directory: the directory is either whole or absent, whenever the process that writes it ends."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atelier.files import replacing_directory

ROOT = Path(__file__).parents[2]
WRITER = """
import os, sys
from pathlib import Path
from atelier.files import replacing_directory

path, content, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
steps = 0

def counted(call):
    def step(*arguments, **named):
        global steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), 9)
        return call(*arguments, **named)
    return step

for name in ("mkdir", "open", "rename", "fsync", "unlink", "rmdir", "close"):
    setattr(os, name, counted(getattr(os, name)))
with replacing_directory(path) as directory:
    for number in range(2):
        (directory / f"{number}.txt").write_text(content)
    finished = steps
print(finished, steps)
"""


def write(path: Path, content: str, last: int = 0) -> subprocess.CompletedProcess[str]:
    """Replace `path` in another process, which kills itself at its system call number `last`."""
    command = [sys.executable, "-c", WRITER, str(path), content, str(last)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def contents(path: Path) -> set[str]:
    """Return the texts of the files in `path`, checking that it has all of them or does not exist."""
    files = sorted(path.iterdir()) if path.exists() else []
    assert [file.name for file in files] in ([], ["0.txt", "1.txt"])
    return {file.read_text() for file in files}


@pytest.mark.parametrize("before", ["old", None])
def test_a_kill_at_any_step_loses_neither_the_old_directory_nor_a_finished_new_one(
    tmp_path: Path, before: str | None
) -> None:
    path = tmp_path / "prints"

    def prepared() -> None:
        shutil.rmtree(path, ignore_errors=True)
        if before:
            with replacing_directory(path) as directory:
                for number in range(2):
                    (directory / f"{number}.txt").write_text(before)

    prepared()
    filled, steps = map(int, write(path, "new").stdout.split())
    assert steps > filled > 0
    seen = set()
    for last in range(1, steps + 1):
        prepared()
        assert write(path, "new", last).returncode == -9
        with pytest.raises(KeyboardInterrupt), replacing_directory(path):
            raise KeyboardInterrupt  # the next run is stopped before it has anything of its own
        seen.add(frozenset(contents(path)))
        assert contents(path) in ([{"old"}, {"new"}] if before else [set(), {"new"}])
        assert [left.name for left in tmp_path.iterdir()] in (["prints"], [])
    assert frozenset({"new"}) in seen and len(seen) == 2


def test_after_an_exception_the_old_directory_is_still_there(tmp_path: Path) -> None:
    path = tmp_path / "prints"
    with replacing_directory(path) as directory:
        (directory / "0.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing_directory(path) as directory:
        (directory / "0.txt").write_text("new")
        raise ZeroDivisionError
    assert [left.name for left in tmp_path.iterdir()] == ["prints"]
    assert (path / "0.txt").read_text() == "old"


def test_after_a_failed_rename_the_old_or_the_new_directory_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prints"
    with replacing_directory(path) as directory:
        (directory / "0.txt").write_text("old")
    renamed = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if target == path and not any(path.parent.glob("*.refused")):
            (path.parent / "a.refused").touch()
            raise OSError(28, "No space left on device", str(target))
        return renamed(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="No space left"), replacing_directory(path) as directory:
        (directory / "0.txt").write_text("new")
    assert (path / "0.txt").read_text() in ("old", "new")


def test_two_writers_at_once_use_separate_directories_and_the_last_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "prints"
    with replacing_directory(path) as first:
        (first / "0.txt").write_text("first")
        with replacing_directory(path) as second:
            assert second != first
            (second / "0.txt").write_text("second")
        assert (path / "0.txt").read_text() == "second"
        assert (first / "0.txt").read_text() == "first"
    assert (path / "0.txt").read_text() == "first"
    assert [left.name for left in tmp_path.iterdir()] == ["prints"]


def test_a_link_to_a_directory_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "mine.txt").write_text("mine")
    path = tmp_path / "here" / "prints"
    path.parent.mkdir()
    path.symlink_to(tmp_path / "far")
    with replacing_directory(path) as directory:
        (directory / "0.txt").write_text("new")
    assert not path.is_symlink() and (path / "0.txt").read_text() == "new"
    assert (tmp_path / "far" / "mine.txt").read_text() == "mine"
    assert [left.name for left in path.parent.iterdir()] == ["prints"]


def test_other_directories_with_similar_names_are_not_removed(tmp_path: Path) -> None:
    for name in (".prints.mine.tmp", ".prints.large.0123abcd.tmp", ".prints2.0123abcd.tmp"):
        (tmp_path / name).mkdir()
    with replacing_directory(tmp_path / "prints"):
        pass
    assert len([*tmp_path.iterdir()]) == 4

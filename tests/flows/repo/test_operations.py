"""DVC's operations in a child process against a real repository: what comes back is data."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from flows.repo import operations
from flows.repo.operations import Lines, OperationError
from tests.flows.toys import ROOT, Tree

DVC_YAML = """\
stages:
  paint:
    cmd: {cmd}
    deps: [sky]
    outs: [picture]
"""


@pytest.fixture
def inside(studio: Tree, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one stage that has its input, `sky`, and whose command a test sets."""
    monkeypatch.chdir(studio.root)
    for name in ("PATH", "PYTHONPATH", "SHELL", "HOME"):
        monkeypatch.setenv(name, studio.environment[name])
    (studio.root / "sky").write_text("blue")
    return studio.root


def paint(command: str, **arguments: object) -> object:
    Path("dvc.yaml").write_text(DVC_YAML.format(cmd=command))
    return operations.run("repro", targets=["paint"], **arguments)


def test_a_stage_that_runs_is_executed_then_unchanged_then_restored(inside: Path) -> None:
    assert paint("cp sky picture") == "executed"
    assert paint("cp sky picture") == "unchanged"
    (inside / "picture").unlink()
    assert paint("cp sky picture") == "restored"


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -TERM $$", -signal.SIGTERM)])
def test_the_exit_status_of_a_failed_command_arrives_as_a_number(inside: Path, command: str, status: int) -> None:
    with pytest.raises(OperationError) as caught:
        paint(command)
    assert (caught.value.kind, caught.value.stage, caught.value.status) == ("stage", "paint", status)


def test_a_stage_whose_input_is_missing_is_named_and_has_no_exit_status(inside: Path) -> None:
    (inside / "sky").unlink()
    with pytest.raises(OperationError, match=r"/sky") as caught:
        paint("cp sky picture")
    assert (caught.value.kind, caught.value.stage, caught.value.status) == ("stage", "paint", None)


def test_a_stage_is_reported_before_its_output(inside: Path) -> None:
    seen: list[str] = []

    def on_stage(name: str) -> Lines:
        seen.append(f"stage {name}")
        return Lines(seen.append)

    paint("echo brush && cp sky picture", on_stage=on_stage)
    assert seen.index("stage paint") < seen.index("brush")


def test_a_lock_of_another_process_is_an_error_of_its_own_kind(inside: Path) -> None:
    with psutil.Popen(["sleep", "60"]) as holder:
        (inside / ".dvc/tmp").mkdir(exist_ok=True)
        held = f'{{"write": {{"{inside}/picture": {{"pid": {holder.pid}, "cmd": "dvc repro"}}}}}}'
        (inside / ".dvc/tmp/rwlock").write_text(held)
        with pytest.raises(OperationError) as caught:
            paint("cp sky picture")
        holder.kill()
    assert caught.value.kind == "busy"


def test_a_worker_that_is_killed_is_an_error_of_its_own_kind(inside: Path) -> None:
    class Killer(Lines):
        def line(self, text: str) -> None:
            if text == "brush":
                (worker,) = (p for p in psutil.Process().children() if "dvc" in p.cmdline())
                os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(OperationError, match="killed by signal 9") as caught:
        paint("echo brush && sleep 60", watcher=Killer())
    assert caught.value.kind == "killed"


def test_the_worker_is_this_code_whatever_the_repository_contains(inside: Path) -> None:
    (inside / "flows").mkdir()
    (inside / "flows/__init__.py").write_text("raise SystemExit('another flows')")
    lines: list[str] = []
    command = "python -c \\\"import os; print('path', os.environ['PYTHONPATH'])\\\" && cp sky picture"
    assert paint(f'"{command}"', watcher=Lines(lines.append)) == "executed"
    assert f"path {ROOT}" in lines  # as it was for this process


def test_operations_take_more_arguments_than_a_command_line(inside: Path) -> None:
    with pytest.raises(OperationError, match=r"no remote specified"):
        operations.run("fetch", md5s=[f"{number:032x}" for number in range(10_000)])


def test_what_is_not_in_the_cache_is_named(inside: Path) -> None:
    operations.run("add", targets=["sky"])
    (inside / "sky").unlink()
    cached = next((inside / ".dvc/cache/files/md5").rglob("*/*"))
    cached.unlink()
    with pytest.raises(OperationError, match=r"^not in the cache: sky$"):
        operations.run("checkout", targets=["sky.dvc"], force=False, allow_missing=False)

"""What a killed dvc leaves half written, its list of locks and dvc.lock, is mended, unless another dvc may write it."""

import os
import signal
from pathlib import Path

import pytest

from flows.repo import locks
from tests.flows.toys import Tree

HALF = '{"write": {"/data/scr'


def test_half_a_list_of_locks_is_dropped_which_no_dvc_reads(studio: Tree) -> None:
    assert studio.run("dvc", "repro", "scrape").status == 0
    lock = studio.root / ".dvc/tmp/rwlock"
    locks.mend(studio.root, print)
    assert lock.exists()
    lock.write_text(HALF)
    refused = studio.run("dvc", "repro", "scrape")
    assert refused.status != 0 and "corrupted" in refused.output
    locks.mend(studio.root, print)
    assert studio.run("dvc", "repro", "scrape").status == 0


def test_while_another_dvc_is_at_work_its_list_stays(studio: Tree, start) -> None:
    studio.slow(30)
    run = start("dvc", "repro").until("train: 1/")
    lock = studio.root / ".dvc/tmp/rwlock"
    whole = lock.read_text()
    lock.write_text(HALF)
    locks.mend(studio.root, print)
    assert lock.read_text() == HALF
    lock.write_text(whole)
    os.kill(run.pid, signal.SIGTERM)
    run.wait()


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_a_half_written_dvc_lock_is_what_it_was_before_and_nothing_runs_again(
    studio: Tree, api_url: str, share: float
) -> None:
    studio.slow(0)
    assert studio.run("dvc", "repro").status == 0
    lock = studio.root / "dvc.lock"
    whole = lock.read_bytes()
    half = whole[: int(share * len(whole))]
    lock.write_bytes(half)
    studio.environment = {**studio.environment, "PREFECT_API_URL": api_url}
    run = studio.run("flows.studio")
    assert run.status == 0, run.output
    assert lock.read_bytes() == whole
    assert "dvc: executed" not in run.output


def test_a_dvc_lock_with_conflict_marks_is_left_to_its_owner(studio: Tree) -> None:
    assert studio.run("dvc", "repro", "scrape", "train").status == 0
    lock = studio.root / "dvc.lock"
    marked = b"<<<<<<< HEAD\n" + lock.read_bytes() + b"=======\n>>>>>>> theirs\n"
    lock.write_bytes(marked)
    locks.mend(studio.root, print)
    assert lock.read_bytes() == marked
    lock.write_bytes(b"a typing error: [\n")
    locks.mend(studio.root, print)
    assert b"scrape" in lock.read_bytes()
    assert (studio.root / ".atelier/dvc.lock.damaged").read_bytes() == b"a typing error: [\n"


def test_without_a_list_there_is_nothing_to_drop(tmp_path: Path) -> None:
    locks.mend(tmp_path, print)

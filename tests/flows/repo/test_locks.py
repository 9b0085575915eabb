"""What a killed dvc leaves half written, its list of locks and dvc.lock, is mended, unless another dvc may write it."""

import os
import signal
from pathlib import Path

from flows.repo import locks
from tests.flows.preloaded import Preloaded
from tests.flows.toys import Tree

HALF = '{"write": {"/data/scr'


def test_half_a_list_of_locks_is_dropped_which_no_dvc_reads(studio: Tree) -> None:
    studio.dvc("repro", "scrape")
    lock = studio.root / ".dvc/tmp/rwlock"
    locks.mend(studio.root, print)
    assert lock.exists()
    lock.write_text(HALF)
    refused = studio.run("dvc", "repro", "scrape")
    assert refused.status != 0 and "corrupted" in refused.output
    locks.mend(studio.root, print)
    studio.dvc("repro", "scrape")


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


def test_a_half_written_dvc_lock_is_what_it_was_before_and_nothing_runs_again(
    finished: Tree, api_url: str, preloaded: Preloaded
) -> None:
    lock = finished.root / "dvc.lock"
    whole = lock.read_bytes()
    for share in (0.0, 0.9):
        lock.write_bytes(whole[: int(share * len(whole))])
        locks.mend(finished.root, print)
        assert "Running stage" not in finished.dvc("repro")
        assert lock.read_bytes() == whole
    lock.write_bytes(whole[: int(0.4 * len(whole))])
    finished.environment = {**finished.environment, "PREFECT_API_URL": api_url}
    finished.preloaded = preloaded
    run = finished.run("flows.studio")  # mends before it asks DVC
    assert run.status == 0, run.output
    assert lock.read_bytes() == whole
    assert "dvc: executed" not in run.output


def test_a_dvc_lock_with_conflict_marks_is_left_to_its_owner(studio: Tree) -> None:
    studio.dvc("repro", "scrape", "train")
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

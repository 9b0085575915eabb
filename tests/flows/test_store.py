"""What a killed dvc leaves of its locks: half a list is dropped, unless another dvc may be writing it."""

import os
import signal
from pathlib import Path

from flows import store
from tests.flows.toys import Tree

HALF = '{"write": {"/data/scr'


def test_half_a_list_of_locks_is_dropped_which_no_dvc_reads(studio: Tree) -> None:
    assert studio.run("dvc", "repro", "scrape").status == 0
    lock = studio.root / ".dvc/tmp/rwlock"
    store.mend(studio.root)
    assert lock.exists()
    lock.write_text(HALF)
    refused = studio.run("dvc", "repro", "scrape")
    assert refused.status != 0 and "corrupted" in refused.output
    store.mend(studio.root)
    assert studio.run("dvc", "repro", "scrape").status == 0


def test_while_another_dvc_is_at_work_its_list_stays(studio: Tree, start) -> None:
    studio.slow(30)
    run = start("dvc", "repro").until("train: 1/")
    lock = studio.root / ".dvc/tmp/rwlock"
    whole = lock.read_text()
    lock.write_text(HALF)
    store.mend(studio.root)
    assert lock.read_text() == HALF
    lock.write_text(whole)
    os.kill(run.pid, signal.SIGTERM)
    run.wait()


def test_without_a_list_there_is_nothing_to_drop(tmp_path: Path) -> None:
    store.mend(tmp_path)

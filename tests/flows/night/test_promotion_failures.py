"""A promotion that is killed or fails leaves the user's repository unchanged."""

import shutil
import signal
import subprocess
import sys

import pytest

from atelier.errors import AtelierError
from flows.night.champion import promote
from tests.flows.person import Studio

KILLED = """
import os, signal, sys
from pathlib import Path
from flows.night import champion
from flows.repo import stages
from flows.clones.sibling import NightClone

def audit(event, arguments):
    if event == "subprocess.Popen" and set(sys.argv[4:]) <= set(map(str, arguments[1])):
        os.kill(os.getpid(), signal.SIGKILL)

root, user, base = sys.argv[1:4]
clone = NightClone(Path(root), Path(user), "nightly", base, ())
sys.addaudithook(audit)
champion.promote(clone, None, "2026-11-25", "better", print)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process that kills itself")
def test_a_promotion_killed_at_any_step_changes_nothing_and_the_next_night_starts_clean(promoted: Studio):
    """Waits for four processes, each killed at another step of a promotion."""
    clone, _ = promoted.evening("2026-11-25")
    evening = shutil.copytree(clone.root, promoted.root.parent / "evening", symlinks=True)
    refs, status = promoted.refs(), promoted.git("status", "--porcelain")
    for step in (["dvc", "add"], ["commit-tree"], ["tag", "-a"], ["push", "--atomic"]):
        command = [sys.executable, "-c", KILLED, str(clone.root), str(clone.user), clone.base, *step]
        killed = subprocess.run(command, env=promoted.environment, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, f"{step}: {killed.stderr}"
        assert (promoted.refs(), promoted.git("status", "--porcelain")) == (refs, status)

        promoted.prepare()
        theirs = promoted.at(clone.root)
        assert theirs.git("tag") == "atelier@v1.0.0"
        assert theirs.git("diff", "--name-only", "origin/nightly") == "params.yaml"
        assert theirs.git("ls-files", "--others", "--exclude-standard", "--directory") == "data/"
        shutil.rmtree(clone.root)
        shutil.copytree(evening, clone.root, symlinks=True)


def test_a_failed_push_changes_nothing_and_repeating_the_night_trains_nothing(person: Studio):
    clone, before = person.evening("2026-11-24")
    refs = person.refs()
    assert len(person.ran()) == 4
    hook = person.root / ".git/hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\n[ "$1" != refs/heads/nightly ] || { echo not tonight; exit 1; }\n')
    hook.chmod(0o755)
    with pytest.raises(AtelierError, match=r"git push in .*: (.|\n)*not tonight"):  # the user's own hook
        promote(clone, before, "2026-11-24", "better", print)
    assert person.refs() == refs  # not even the tag, which the hook would accept
    hook.unlink()

    person.git("branch", "nightly", person.git("commit-tree", "-m", "meanwhile", "HEAD^{tree}"))
    with pytest.raises(AtelierError, match=r"git push in .*: (.|\n)*rejected"):  # never forced
        promote(clone, before, "2026-11-24", "better", print)
    person.git("branch", "-q", "-D", "nightly")

    person.night("2026-11-24")
    assert person.ran() == []


def test_a_failed_push_to_the_remote_changes_nothing_and_the_next_one_is_complete(person: Studio):
    store = person.root.parent / "store"
    person.dvc("remote", "add", "-d", "--local", "store", str(store))
    clone, before = person.evening("2026-11-24")
    refs = person.refs()
    assert len(person.ran()) == 4
    store.write_text("no folder any more")
    with pytest.raises(AtelierError, match=r"dvc push in .*studio.nightly: "):
        promote(clone, before, "2026-11-24", "better", print)
    assert person.refs() == refs
    store.unlink()

    _, promotion = person.night("2026-11-24")
    assert promotion.pushed == str(store)
    assert person.ran() == []
    person.git("merge", "-q", "nightly")
    shutil.rmtree(person.root / ".dvc/cache")  # as on another machine
    person.dvc("pull", "--run-cache", "-q")
    assert next((person.root / "models").glob("champion-*/generator.safetensors")).exists()
    person.dvc("repro", "-q")
    assert person.ran() == []
    assert "?? models" not in person.git("status", "--porcelain")

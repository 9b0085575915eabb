"""`atelier nightly` before any night: errors, status, the identity for commits."""

import re
import subprocess
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from flows.repo.git import identity
from tests.flows.night_toys import NightTree
from tests.flows.preloaded import Preloaded
from tests.flows.toys import ROOT


def test_errors_before_a_night_are_sentences_and_leave_no_clone(night_tree: NightTree, preloaded: Preloaded) -> None:
    night_tree.preloaded = preloaded
    refused = night_tree.run("flows.cli", "nightly", "run", "--night", "tomorrow")
    assert (refused.status, refused.output) == (
        1,
        "--night tomorrow: not a date; write one like 2026-11-30\n",
    )
    night_tree.environment = {**night_tree.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    served = night_tree.run("flows.cli", "nightly", "serve")
    assert served.status == 1
    assert "none answers: type `prefect server start`" in served.output
    assert "last      no night yet" in night_tree.run("flows.cli", "nightly", "status").output
    assert not night_tree.root.with_name("studio.nightly").exists()


def test_a_container_has_an_identity_for_commits_and_the_studios_own_takes_precedence(
    night_tree: NightTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SYSTEM", "GLOBAL"):  # like a new container
        monkeypatch.setenv(f"GIT_CONFIG_{name}", str(tmp_path / name))
    for key in ("user.name", "user.email"):
        night_tree.git("config", "--unset", key)
    with pytest.raises(
        AtelierError, match="for containers, which forget that, the same without --global in the studio"
    ):
        identity(night_tree.root)
    commands = re.findall(r"^RUN (git config --system .*)$", (ROOT / "deploy/Dockerfile").read_text(), re.M)
    for command in commands:
        subprocess.run(["sh", "-c", command], check=True)
    assert identity(night_tree.root) == ("Atelier's nights", "nights@atelier.invalid")
    night_tree.git("config", "user.name", "Anna Sea")
    assert identity(night_tree.root) == ("Anna Sea", "nights@atelier.invalid")

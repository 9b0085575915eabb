"""The work tree of a flow: its root, space on its disk, and users without a name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from flows.runtime import work_tree

NAMELESS = """
import os, sys
from pathlib import Path
from flows.runtime import work_tree
os.setuid(54321)
for name in ("HOME", "USER"):
    os.environ.pop(name, None)
os.environ |= dict(word.split("=") for word in sys.argv[2:])
work_tree.name_user(Path(sys.argv[1]))
print(os.environ.get("HOME"), os.environ.get("USER"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_gets_a_home_unless_there_is_one(tmp_path: Path) -> None:
    def named(*variables: str) -> str:
        command = [sys.executable, "-c", NAMELESS, str(tmp_path), *variables]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert named() == f"{tmp_path}/.atelier/home user54321"
    assert named("HOME=/somewhere", "USER=ann") == "/somewhere ann"


def test_on_a_full_disk_no_flow_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with work_tree.only_flow():
        pass
    monkeypatch.setattr(work_tree, "MIN_FREE_BYTES", 1e18)
    with (
        pytest.raises(AtelierError, match=r"MB are free on the disk of .*: free some space"),
        work_tree.only_flow(),
    ):
        pass


IMPORTED_FIRST = """
from prefect.settings import get_current_settings
from flows.runtime import work_tree
work_tree.enter()
print(get_current_settings().home)
"""


def test_prefect_reads_the_studios_settings_even_if_it_was_imported_first(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "pyproject.toml").write_text('[tool.prefect]\nhome = ".prefect"\n')
    (tmp_path / "below").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_FIRST],
        cwd=tmp_path / "below",
        env={**environment, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    assert done.stdout == ".prefect\n", done.stderr  # relative to the root, to which it changed

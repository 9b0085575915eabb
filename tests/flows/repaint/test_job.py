from pathlib import Path

from filelock import FileLock

from atelier.provenance.facts import MURAL_LOCK
from flows.repaint.job import MURALS, remove_murals


def test_partly_painted_murals_are_removed_unless_another_process_is_painting_them(
    tmp_path: Path,
) -> None:
    murals = tmp_path / MURALS
    for name in ("at work", "done"):
        (murals / name).mkdir(parents=True)
    with FileLock(murals / "at work" / MURAL_LOCK):
        remove_murals(tmp_path)
        assert [folder.name for folder in murals.iterdir()] == ["at work"]
    remove_murals(tmp_path)
    assert not [*murals.iterdir()]

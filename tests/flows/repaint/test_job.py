from pathlib import Path

from filelock import FileLock

from atelier.provenance.contract import LOCK
from flows.repaint.job import MURALS, forget_murals


def test_what_is_painted_of_murals_goes_when_a_command_ends_unless_it_is_being_painted(
    tmp_path: Path,
) -> None:
    murals = tmp_path / MURALS
    for name in ("at work", "done"):
        (murals / name).mkdir(parents=True)
    with FileLock(murals / "at work" / LOCK):
        forget_murals(tmp_path)
        assert [folder.name for folder in murals.iterdir()] == ["at work"]
    forget_murals(tmp_path)
    assert not [*murals.iterdir()]

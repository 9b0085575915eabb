"""What several test files share."""

import os
import signal
import sys
from pathlib import Path

import pytest

# tiny networks lose more to waiting threads than they gain; read when torch is imported, here and in child processes
os.environ.setdefault("OMP_NUM_THREADS", "1")

# without bytecode each child process would compile our modules again, which takes it up to a second, and each worker
# of pytest-xdist would rewrite the assertions of all test files, which takes it six
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# a background shell ignores Ctrl-C, and so would every command that a test starts from there
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def paintings() -> Path:
    """A folder of real paintings beside the repository: `images/*.jpg` and `catalog.csv`."""
    path = Path(__file__).parents[2] / "shared" / "paintings"
    if not path.is_dir():
        pytest.skip("the folder of real paintings, ../shared/paintings, is not on this machine")
    return path


@pytest.fixture(scope="session")
def wikiart_samples() -> Path:
    """A folder of real answers of WikiArt beside the repository."""
    path = Path(__file__).parents[2] / "shared" / "wikiart"
    if not path.is_dir():
        pytest.skip("real answers of WikiArt, ../shared/wikiart, are not on this machine")
    return path


@pytest.fixture
def judged_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Previews of a training take a tenth of the time, see tests/judged_small.py.

    For tests of trainings and stages in this process. tests/atelier/metrics/test_panel.py and tests/test_pipeline.py
    judge at 128 px.
    """
    from tests.judged_small import CHEAPER

    for module, name, value in CHEAPER:
        monkeypatch.setattr(module, name, value)


LONGEST = (
    "test_pipeline.py",
    "test_served_nights.py",
    "test_kills.py",
    "test_reproduce.py",
    "test_docs_commands.py",
    "test_train_several.py",
    "test_explore.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for a process that they have started or stopped."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that several workers end together, then the others that start processes."""
    root = Path(__file__).parent
    ranks = {name: rank for rank, name in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> tuple[int, bool]:
        floor = item.path.relative_to(root).parts[0]
        return ranks.get(item.path.name, len(LONGEST)), floor not in ("tasks", "flows")

    items.sort(key=rank)

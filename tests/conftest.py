"""What several test files share."""

from pathlib import Path

import pytest


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

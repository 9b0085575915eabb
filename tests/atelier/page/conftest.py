"""One browser for the tests of a file."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A started Chromium, in which each test opens pages of its own."""
    with chromium() as started:
        yield started

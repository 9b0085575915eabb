"""All that it takes to open a source, as data that travels to other processes and machines."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from atelier.download.sources import Folder, Site, Source
from atelier.web.client import PoliteClient


class Opening(Protocol):
    """Opens the same source wherever it is asked to."""

    @property
    def rate_per_s(self) -> float | None:
        """Requests a second, at most; None: as many as go."""

    def slowed(self, rate_per_s: float | None) -> Self:
        """The same source at another rate: the share of one among several processes."""

    def opened(self) -> AbstractContextManager[Source]:
        """The source, for as long as the block lasts."""


@dataclass(frozen=True)
class SiteOpening:
    """A site over HTTP."""

    base_url: str
    contact: str
    rate_per_s: float | None
    retries: int
    timeout_s: float
    max_bytes: int
    edition: str = ""
    may_train: bool = False

    def slowed(self, rate_per_s: float | None) -> Self:
        return replace(self, rate_per_s=rate_per_s)

    @contextmanager
    def opened(self) -> Iterator[Source]:
        with PoliteClient(
            self.base_url,
            contact=self.contact,
            rate_per_s=self.rate_per_s,
            retries=self.retries,
            timeout_s=self.timeout_s,
            may_train=self.may_train,
        ) as client:
            yield Site(client, self.max_bytes, self.edition)


@dataclass(frozen=True)
class FolderOpening:
    """A folder, under the same path wherever it is opened."""

    path: Path
    max_bytes: int
    rate_per_s: float | None = None

    def slowed(self, rate_per_s: float | None) -> Self:
        return self

    @contextmanager
    def opened(self) -> Iterator[Source]:
        yield Folder(self.path, self.max_bytes)

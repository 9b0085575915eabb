"""Asking a site once: from what is kept where that still holds, else over the wire, conditionally where it can be.

A list holds for one snapshot; the details of a work hold until a list says something else of the work. Knows no
wire format: whoever asks brings the reading.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeVar

from atelier.errors import AtelierError
from atelier.web.budget import BudgetSpent
from atelier.web.polite import FetchError, PoliteClient, Validators
from atelier.wikiart.records import NotAPage
from atelier.wikiart.store import Kept, Store

T = TypeVar("T")
Kind = Literal["lists", "artists", "oeuvres", "details", "artist lists", "painting pages"]

HEADERS = {"X-Requested-With": "XMLHttpRequest", "Accept": "application/json, text/html;q=0.5"}
MAX_BYTES = 8_000_000  # a real page of sixty records has 25 kB
TRIES = 2  # what comes as something else is asked for once more


class Gone(AtelierError):
    """The site has no such thing, or answers twice with something else."""


class Asker:
    """One site, its client and its kept answers at one snapshot; for any number of threads.

    `answered` counts what has been answered by kind, from the store or over the wire alike: what a catalog rests on.
    """

    def __init__(self, client: PoliteClient, store: Store, snapshot: str) -> None:
        self.client, self.snapshot = client, snapshot
        self.answered: Counter[str] = Counter()
        self._store = store
        self._lock = threading.Lock()
        self._spent: BudgetSpent | None = None

    @property
    def base_url(self) -> str:
        return self.client.base_url

    def ask(
        self,
        kind: Kind,
        path: str,
        read: Callable[[bytes], T],
        *,
        record: str = "",
        max_bytes: int = MAX_BYTES,
        distil: Callable[[bytes], bytes] = lambda content: content,
    ) -> T:
        """What `read` makes of the answer to `path`; `distil` makes of an answer what is kept and read.

        With a `record`, of a work whose details these are, a kept answer holds as long as that is the same. What is
        gone is not asked for again at this snapshot. Raises Gone, FetchError where the site
        fails or refuses, BudgetSpent where it must not be asked. `read` and `distil` raise NotAPage.
        """
        try:
            value = self._ask(path, read, record, max_bytes, distil)
        except Gone:
            self._count(kind)
            raise
        self._count(kind)
        return value

    def _count(self, kind: Kind) -> None:
        with self._lock:
            self.answered[kind] += 1

    def _ask(
        self,
        path: str,
        read: Callable[[bytes], T],
        record: str,
        max_bytes: int,
        distil: Callable[[bytes], bytes],
    ) -> T:
        kept = self._store.get(path)
        if kept and (kept.snapshot == self.snapshot or (record and not kept.gone and kept.record == record)):
            if kept.gone:
                raise Gone(kept.gone)
            try:
                return read(kept.body)
            except NotAPage:
                kept = None  # damaged on disk: ask again
        trouble, is_gone = "", False
        for _ in range(TRIES):
            try:
                answer = self._fetch(path, kept, record, max_bytes, distil)
                value = read(answer.body)
            except NotAPage as error:
                trouble, kept = f"the site answers with {error}", None
                continue
            except FetchError as error:
                if error.kind not in ("missing", "too-large"):
                    raise  # a refusal may be meant for us today, not for this path
                trouble, is_gone = f"the site has none ({error.reason})", True
                break
            self._store.put(path, answer)
            return value
        if (
            is_gone or record
        ):  # a list that comes as a page of HTML may be back tomorrow; for a work that is known
            self._store.put(path, Kept(b"", self.snapshot, gone=trouble))
        raise Gone(trouble)

    def _fetch(
        self, path: str, kept: Kept | None, record: str, max_bytes: int, distil: Callable[[bytes], bytes]
    ) -> Kept:
        if self._spent:
            raise self._spent  # known: no need to wait for a turn to hear it
        validators = Validators(kept.etag, kept.last_modified) if kept and not kept.gone else None
        try:
            fetched = self.client.fetch(path, max_bytes=max_bytes, headers=HEADERS, validators=validators)
        except BudgetSpent as spent:
            self._spent = spent
            raise
        given = fetched.validators
        if fetched.unchanged and kept:
            # a 304 need not repeat what it confirms
            etag, last_modified = given.etag or kept.etag, given.last_modified or kept.last_modified
            return Kept(kept.body, self.snapshot, etag, last_modified, record)
        return Kept(distil(fetched.content), self.snapshot, given.etag, given.last_modified, record)

"""Asking a site once: from what is kept where that still holds, else over the wire, conditionally where it can be.

A list holds for one snapshot; the details of a work hold until a list says something else of the work. The caller
brings the function that reads an answer.

An address is gone where the site answers 404 or 410, or redirects it to an error page. Whatever else comes instead of
an answer (a page for maintenance, consent, login or a check for robots, most of all) is a failure: nothing is stored
of it, and the next run asks again.

Answers of one site, kept in one file from run to run. Knows neither HTTP nor what an answer means.

Not requests-cache or CacheControl: they keep what requests has already read and unpacked, and here a body must be
bounded before that; and they ask the clock what is still fresh, where here the snapshot of params.yaml decides, so
that the same params give the same catalog.
"""

import hashlib
import re
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from atelier.data.database import Database
from atelier.errors import AtelierError
from atelier.text import slug
from atelier.web.client import PoliteClient
from atelier.web.rate_limit import BudgetSpent
from atelier.web.response import FetchError, Redirected, TransientFetchError, Validators
from atelier.wikiart.formats import NotAPage

LAYOUT = 1  # of the table: another number is another file

CREATE = """
CREATE TABLE IF NOT EXISTS answers (
    path TEXT PRIMARY KEY, body BLOB, etag TEXT, last_modified TEXT, snapshot TEXT, record TEXT, gone TEXT
) WITHOUT ROWID"""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a path was answered: a body, or `gone`, the reason why there will be none.

    `snapshot` is the one at which it was last confirmed; `record` stands for what a list said of the work whose
    details these are.
    """

    body: bytes
    snapshot: str
    etag: str = ""
    last_modified: str = ""
    record: str = ""
    gone: str = ""


class Store:
    """The kept answers by path, for any number of threads; `path` None keeps them in memory alone.

    What is put is safe from a kill at once (from a power cut, after a moment). A file that is damaged is set aside,
    `tell` gets a sentence, and an empty one takes its place.
    """

    def __init__(self, path: Path | None = None, tell: Callable[[str], None] = lambda sentence: None) -> None:
        self._database = Database(path, (CREATE,), "the kept answers", tell)

    @classmethod
    def of_site(cls, folder: Path, base_url: str, tell: Callable[[str], None] = print) -> "Store":
        """The file of one site below `folder`."""
        name = f"{slug(base_url)[:60]}-{hashlib.sha256(base_url.encode()).hexdigest()[:8]}"
        return cls(folder / f"{name}.v{LAYOUT}.sqlite", tell)

    def get(self, path: str) -> Kept | None:
        """The answer kept for `path`, or None."""
        row = self._database.row(
            "SELECT body, snapshot, etag, last_modified, record, gone FROM answers WHERE path = ?", (path,)
        )
        if row is None:
            return None
        body, *others = row
        try:
            return Kept(zlib.decompress(body), *others)
        except (zlib.error, TypeError):
            return None

    def put(self, path: str, answer: Kept) -> None:
        """Keep an answer in the place of an earlier one."""
        self._database.rows(
            "INSERT OR REPLACE INTO answers (path, body, snapshot, etag, last_modified, record, gone) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                path, zlib.compress(answer.body, 6), answer.snapshot, answer.etag, answer.last_modified,
                answer.record, answer.gone,
            ),
        )  # fmt: skip

    def close(self) -> None:
        self._database.close()


T = TypeVar("T")

Kind = Literal["lists", "artists", "oeuvres", "details", "artist lists", "painting pages"]

HEADERS = {"X-Requested-With": "XMLHttpRequest", "Accept": "application/json, text/html;q=0.5"}

MAX_BYTES = 8_000_000  # a real page of sixty records has 25 kB

TRIES = 2  # what comes as something else is asked for once more

# a redirect to one of these says nothing about the address that was asked for
PASSING_PAGE = re.compile(
    r"log-?in|sign-?in|consent|maintenance|unavailable|captcha|challenge|verif|block|busy", re.IGNORECASE
)

# addresses of a kind in a row; WikiArt has one dead id among 223,095, so more of them are trouble of the site
MOST_REDIRECTED = 20

FEW_REDIRECTED = 5  # the same at the end of a harvest, where no answer follows


class Gone(AtelierError):
    """The site has no such thing."""


class Unreadable(TransientFetchError):
    """The site answers with something else than was asked for, which may pass."""


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
        self._answering: set[Kind] = set()  # kinds of which an answer came over the wire
        # by kind, since its last good answer: stored with the next one, which shows that the site works
        self._redirected: defaultdict[Kind, dict[str, Kept]] = defaultdict(dict)

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
        gone is not asked for again at this snapshot. Raises Gone, FetchError where the site fails, refuses or answers
        with something else (Unreadable), BudgetSpent where it must not be asked. `read` and `distil` raise NotAPage.
        """
        try:
            value = self._ask(kind, path, read, record, max_bytes, distil)
        except Gone:
            self._count(kind)
            raise
        self._count(kind)
        return value

    def _count(self, kind: Kind) -> None:
        with self._lock:
            self.answered[kind] += 1

    def unconfirmed(self) -> int:
        """How many redirected addresses may not be gone, because no answer of their kind shows that the site works.

        Stores the others; for the end of a harvest.
        """
        with self._lock:
            kinds = list(self._redirected)
        for kind in kinds:
            if kind in self._answering and len(self._redirected[kind]) <= FEW_REDIRECTED:
                self._store_redirected(kind)
        return sum(len(redirected) for redirected in self._redirected.values())

    def _ask(
        self,
        kind: Kind,
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
        trouble = ""
        is_data = kind != "painting pages"  # the only pages for people
        for _ in range(TRIES):
            try:
                answer = self._fetch(path, kept, record, max_bytes, distil, is_data)
                value = read(answer.body)
            except NotAPage as error:
                trouble, kept = f"the site answers with {error}", None
                continue
            except Redirected as error:
                raise self._gone_by_redirect(kind, path, error) from None
            except FetchError as error:
                if error.kind != "missing":
                    raise  # a refusal may be meant for us today, not for this path
                gone = Kept(b"", self.snapshot, gone=f"the site has none ({error.reason})")
                self._store.put(path, gone)
                raise Gone(gone.gone) from None
            self._store_redirected(kind)
            self._store.put(path, answer)
            return value
        raise Unreadable("error", self.base_url.rstrip("/") + path, trouble)

    def _gone_by_redirect(self, kind: Kind, path: str, error: Redirected) -> Gone | Unreadable:
        """What a redirect to another page means: a dead id, or trouble of the whole site where they do not end."""
        gone = Kept(b"", self.snapshot, gone=f"the site has none ({error.reason})")
        if PASSING_PAGE.search(urlsplit(error.target).path):
            return Unreadable("error", error.url, error.reason)
        with self._lock:
            self._redirected[kind][path] = gone
            if len(self._redirected[kind]) <= MOST_REDIRECTED:
                return Gone(gone.gone)
        return Unreadable("error", error.url, f"{error.reason}, as {MOST_REDIRECTED} addresses before it do")

    def _store_redirected(self, kind: Kind) -> None:
        """Keep what was redirected before an answer came: the site works, so those ids are dead."""
        with self._lock:
            self._answering.add(kind)
            redirected = self._redirected.pop(kind, {})
        if len(redirected) <= MOST_REDIRECTED:
            for path, gone in redirected.items():
                self._store.put(path, gone)

    def _fetch(
        self,
        path: str,
        kept: Kept | None,
        record: str,
        max_bytes: int,
        distil: Callable[[bytes], bytes],
        is_data: bool,
    ) -> Kept:
        if self._spent:
            raise self._spent  # known: no need to wait for a turn to hear it
        validators = Validators(kept.etag, kept.last_modified) if kept and not kept.gone else None
        try:
            fetched = self.client.fetch(
                path, max_bytes=max_bytes, headers=HEADERS, validators=validators, is_data=is_data
            )
        except BudgetSpent as spent:
            self._spent = spent
            raise
        given = fetched.validators
        if fetched.unchanged and kept:
            # a 304 need not repeat what it confirms
            etag, last_modified = given.etag or kept.etag, given.last_modified or kept.last_modified
            return Kept(kept.body, self.snapshot, etag, last_modified, record)
        return Kept(distil(fetched.content), self.snapshot, given.etag, given.last_modified, record)

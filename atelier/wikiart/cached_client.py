"""Requests to WikiArt through a cache in SQLite, so that a stopped harvest goes on where it was; and what failed.

A cached response is valid for the snapshot at which it was confirmed; the details of a work are valid until the work's
record in its oeuvre changes. A URL counts as not found if the site answers 404 or 410, or redirects it to an error
page. Any other unexpected response (a page for maintenance, consent, login or a robot check) is a failure: nothing is
cached, and the next run requests the URL again.

requests-cache and CacheControl are not used: they store what requests has already read and unpacked, and here a body
must be limited before that; and they decide by the clock what is fresh, where here the snapshot of params.yaml
decides, so that the same params give the same catalog.
"""

import hashlib
import re
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from atelier.data.database import Database
from atelier.errors import AtelierError, TransientError
from atelier.text import slug
from atelier.web.client import PoliteClient
from atelier.web.limits import BudgetSpent
from atelier.web.response import FetchError, Redirected, TransientFetchError, Validators
from atelier.web.robots import RobotsRefused
from atelier.wikiart.formats import UnexpectedContent

T = TypeVar("T")
RequestKind = Literal["lists", "artists", "oeuvres", "details", "artist lists", "painting pages"]

LAYOUT_VERSION = 1  # of the table, in the file's name
CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    path TEXT PRIMARY KEY, body BLOB, etag TEXT, last_modified TEXT, snapshot TEXT, record TEXT, gone TEXT
) WITHOUT ROWID"""
COLUMNS = "body, snapshot, etag, last_modified, record, gone"  # in the order of CachedResponse's fields

HEADERS = {"X-Requested-With": "XMLHttpRequest", "Accept": "application/json, text/html;q=0.5"}
MAX_BYTES = 8_000_000  # a real page of sixty records has 25 kB
MAX_TRIES = 2  # unexpected content is requested once more
# a redirect to one of these pages says nothing about the URL that was requested
TEMPORARY_PAGE = re.compile(r"(?i)log-?in|sign-?in|consent|maintenance|unavailable|captcha|challenge|verif|block|busy")
# Redirected URLs of a kind without a response of that kind between them: more of them are a failure of the site.
# WikiArt has one dead id among 223,095.
MAX_REDIRECTED = 20
MAX_REDIRECTED_AT_END = 5  # the same at the end of a harvest, where no response follows
MAX_FAILURES_IN_A_ROW = 3


class NotFound(AtelierError):
    """The site has no such page, list or work."""


class UnexpectedResponse(TransientFetchError):
    """The site answered with other content than was requested, which may be temporary."""


Failure = NotFound | FetchError | BudgetSpent
FAILURES = (NotFound, FetchError, BudgetSpent)


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """The cached response for one path: a body, or in `not_found` the reason why there is none."""

    body: bytes
    snapshot: str  # at which it was last confirmed
    etag: str = ""
    last_modified: str = ""
    fingerprint: str = ""  # of the oeuvre's record, for the details of a work
    not_found: str = ""


class ResponseCache(Database):
    """Cached responses by path, for any number of threads, in a file or, with `path` None, in memory."""

    def __init__(self, path: Path | None = None, tell: Callable[[str], None] = lambda sentence: None) -> None:
        super().__init__(path, (CREATE_TABLE,), "the cached responses", tell)

    @classmethod
    def of_site(cls, folder: Path, base_url: str, tell: Callable[[str], None] = print) -> Self:
        """Open the cache of one site, a file in `folder`."""
        name = f"{slug(base_url)[:60]}-{hashlib.sha256(base_url.encode()).hexdigest()[:8]}"
        return cls(folder / f"{name}.v{LAYOUT_VERSION}.sqlite", tell)

    def get(self, path: str) -> CachedResponse | None:
        """Return the cached response for `path`, or None if there is none or it is damaged."""
        row = self.row(f"SELECT {COLUMNS} FROM answers WHERE path = ?", (path,))
        try:
            return CachedResponse(zlib.decompress(row[0]), *row[1:]) if row else None
        except (zlib.error, TypeError):
            return None

    def put(self, path: str, response: CachedResponse) -> None:
        """Cache a response, replacing an earlier one."""
        body, *others = astuple(response)
        self.rows(
            f"INSERT OR REPLACE INTO answers (path, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (path, zlib.compress(body, 6), *others),
        )


class CachedClient:
    """A client with a cache, at one snapshot; for any number of threads."""

    def __init__(self, client: PoliteClient, cache: ResponseCache, snapshot: str) -> None:
        self.client, self.base_url, self.snapshot = client, client.base_url, snapshot
        self.responses: Counter[str] = Counter()  # that the catalog rests on, by kind, cached or not
        self._cache = cache
        self._lock = threading.Lock()
        self._budget_spent: BudgetSpent | None = None
        self._answering: set[RequestKind] = set()  # kinds of which a response came from the network
        # redirected URLs since the last response of their kind; the next response shows that the site works
        self._redirected: defaultdict[RequestKind, dict[str, CachedResponse]] = defaultdict(dict)

    def fetch(
        self,
        kind: RequestKind,
        path: str,
        parse: Callable[[bytes], T],
        *,
        fingerprint: str = "",
        max_bytes: int = MAX_BYTES,
        extract: Callable[[bytes], bytes] = lambda content: content,
    ) -> T:
        """Return what `parse` makes of the response for `path`; `extract` reduces it to what is cached and parsed.

        With a `fingerprint` a cached response is valid while that is the same. What was not found is not requested
        again at this snapshot. `parse` and `extract` raise UnexpectedContent. Raises NotFound; FetchError, also if the
        content is unexpected (UnexpectedResponse); BudgetSpent.
        """
        with self._counting(kind):
            cached = self._cache.get(path)
            if cached and (
                cached.snapshot == self.snapshot
                or (fingerprint and not cached.not_found and cached.fingerprint == fingerprint)
            ):
                if cached.not_found:
                    raise NotFound(cached.not_found)
                try:
                    return parse(cached.body)
                except UnexpectedContent:
                    cached = None  # damaged on disk
            reason = ""
            for _ in range(MAX_TRIES):
                try:
                    response = self._request(kind, path, cached, fingerprint, max_bytes, extract)
                    value = parse(response.body)
                except UnexpectedContent as error:
                    reason, cached = f"the site answers with {error}", None
                    continue
                except Redirected as error:
                    raise self._redirect_error(kind, path, error) from None
                except FetchError as error:
                    if error.kind != "missing":
                        raise  # a refusal may concern this client today, and not the path
                    not_found = self._not_found(error)
                    self._cache.put(path, not_found)
                    raise NotFound(not_found.not_found) from None
                self._cache_redirected(kind)
                self._cache.put(path, response)
                return value
            raise UnexpectedResponse("error", self.base_url.rstrip("/") + path, reason)

    def confirm_redirects(self) -> int:
        """At the end of a harvest, cache redirected URLs as not found if the site works; count those that remain."""
        for kind in list(self._redirected):
            if kind in self._answering and len(self._redirected[kind]) <= MAX_REDIRECTED_AT_END:
                self._cache_redirected(kind)
        return sum(len(redirected) for redirected in self._redirected.values())

    @contextmanager
    def _counting(self, kind: RequestKind) -> Iterator[None]:
        """Count one response of `kind` unless the block fails; NotFound is a response as well."""
        try:
            yield
        except NotFound:
            with self._lock:
                self.responses[kind] += 1
            raise
        with self._lock:
            self.responses[kind] += 1

    def _request(
        self, kind: RequestKind, path: str, cached: CachedResponse | None, fingerprint: str, max_bytes: int,
        extract: Callable[[bytes], bytes],
    ) -> CachedResponse:  # fmt: skip
        """Request `path`, conditionally if a response is cached."""
        if self._budget_spent:
            raise self._budget_spent  # without waiting for a permit
        conditional = Validators(cached.etag, cached.last_modified) if cached and not cached.not_found else None
        try:
            fetched = self.client.fetch(
                path,
                max_bytes=max_bytes,
                headers=HEADERS,
                validators=conditional,
                is_data=kind != "painting pages",  # all other kinds are JSON
            )
        except BudgetSpent as error:
            self._budget_spent = error
            raise
        new = fetched.validators
        if fetched.unchanged and cached:  # a 304 need not repeat the validators that it confirms
            new = Validators(new.etag or cached.etag, new.last_modified or cached.last_modified)
            content = cached.body
        else:
            content = extract(fetched.content)
        return CachedResponse(content, self.snapshot, new.etag, new.last_modified, fingerprint)

    def _redirect_error(self, kind: RequestKind, path: str, error: Redirected) -> NotFound | UnexpectedResponse:
        """The error for a redirect to another page: not found, or a failure of the site if redirects do not end."""
        if TEMPORARY_PAGE.search(urlsplit(error.target).path):
            return UnexpectedResponse("error", error.url, error.reason)
        not_found = self._not_found(error)
        with self._lock:
            self._redirected[kind][path] = not_found
            if len(self._redirected[kind]) <= MAX_REDIRECTED:
                return NotFound(not_found.not_found)
        return UnexpectedResponse("error", error.url, f"{error.reason}, as {MAX_REDIRECTED} addresses before it do")

    def _not_found(self, error: FetchError) -> CachedResponse:
        return CachedResponse(b"", self.snapshot, not_found=f"the site has none ({error.reason})")

    def _cache_redirected(self, kind: RequestKind) -> None:
        """Cache redirected URLs of a kind as not found, after a response has shown that the site works."""
        with self._lock:
            self._answering.add(kind)
            redirected = self._redirected.pop(kind, {})
        if len(redirected) <= MAX_REDIRECTED:
            for path, not_found in redirected.items():
                self._cache.put(path, not_found)


class FailureLog:
    """The failures of one harvest."""

    def __init__(self) -> None:
        self.permanent: list[str] = []  # URL and reason; not requested again at this snapshot
        self.temporary: list[str] = []  # URL and reason; requested again by the next run
        self.not_requested: Counter[str] = Counter()  # what the budget did not allow
        self.refused_by_robots = 0  # of the permanent ones
        self.unconfirmed = 0  # of the permanent ones: redirects that may be a failure of the site
        self.stopped_by: AtelierError | None = None
        self._budget_spent: BudgetSpent | None = None
        self._in_a_row = 0

    def add(self, failure: Failure, path: str, what: str, count: int = 1) -> None:
        """Record a failed request of `path` for `count` of `what`. Raises AtelierError if the site keeps failing."""
        if isinstance(failure, BudgetSpent):
            self._budget_spent = failure
            self.not_requested[what] += count
        elif isinstance(failure, NotFound | RobotsRefused):
            self.permanent.append(f"{path}: {failure if isinstance(failure, NotFound) else failure.reason}")
            self.refused_by_robots += isinstance(failure, RobotsRefused)
        else:
            self.temporary.append(f"{path}: {failure.reason}")
            self._in_a_row += 1
            if self._in_a_row == MAX_FAILURES_IN_A_ROW:
                self.stopped_by = self.stop_error(failure, f"{failure}; {MAX_FAILURES_IN_A_ROW} failures in a row")
                raise self.stopped_by

    def add_success(self) -> None:
        self._in_a_row = 0

    @staticmethod
    def stop_error(failure: FetchError, message: str) -> AtelierError:
        """The error that ends a harvest because of `failure`: a TransientError if that is one."""
        kind = TransientError if isinstance(failure, TransientError) else AtelierError
        return kind(f"{message}; what arrived is kept: run again to go on")

    def notes(self) -> list[str]:
        """Sentences for the notes of the coverage report."""
        permanent = [f"{_addresses(len(self.permanent))} without an answer at this site"] if self.permanent else []
        return self.incomplete_because() + permanent

    def incomplete_because(self) -> list[str]:
        """Sentences on why works may be missing; empty if everything was requested."""
        reasons = []
        if self._budget_spent:
            left = ", ".join(f"{count:,} {what}" for what, count in sorted(self.not_requested.items()))
            reasons.append(f"not asked: {left}; {self._budget_spent}")
        if self.refused_by_robots:
            reasons.append(f"{_addresses(self.refused_by_robots)} closed to robots by the site's own rules")
        if self.unconfirmed:
            reasons.append(f"{_addresses(self.unconfirmed)} redirected elsewhere: the next run asks again")
        if self.stopped_by:
            reasons.append(str(self.stopped_by))
        elif self.temporary:
            reasons.append(f"{_addresses(len(self.temporary))} failed this time: the next run asks again")
        return reasons


def _addresses(count: int) -> str:
    return f"{count:,} address{'es' if count != 1 else ''}"

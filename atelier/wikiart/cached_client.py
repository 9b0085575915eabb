"""Requests to WikiArt through a cache in SQLite, so that a harvest that was stopped goes on where it was.

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
from atelier.wikiart.formats import UnexpectedContent

T = TypeVar("T")
RequestKind = Literal["lists", "artists", "oeuvres", "details", "artist lists", "painting pages"]

LAYOUT_VERSION = 1  # of the table, in the file's name
CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    path TEXT PRIMARY KEY, body BLOB, etag TEXT, last_modified TEXT, snapshot TEXT, record TEXT, gone TEXT
) WITHOUT ROWID"""

HEADERS = {"X-Requested-With": "XMLHttpRequest", "Accept": "application/json, text/html;q=0.5"}
MAX_BYTES = 8_000_000  # a real page of sixty records has 25 kB
MAX_TRIES = 2  # unexpected content is requested once more
# a redirect to one of these pages says nothing about the URL that was requested
TEMPORARY_PAGE = re.compile(
    r"log-?in|sign-?in|consent|maintenance|unavailable|captcha|challenge|verif|block|busy", re.IGNORECASE
)
# Redirected URLs of a kind without a response of that kind between them: more of them are a failure of the site.
# WikiArt has one dead id among 223,095.
MAX_REDIRECTED = 20
MAX_REDIRECTED_AT_END = 5  # the same at the end of a harvest, where no response follows


class NotFound(AtelierError):
    """The site has no such page, list or work."""


class UnexpectedResponse(TransientFetchError):
    """The site answered with other content than was requested, which may be temporary."""


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """The cached response for one path: a body, or in `not_found` the reason why there is none.

    `snapshot` is the one at which it was last confirmed. `fingerprint` is that of the oeuvre's record, for the details
    of a work.
    """

    body: bytes
    snapshot: str
    etag: str = ""
    last_modified: str = ""
    fingerprint: str = ""
    not_found: str = ""


class ResponseCache:
    """Cached responses by path, for any number of threads; with `path` None they are kept in memory.

    A response that was put survives a kill at once, and a power cut after a moment. A damaged file is renamed,
    `tell` is called with a sentence about it, and an empty file takes its place.
    """

    def __init__(self, path: Path | None = None, tell: Callable[[str], None] = lambda sentence: None) -> None:
        self._database = Database(path, (CREATE_TABLE,), "the kept answers", tell)

    @classmethod
    def of_site(cls, folder: Path, base_url: str, tell: Callable[[str], None] = print) -> "ResponseCache":
        """Open the cache of one site, a file in `folder`."""
        name = f"{slug(base_url)[:60]}-{hashlib.sha256(base_url.encode()).hexdigest()[:8]}"
        return cls(folder / f"{name}.v{LAYOUT_VERSION}.sqlite", tell)

    def get(self, path: str) -> CachedResponse | None:
        """Return the cached response for `path`, or None if there is none or it is damaged."""
        row = self._database.row(
            "SELECT body, snapshot, etag, last_modified, record, gone FROM answers WHERE path = ?", (path,)
        )
        if row is None:
            return None
        body, *others = row
        try:
            return CachedResponse(zlib.decompress(body), *others)
        except (zlib.error, TypeError):
            return None

    def put(self, path: str, response: CachedResponse) -> None:
        """Cache a response, replacing an earlier one."""
        self._database.rows(
            "INSERT OR REPLACE INTO answers (path, body, snapshot, etag, last_modified, record, gone) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                path, zlib.compress(response.body, 6), response.snapshot, response.etag, response.last_modified,
                response.fingerprint, response.not_found,
            ),
        )  # fmt: skip

    def close(self) -> None:
        self._database.close()


class CachedClient:
    """A client with a cache, at one snapshot; for any number of threads.

    `responses` counts by kind the responses that the catalog rests on, from the cache or the network alike.
    """

    def __init__(self, client: PoliteClient, cache: ResponseCache, snapshot: str) -> None:
        self.client, self.snapshot = client, snapshot
        self.responses: Counter[str] = Counter()
        self._cache = cache
        self._lock = threading.Lock()
        self._budget_spent: BudgetSpent | None = None
        self._answering: set[RequestKind] = set()  # kinds of which a response came from the network
        # redirected URLs since the last response of their kind; the next response shows that the site works
        self._redirected: defaultdict[RequestKind, dict[str, CachedResponse]] = defaultdict(dict)

    @property
    def base_url(self) -> str:
        return self.client.base_url

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
        try:
            value = self._fetch(kind, path, parse, fingerprint, max_bytes, extract)
        except NotFound:
            self._count(kind)
            raise
        self._count(kind)
        return value

    def confirm_redirects(self) -> int:
        """Cache redirected URLs as not found if the site works; return the number of those that remain unconfirmed.

        For the end of a harvest.
        """
        with self._lock:
            kinds = list(self._redirected)
        for kind in kinds:
            if kind in self._answering and len(self._redirected[kind]) <= MAX_REDIRECTED_AT_END:
                self._cache_redirected(kind)
        return sum(len(redirected) for redirected in self._redirected.values())

    def _count(self, kind: RequestKind) -> None:
        with self._lock:
            self.responses[kind] += 1

    def _fetch(
        self,
        kind: RequestKind,
        path: str,
        parse: Callable[[bytes], T],
        fingerprint: str,
        max_bytes: int,
        extract: Callable[[bytes], bytes],
    ) -> T:
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

    def _request(
        self,
        kind: RequestKind,
        path: str,
        cached: CachedResponse | None,
        fingerprint: str,
        max_bytes: int,
        extract: Callable[[bytes], bytes],
    ) -> CachedResponse:
        """Request `path`, conditionally if a response is cached."""
        if self._budget_spent:
            raise self._budget_spent  # without waiting for a permit
        conditional = Validators(cached.etag, cached.last_modified) if cached and not cached.not_found else None
        is_data = kind != "painting pages"  # all other kinds are JSON
        try:
            fetched = self.client.fetch(
                path, max_bytes=max_bytes, headers=HEADERS, validators=conditional, is_data=is_data
            )
        except BudgetSpent as error:
            self._budget_spent = error
            raise
        new = fetched.validators
        if fetched.unchanged and cached:
            # a 304 need not repeat the validators that it confirms
            etag, last_modified = new.etag or cached.etag, new.last_modified or cached.last_modified
            return CachedResponse(cached.body, self.snapshot, etag, last_modified, fingerprint)
        return CachedResponse(extract(fetched.content), self.snapshot, new.etag, new.last_modified, fingerprint)

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

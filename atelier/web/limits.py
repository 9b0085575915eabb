"""Limits on requests: the hosts and addresses that are allowed, the rate at each host, and a budget for all requests.

All threads share the rates, and processes share the budget through a file. Settings use this module, so it opens no
connection and imports no HTTP library.
"""

import fcntl
import ipaddress
import math
import os
import re
import threading
import time
from collections import deque
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from atelier.errors import AtelierError, counted

WIKIART_HOST = re.compile(r"(?:[a-z0-9-]+\.)*wikiart\.org")
DEFAULT_PORTS = (80, 443)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is allocated to the public internet
# URL parsers disagree on where the host ends: `https://elsewhere\.wikiart.org/`
AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f\\]")


def is_allowed(url: str, base_url: str) -> bool:
    """Whether a page of `base_url` may redirect or link the client to `url`.

    Allowed are http(s) URLs on the host and port of `base_url`, and, unless that is a loopback address, on
    *.wikiart.org. URLs with credentials are never allowed, so `https://wikiart.org@elsewhere/` is not.
    """
    if AMBIGUOUS.search(url):
        return False
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
        host, port, base_port = parts.hostname or "", _port(parts), _port(base)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or parts.username is not None or parts.password is not None:
        return False
    if host == base.hostname and port == base_port:
        return True
    if is_loopback(base_url) or port not in DEFAULT_PORTS:
        return False
    return WIKIART_HOST.fullmatch(host) is not None or (host == base.hostname and base_port in DEFAULT_PORTS)


def is_loopback(url: str) -> bool:
    """Whether the host of `url` is localhost or a loopback address. Names are not resolved."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    An IPv6 address that embeds an IPv4 address (mapped, NAT64, 6to4) is public if that address is.
    """
    number: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
    if isinstance(number, ipaddress.IPv6Address):
        embedded = number.ipv4_mapped or number.sixtofour
        if embedded is None and number in NAT64:
            embedded = ipaddress.IPv4Address(int(number) & 0xFFFF_FFFF)
        if embedded is None and number not in GLOBAL_UNICAST:
            return False
        number = embedded or number
    return number.is_global and not number.is_multicast


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


class Stopped(AtelierError):
    """The client was stopped before the request was sent or its response was complete."""


class WaitTooLong(Exception):
    """The next request to a host must wait for `seconds`, too long. `why` is empty if the host asked for that."""

    def __init__(self, seconds: float, why: str = "") -> None:
        asks = f"asks for a pause of {seconds:,.0f} s: run again then"
        super().__init__(f"{why}: it gets no requests for {seconds:,.0f} s, run again then" if why else asks)


class RateLimiter:
    """Permits to send requests to one host, for all threads: slower after errors, slowly back to the rate (AIMD).

    Permits are spaced evenly, and no more than `rate_per_s` requests are sent in any second, however long each takes
    from its permit until it is sent: a permit counts from when it is given until a second after its request was sent.
    """

    WINDOW_MARGIN = 1.04  # a second and its spacing are this much longer, for delays on the way to the site
    DECREASE_FACTOR = 0.8  # after an error
    DECREASE_EVERY_S = 1.0  # errors within a second of the last decrease have the same cause
    INCREASE_RATIO = 0.05  # of the set rate
    INCREASE_EVERY_S = 2.0
    MIN_RATIO = 1 / 20  # of the set rate
    UNLIMITED_RATE_PER_S = 100.0  # from which a limiter without a set rate decreases
    POLL_S = 0.02  # between checks for a request that was given a permit and is not sent yet

    def __init__(self, rate_per_s: float | None, stop: threading.Event, max_wait_s: float = math.inf) -> None:
        self._set_rate = rate_per_s or math.inf
        self._ceiling = rate_per_s or self.UNLIMITED_RATE_PER_S
        self._rate = self._set_rate
        self._stop, self._max_wait_s = stop, max_wait_s
        self._queue = threading.Lock()  # held while waiting, so that permits are spaced when they are given
        self._state = threading.Lock()
        self._unsent = 0  # permits given whose requests have not been sent
        self._sent_s: deque[float] = deque()  # when the latest requests were sent
        self._last_s = self._paused_until_s = self._error_s = self._decreased_s = -math.inf
        self._pause_why = ""

    @property
    def rate_per_s(self) -> float:
        """The present rate; infinite where none is set and no error has occurred."""
        with self._state:
            self._recover(time.monotonic())
            return self._rate

    def acquire(self) -> "Permit":
        """Wait until a request may be sent. Raises Stopped, or WaitTooLong if the wait would exceed `max_wait_s`."""
        with self._queue:
            while True:
                if self._stop.is_set():
                    raise Stopped("stopped")
                with self._state:
                    wait_s = self._wait_s(time.monotonic())
                if wait_s <= 0:
                    return Permit(self)
                if wait_s > self._max_wait_s:
                    raise WaitTooLong(wait_s, self._pause_why)
                self._stop.wait(wait_s)

    def cap(self, rate_per_s: float) -> None:
        """Lower the set rate to `rate_per_s`; a higher one changes nothing."""
        with self._state:
            self._set_rate = self._ceiling = min(self._set_rate, rate_per_s)
            self._rate = min(self._rate, self._set_rate)

    def pause(self, seconds: float, why: str = "") -> None:
        """Give no permit for `seconds`, because the site said so or for the reason `why`."""
        until_s = time.monotonic() + seconds
        with self._state:
            if until_s > self._paused_until_s:
                self._paused_until_s, self._pause_why = until_s, why

    def slow_down(self) -> None:
        """Decrease the rate after an error."""
        now_s = time.monotonic()
        with self._state:
            self._error_s = now_s
            if now_s - self._decreased_s < self.DECREASE_EVERY_S:
                return
            self._decreased_s = now_s
            rate = min(self._rate, self._ceiling) * self.DECREASE_FACTOR
            self._rate = max(rate, self._ceiling * self.MIN_RATIO)

    def sent(self) -> None:
        """Record that a request with a permit was sent, or never will be."""
        with self._state:
            self._unsent -= 1
            if self._rate < math.inf:
                self._sent_s.append(time.monotonic())

    def _wait_s(self, now_s: float) -> float:
        """Seconds until a permit may be given; if there are none, the permit is counted as given."""
        self._recover(now_s)
        wait_s = self._paused_until_s - now_s
        if self._rate < math.inf:
            spacing_s = self.WINDOW_MARGIN / self._rate
            window_s = max(self.WINDOW_MARGIN, spacing_s)
            while self._sent_s and self._sent_s[0] <= now_s - window_s:
                self._sent_s.popleft()
            wait_s = max(wait_s, self._last_s + spacing_s - now_s)
            if self._unsent + len(self._sent_s) >= max(1, math.floor(self._rate)):
                wait_s = max(wait_s, self._sent_s[0] + window_s - now_s if self._sent_s else self.POLL_S)
        if wait_s <= 0:
            self._last_s = now_s
            self._unsent += 1
        return wait_s

    def _recover(self, now_s: float) -> None:
        steps = int((now_s - self._error_s) / self.INCREASE_EVERY_S) if self._rate < self._set_rate else 0
        if steps > 0:
            self._error_s += steps * self.INCREASE_EVERY_S
            self._rate += steps * self.INCREASE_RATIO * self._ceiling
            if self._rate >= self._ceiling:
                self._rate = self._set_rate


class Permit:
    """Permission to send one request."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter: RateLimiter | None = limiter

    def sent(self) -> None:
        """Record that the request was sent, or never will be; further calls do nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter:
            limiter.sent()


class BudgetSpent(AtelierError):
    """The budget allows no further request."""


class Budget:
    """At most `limit` requests (None: only counted), by all threads and by all processes that share `ledger`.

    The ledger is a file that grows by one byte a request, before the request is sent: a kill may lose a request that
    was counted and never sent, but never uncounts one. Without a ledger the count lasts as long as this object.
    """

    def __init__(self, limit: int | None, ledger: Path | None) -> None:
        self.limit, self.ledger = limit, ledger
        self._in_memory = 0
        self._lock = threading.Lock()
        if ledger:
            ledger.parent.mkdir(parents=True, exist_ok=True)

    @property
    def spent(self) -> int:
        """The number of requests counted so far."""
        if self.ledger is None:
            return self._in_memory
        try:
            return self.ledger.stat().st_size
        except FileNotFoundError:
            return 0

    def spend(self) -> None:
        """Count one request that is about to be sent. Raises BudgetSpent if the limit is reached."""
        if self.ledger is None:
            with self._lock:
                self._check(self._in_memory)
                self._in_memory += 1
            return
        # opened each time: flock belongs to one opening of the file, so this also excludes other threads
        ledger = os.open(self.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            self._check(os.fstat(ledger).st_size)
            os.write(ledger, b".")
        finally:
            os.close(ledger)

    def _check(self, spent: int) -> None:
        if self.limit is not None and spent >= self.limit:
            raise BudgetSpent(
                f"the budget of {counted(self.limit, 'request')} is spent; what has arrived is kept: "
                "raise scrape.wikiart.max_requests and run again to go on"
            )

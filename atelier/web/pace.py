"""The common pace of many threads at each host: evenly spaced, slower after trouble. Knows nothing of HTTP.

A hard limit on how many requests may leave, whoever sends them and whatever is killed. Knows nothing of HTTP.
"""

import fcntl
import math
import os
import threading
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

from atelier.errors import AtelierError
from atelier.settings.messages import counted


class Stopped(AtelierError):
    """The client was told to stop; says nothing about the address that was being asked for."""


class Closed(Exception):
    """The host is to be left alone for longer than anybody waits; `why`, where it is not the host's own wish."""

    def __init__(self, seconds: float, why: str = "") -> None:
        super().__init__(
            f"{why}: left alone for {seconds:,.0f} s, run again then"
            if why
            else f"wants to be left alone for {seconds:,.0f} s: run again then"
        )


class Paces:
    """A pace for each host, made when it is first asked, each as fast as `rate_per_s` at most (None: no limit)."""

    def __init__(self, rate_per_s: float | None, longest_wait_s: float, stop: threading.Event) -> None:
        self._rate_per_s, self._longest_wait_s, self._stop = rate_per_s, longest_wait_s, stop
        self._lock = threading.Lock()
        self._hosts: dict[str, Pace] = {}

    def of(self, url: str) -> "Pace":
        """The pace of the host that `url` names; its ports share it."""
        host = urlsplit(url).hostname or ""
        with self._lock:
            if host not in self._hosts:
                self._hosts[host] = Pace(self._rate_per_s, self._stop, self._longest_wait_s)
            return self._hosts[host]


class Pace:
    """Turns to leave for all threads, slower after trouble, slowly back without (AIMD).

    Turns are spaced evenly, and within any second no more requests leave than the rate allows, however long the one
    or other takes from its turn until it is on the wire: a turn counts from its beginning, and ends a second after
    its request has left.
    """

    MARGIN = 1.04  # what the way to the site may add to and take from the second
    FALL, RISE = 0.8, 0.05  # ×0.8 at trouble; +5 % of the set rate per RISE_S without
    RISE_S = 2.0
    FALL_S = 1.0  # trouble within a second of the last belongs to the same jam
    LOWEST = 1 / 20  # of the set rate
    UNLIMITED = 100.0  # where a pace without limit starts when it must slow down after all
    LOOK_S = 0.02  # how often it is looked whether one of too many slow starters has left

    def __init__(
        self, rate_per_s: float | None, stop: threading.Event, longest_wait_s: float = math.inf
    ) -> None:
        self._set = rate_per_s or math.inf
        self._ceiling = rate_per_s or self.UNLIMITED
        self._rate = self._set
        self._stop, self._longest_wait_s = stop, longest_wait_s
        # held while waiting: turns are spaced as they are taken, not as planned
        self._queue = threading.Lock()
        self._state = threading.Lock()
        self._starting = 0  # turns taken whose requests have not left
        self._left_s: deque[float] = deque()  # when the latest left
        self._last_s = self._paused_until_s = self._trouble_s = self._fell_s = -math.inf
        self._pause_why = ""

    @property
    def rate_per_s(self) -> float:
        with self._state:
            self._recover(time.monotonic())
            return self._rate

    def turn(self) -> "Turn":
        """The next turn, when its time has come. Raises Stopped, or Closed where that is too far off."""
        with self._queue:
            while True:
                if self._stop.is_set():
                    raise Stopped("stopped")
                with self._state:
                    wait_s = self._wait_s(time.monotonic())
                if wait_s <= 0:
                    return Turn(self)
                if wait_s > self._longest_wait_s:
                    raise Closed(wait_s, self._pause_why)
                self._stop.wait(wait_s)

    def limit(self, rate_per_s: float) -> None:
        """Never be faster than this from now on: the site said so."""
        with self._state:
            self._set = self._ceiling = min(self._set, rate_per_s)
            self._rate = min(self._rate, self._set)

    def pause(self, seconds: float, why: str = "") -> None:
        """Let nothing leave for so long: the site said so, or `why`."""
        until_s = time.monotonic() + seconds
        with self._state:
            if until_s > self._paused_until_s:
                self._paused_until_s, self._pause_why = until_s, why

    def slow_down(self) -> None:
        """Answer to one sign of trouble."""
        now_s = time.monotonic()
        with self._state:
            self._trouble_s = now_s
            if now_s - self._fell_s < self.FALL_S:
                return
            self._fell_s = now_s
            self._rate = max(min(self._rate, self._ceiling) * self.FALL, self._ceiling * self.LOWEST)

    def left(self) -> None:
        """One request of those that had their turn is on the wire."""
        with self._state:
            self._starting -= 1
            if self._rate < math.inf:
                self._left_s.append(time.monotonic())

    def _wait_s(self, now_s: float) -> float:
        """Seconds until it may be somebody's turn; where there are none, it is."""
        self._recover(now_s)
        wait_s = self._paused_until_s - now_s
        if self._rate < math.inf:
            spacing_s = self.MARGIN / self._rate
            window_s = max(self.MARGIN, spacing_s)
            while self._left_s and self._left_s[0] <= now_s - window_s:
                self._left_s.popleft()
            wait_s = max(wait_s, self._last_s + spacing_s - now_s)
            if self._starting + len(self._left_s) >= max(1, math.floor(self._rate)):
                wait_s = max(wait_s, self._left_s[0] + window_s - now_s if self._left_s else self.LOOK_S)
        if wait_s <= 0:
            self._last_s = now_s
            self._starting += 1
        return wait_s

    def _recover(self, now_s: float) -> None:
        steps = int((now_s - self._trouble_s) / self.RISE_S) if self._rate < self._set else 0
        if steps > 0:
            self._trouble_s += steps * self.RISE_S
            self._rate += steps * self.RISE * self._ceiling
            if self._rate >= self._ceiling:
                self._rate = self._set


class Turn:
    """One request's leave to go."""

    def __init__(self, pace: Pace) -> None:
        self._pace: Pace | None = pace

    def left(self) -> None:
        """The request is on the wire, or never will be; saying so twice is saying so once."""
        pace, self._pace = self._pace, None
        if pace:
            pace.left()


class BudgetSpent(AtelierError):
    """Nothing more may be asked."""


class Budget:
    """At most `limit` requests (None: counted only), over all threads, and over all processes that share `ledger`.

    The ledger is a file that grows by one byte a request, before the request leaves: a kill may cost a request
    that was paid for and never sent, but no kill gives one back. Without a ledger the count is this object's own.
    """

    def __init__(self, limit: int | None, ledger: Path | None) -> None:
        self.limit, self.ledger = limit, ledger
        self._unwritten = 0
        self._lock = threading.Lock()
        if ledger:
            ledger.parent.mkdir(parents=True, exist_ok=True)

    @property
    def spent(self) -> int:
        """How many requests have been counted."""
        if self.ledger is None:
            return self._unwritten
        try:
            return self.ledger.stat().st_size
        except FileNotFoundError:
            return 0

    def spend(self) -> None:
        """Count one request that is about to leave. Raises BudgetSpent where it may not."""
        if self.ledger is None:
            with self._lock:
                self._check(self._unwritten)
                self._unwritten += 1
            return
        # opened each time: a lock belongs to one opening of the file, so it holds between threads as well
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

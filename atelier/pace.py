"""The common pace of many threads at each host: evenly spaced, slower after trouble. Knows nothing of HTTP."""

import threading
import time
from urllib.parse import urlsplit

from atelier.errors import AtelierError


class Stopped(AtelierError):
    """The client was told to stop; says nothing about the address that was being asked for."""


class Closed(Exception):
    """The host wants to be left alone for longer than anybody waits: `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wants to be left alone for {seconds:,.0f} s: run again then")
        self.seconds = seconds


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
    """Evenly spaced departures for all threads of a client; slower after trouble, slowly back without (AIMD)."""

    MARGIN = 1.04  # arrival jitter must not push a site's count over the set rate in any one second
    FALL, RISE = 0.8, 0.05  # ×0.8 at trouble; +5 % of the set rate per RISE_S without
    RISE_S = 2.0
    FALL_S = 1.0  # trouble within a second of the last belongs to the same jam
    UNLIMITED = 100.0  # where a pace without limit starts when it must slow down after all

    def __init__(
        self, rate_per_s: float | None, stop: threading.Event, longest_wait_s: float = float("inf")
    ) -> None:
        self._set = rate_per_s or float("inf")
        self._ceiling = rate_per_s or self.UNLIMITED
        self._rate = self._set
        self._stop, self._longest_wait_s = stop, longest_wait_s
        # held while waiting: departures are spaced as they happen, not as planned
        self._turn = threading.Lock()
        self._state = threading.Lock()
        self._last_s = self._paused_until_s = self._trouble_s = self._fell_s = float("-inf")

    @property
    def rate_per_s(self) -> float:
        with self._state:
            self._recover(time.monotonic())
            return self._rate

    def wait(self) -> None:
        """Return when the next request may leave. Raises Stopped, or Closed where that is too far off."""
        with self._turn:
            while True:
                now_s = time.monotonic()
                with self._state:
                    self._recover(now_s)
                    ready_s = max(self._last_s + self.MARGIN / self._rate, self._paused_until_s)
                if self._stop.is_set():
                    raise Stopped("stopped")
                if now_s >= ready_s:
                    self._last_s = now_s
                    return
                if ready_s - now_s > self._longest_wait_s:
                    raise Closed(ready_s - now_s)
                self._stop.wait(ready_s - now_s)

    def limit(self, rate_per_s: float) -> None:
        """Never be faster than this from now on: the site said so."""
        with self._state:
            self._set = self._ceiling = min(self._set, rate_per_s)
            self._rate = min(self._rate, self._set)

    def pause(self, seconds: float) -> None:
        """Let nothing leave for so long: the site said so."""
        with self._state:
            self._paused_until_s = max(self._paused_until_s, time.monotonic() + seconds)

    def slow_down(self) -> None:
        """Answer to one sign of trouble."""
        now_s = time.monotonic()
        with self._state:
            self._trouble_s = now_s
            if now_s - self._fell_s < self.FALL_S:
                return
            self._fell_s = now_s
            self._rate = max(min(self._rate, self._ceiling) * self.FALL, self._ceiling / 20)

    def _recover(self, now_s: float) -> None:
        steps = int((now_s - self._trouble_s) / self.RISE_S) if self._rate < self._set else 0
        if steps > 0:
            self._trouble_s += steps * self.RISE_S
            self._rate += steps * self.RISE * self._ceiling
            if self._rate >= self._ceiling:
                self._rate = self._set

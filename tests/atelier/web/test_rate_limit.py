"""The rate limiter: spacing, counting, slowing down and recovery."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from atelier.web.limits import RateLimiter, WaitTooLong


def test_errors_lower_the_rate_and_time_without_errors_restores_it(monkeypatch):
    monkeypatch.setattr(RateLimiter, "INCREASE_EVERY_S", 0.02)
    limiter = RateLimiter(10, threading.Event())
    limiter.slow_down()
    limiter.slow_down()  # counts as the same error
    assert limiter.rate_per_s == pytest.approx(8.0, abs=1.1)
    time.sleep(0.2)
    assert limiter.rate_per_s == 10


def test_the_rate_never_falls_below_a_twentieth(monkeypatch):
    monkeypatch.setattr(RateLimiter, "DECREASE_EVERY_S", 0.0)
    limiter = RateLimiter(10, threading.Event())
    for _ in range(50):
        limiter.slow_down()
    assert limiter.rate_per_s == pytest.approx(0.5)


def test_a_limiter_without_a_rate_gets_one_after_an_error(monkeypatch):
    monkeypatch.setattr(RateLimiter, "INCREASE_EVERY_S", 0.02)
    limiter = RateLimiter(None, threading.Event())
    assert limiter.rate_per_s == float("inf")
    limiter.slow_down()
    assert limiter.rate_per_s <= 100
    time.sleep(0.2)
    assert limiter.rate_per_s == float("inf")


def test_permits_are_evenly_spaced():
    limiter, sent_s, lock = RateLimiter(50, threading.Event()), [], threading.Lock()

    def send() -> None:
        for _ in range(5):
            limiter.acquire().sent()
            with lock:
                sent_s.append(time.monotonic())

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(send) for _ in range(4)]:
            future.result()
    sent_s.sort()
    assert sent_s[-1] - sent_s[0] >= 19 / 50
    assert sum(later - earlier < 0.015 for earlier, later in pairwise(sent_s)) <= 2


@pytest.mark.parametrize("lateness_s", [0.0, 0.7])
def test_requests_that_are_sent_late_never_exceed_the_rate_in_any_second(lateness_s):
    limiter, sent_s, lock = RateLimiter(20, threading.Event()), [], threading.Lock()

    def send(late: bool) -> None:
        permit = limiter.acquire()
        if late:  # a slow handshake: later requests must not add to it in one second
            time.sleep(lateness_s)
        permit.sent()
        permit.sent()  # the second call does nothing
        with lock:
            sent_s.append(time.monotonic())

    with ThreadPoolExecutor(30) as pool:
        for future in [pool.submit(send, n % 3 == 0) for n in range(30)]:
            future.result()
    sent_s.sort()
    assert max(sum(first <= other < first + 1 for other in sent_s) for first in sent_s) <= 20
    assert sent_s[-1] - sent_s[0] < 4


def test_a_wait_longer_than_max_wait_s_is_an_error():
    limiter = RateLimiter(10, threading.Event(), max_wait_s=1.0)
    limiter.acquire().sent()
    limiter.pause(3600)
    with pytest.raises(WaitTooLong, match="3,600 s"):
        limiter.acquire()


def test_cap_lowers_the_rate_and_never_raises_it():
    limiter = RateLimiter(10, threading.Event())
    for rate_per_s, expected in ((20, 10), (2, 2), (5, 2)):
        limiter.cap(rate_per_s)
        assert limiter.rate_per_s == expected

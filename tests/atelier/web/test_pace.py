"""Turns to leave: spaced, counted, slowed down and given back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from atelier.web.pace import Closed, Pace


def test_trouble_slows_the_pace_and_quiet_restores_it(monkeypatch):
    monkeypatch.setattr(Pace, "RISE_S", 0.02)
    pace = Pace(10, threading.Event())
    pace.slow_down()
    pace.slow_down()  # the same jam
    assert pace.rate_per_s == pytest.approx(8.0, abs=1.1)
    time.sleep(0.2)
    assert pace.rate_per_s == 10


def test_the_pace_never_falls_below_a_twentieth(monkeypatch):
    monkeypatch.setattr(Pace, "FALL_S", 0.0)
    pace = Pace(10, threading.Event())
    for _ in range(50):
        pace.slow_down()
    assert pace.rate_per_s == pytest.approx(0.5)


def test_an_unlimited_pace_learns_a_limit_from_trouble(monkeypatch):
    monkeypatch.setattr(Pace, "RISE_S", 0.02)
    pace = Pace(None, threading.Event())
    assert pace.rate_per_s == float("inf")
    pace.slow_down()
    assert pace.rate_per_s <= 100
    time.sleep(0.2)
    assert pace.rate_per_s == float("inf")


def test_departures_are_spaced_as_they_happen():
    pace, departures, lock = Pace(50, threading.Event()), [], threading.Lock()

    def depart() -> None:
        for _ in range(5):
            pace.turn().left()
            with lock:
                departures.append(time.monotonic())

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(depart) for _ in range(4)]:
            future.result()
    departures.sort()
    assert departures[-1] - departures[0] >= 19 / 50
    assert sum(later - earlier < 0.015 for earlier, later in pairwise(departures)) <= 2


@pytest.mark.parametrize("lateness_s", [0.0, 0.7])
def test_requests_that_leave_late_are_never_too_many_in_one_second(lateness_s):
    pace, left, lock = Pace(20, threading.Event()), [], threading.Lock()

    def depart(late: bool) -> None:
        turn = pace.turn()
        if late:  # a slow handshake: the next ones must not crowd around it
            time.sleep(lateness_s)
        turn.left()
        turn.left()  # saying it twice is saying it once
        with lock:
            left.append(time.monotonic())

    with ThreadPoolExecutor(30) as pool:
        for future in [pool.submit(depart, n % 3 == 0) for n in range(30)]:
            future.result()
    left.sort()
    assert max(sum(first <= other < first + 1 for other in left) for first in left) <= 20
    assert left[-1] - left[0] < 4


def test_a_wait_that_nobody_would_wait_is_an_answer():
    pace = Pace(10, threading.Event(), longest_wait_s=1.0)
    pace.turn().left()
    pace.pause(3600)
    with pytest.raises(Closed, match="3,600 s"):
        pace.turn()


def test_a_site_may_set_a_lower_rate_and_never_a_higher():
    pace = Pace(10, threading.Event())
    for rate_per_s, expected in ((20, 10), (2, 2), (5, 2)):
        pace.limit(rate_per_s)
        assert pace.rate_per_s == expected

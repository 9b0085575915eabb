"""The polite client against a look-alike that counts, fails and attacks."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from atelier.answers import retry_after_s
from atelier.errors import AtelierError
from atelier.pace import Pace
from atelier.polite import FetchError, PoliteClient, Stopped
from tests.lookalike import PLACEHOLDER, Offer, Site, lookalike
from tests.pictures import jpeg

SEA = jpeg((20, 60, 160))
MAX_BYTES = 1_000_000


@pytest.fixture
def site():
    with lookalike({"genre/marina": [Offer(id="0" * 24, image=SEA)]}) as site:
        yield site


@pytest.fixture
def client(site):
    with client_of(site) as client:
        yield client


def client_of(site: Site, rate_per_s: float | None = None, retries: int = 2) -> PoliteClient:
    return PoliteClient(
        site.base_url, contact="", rate_per_s=rate_per_s, retries=retries, timeout_s=1.0, backoff_s=0.01
    )


def path(site: Site) -> str:
    return site.path_of(site.lists["genre/marina"][0])


def refusal(client: PoliteClient, url: str, max_bytes: int = MAX_BYTES) -> FetchError:
    with pytest.raises(FetchError) as caught:
        client.fetch(url, max_bytes=max_bytes)
    return caught.value


def test_a_good_answer_arrives_whole(site, client):
    fetched = client.fetch(path(site), max_bytes=MAX_BYTES)
    assert (fetched.content, fetched.content_type) == (SEA, "image/jpeg")
    assert fetched.url == site.base_url + path(site)


def test_an_answer_of_exactly_the_limit_is_not_too_large(site, client):
    assert client.fetch(path(site), max_bytes=len(SEA)).content == SEA
    assert refusal(client, path(site), max_bytes=len(SEA) - 1).kind == "too-large"


def test_the_user_agent_says_who_asks(site):
    with PoliteClient(
        site.base_url, contact="me@example.org", rate_per_s=None, retries=0, timeout_s=5
    ) as client:
        client.fetch(path(site), max_bytes=MAX_BYTES, headers={"X-Requested-With": "XMLHttpRequest"})
    request = site.requests[0]
    assert re.fullmatch(
        r"Mozilla/5\.0 \(compatible; Atelier/\d+\.\d+\.\d+; \+me@example\.org\)", request.user_agent
    )
    assert request.headers["X-Requested-With"] == "XMLHttpRequest"


def test_a_site_that_is_not_ours_is_never_asked_anonymously():
    with pytest.raises(AtelierError, match=r"scrape\.wikiart\.contact"):
        PoliteClient("https://www.wikiart.org", contact="", rate_per_s=1, retries=0, timeout_s=1)


def test_eight_threads_never_exceed_the_set_rate(site):
    until_s = time.monotonic() + 2.0

    def ask(client: PoliteClient) -> None:
        while time.monotonic() < until_s:
            client.fetch(path(site), max_bytes=MAX_BYTES)

    with client_of(site, rate_per_s=20) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [client] * 8))
    assert site.peak_per_s() <= 20
    assert (
        len(site.requests) >= 28
    )  # and the pace is used: 20/s less the margin, on a machine that may be busy


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop", "truncate", "gzip-cut"])
def test_passing_trouble_is_tried_again(site, client, fault):
    site.fail(path(site), fault)
    assert client.fetch(path(site), max_bytes=MAX_BYTES).content == SEA
    assert site.asked(path(site)) == 2


@pytest.mark.parametrize("fault", ["500", "drop", "truncate"])
def test_lasting_trouble_is_given_up_after_the_set_retries(site, client, fault):
    site.fail(path(site), *[fault] * 9)
    error = refusal(client, path(site))
    assert error.kind == "error" and "3 tries" in error.reason
    assert site.asked(path(site)) == 3
    assert site.base_url not in error.reason and site.base_url in str(error)


@pytest.mark.parametrize(("answer", "kind"), [("404", "missing"), ("403", "refused")])
def test_a_clear_no_is_not_asked_twice(site, client, answer, kind):
    site.fail(path(site), answer)
    assert refusal(client, path(site)).kind == kind
    assert site.asked(path(site)) == 1


@pytest.mark.parametrize("answer", ["huge", "endless", "gzip-bomb"])
def test_too_many_bytes_are_cut_off(site, client, answer):
    site.fail(path(site), answer)
    began_s = time.monotonic()
    assert refusal(client, path(site)).kind == "too-large"
    assert time.monotonic() - began_s < 5
    assert site.asked(path(site)) == 1


def test_an_answer_that_trickles_is_given_up(site):
    site.fail(path(site), "drip")
    with client_of(site, retries=0) as client:
        began_s = time.monotonic()
        error = refusal(client, path(site))
    assert error.kind == "error" and "trickles" in error.reason
    assert time.monotonic() - began_s < 4  # it would drip for eight minutes


def test_gzip_is_unpacked_and_other_encodings_are_refused(site, client):
    site.fail(path(site), "gzip", "odd-encoding")
    assert client.fetch(path(site), max_bytes=MAX_BYTES).content == SEA
    assert "encoding 'br'" in refusal(client, path(site)).reason


def test_redirects_are_followed_on_the_same_site(site, client):
    site.fail(path(site), "redirect", "placeholder")
    assert client.fetch(path(site), max_bytes=MAX_BYTES).url.endswith(PLACEHOLDER)


def test_redirects_to_foreign_hosts_are_refused(site, client):
    site.fail(path(site), "foreign-redirect")
    error = refusal(client, path(site))
    assert error.kind == "refused" and "elsewhere.invalid" in error.reason


def test_redirects_in_a_circle_are_refused(site, client):
    site.fail(path(site), "redirect-loop")
    assert refusal(client, path(site)).kind == "refused"
    assert site.asked(path(site)) == 6


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.invalid/sea.jpg",
        "https://www.wikiart.org/sea.jpg",
        "file:///etc/passwd",
        "http://[::1/sea.jpg",
        "http://127.0.0.1:1/sea.jpg",
    ],
)
def test_foreign_addresses_are_refused_without_a_request(site, client, url):
    assert refusal(client, url).kind == "refused"
    assert not site.requests


def test_where_nobody_listens_the_error_says_so():
    with PoliteClient(
        "http://127.0.0.1:9", contact="", rate_per_s=None, retries=1, timeout_s=1, backoff_s=0.01
    ) as client:
        assert "no connection (2 tries)" in refusal(client, "/").reason


def test_loopback_is_asked_without_the_proxy(site, client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert client.fetch(path(site), max_bytes=MAX_BYTES).content == SEA


def test_retry_after_holds_all_threads(site):
    site.retry_after = "1"
    site.fail(path(site), "429")
    with client_of(site) as client, ThreadPoolExecutor(4) as pool:
        first = pool.submit(client.fetch, path(site), max_bytes=MAX_BYTES)
        while not site.requests:
            time.sleep(0.005)
        time.sleep(0.2)
        others = [pool.submit(client.fetch, path(site), max_bytes=MAX_BYTES) for _ in range(3)]
        assert all(future.result().content == SEA for future in [first, *others])
    times = [request.time_s for request in site.requests]
    assert times[1] - times[0] >= 0.99


def test_retry_after_is_read_as_seconds_and_as_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 27 < (retry_after_s(later) or 0) <= 30
    assert retry_after_s("7") == 7
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_s("soon") is retry_after_s("") is None


def test_a_stopped_client_lets_waiting_threads_go(site):
    site.retry_after = "60"
    site.fail(path(site), *["429"] * 9)
    client = client_of(site)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.fetch, path(site), max_bytes=MAX_BYTES) for _ in range(2)]
        while not site.requests:
            time.sleep(0.005)
        began_s = time.monotonic()
        client.close()
        for future in waiting:
            with pytest.raises(Stopped):
                future.result()
    assert time.monotonic() - began_s < 1


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

"""The polite client against a server that counts requests, fails and attacks."""

import copy
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from atelier.errors import AtelierError, TransientError
from atelier.web.client import PoliteClient
from atelier.web.limits import RateLimiter, Stopped, WaitTooLong
from atelier.web.response import FetchError, Redirected
from tests.bare import bare
from tests.lookalike import ERROR_PAGE, PLACEHOLDER, Offer, Site, lookalike
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


def client_of(site: Site, rate_per_s: float | None = None, **changes: Any) -> PoliteClient:
    settings = {"retries": 2, "timeout_s": 1.0, "backoff_s": 0.01, **changes}
    return PoliteClient(site.base_url, contact="", rate_per_s=rate_per_s, **settings)


def path(site: Site) -> str:
    return site.path_of(site.lists["genre/marina"][0])


def refusal(client: PoliteClient, url: str, max_bytes: int = MAX_BYTES) -> FetchError:
    with pytest.raises(FetchError) as caught:
        client.fetch(url, max_bytes=max_bytes)
    return caught.value


def test_fetch_returns_the_complete_body_with_its_type_and_url(site, client):
    fetched = client.fetch(path(site), max_bytes=MAX_BYTES)
    assert (fetched.content, fetched.content_type) == (SEA, "image/jpeg")
    assert fetched.url == site.base_url + path(site)


def test_a_body_of_exactly_max_bytes_is_allowed(site, client):
    assert client.fetch(path(site), max_bytes=len(SEA)).content == SEA
    assert refusal(client, path(site), max_bytes=len(SEA) - 1).kind == "too-large"


def test_the_user_agent_names_atelier_and_the_contact(site):
    with PoliteClient(site.base_url, contact="me@example.org", rate_per_s=None, retries=0, timeout_s=5) as client:
        client.fetch(path(site), max_bytes=MAX_BYTES, headers={"X-Requested-With": "XMLHttpRequest"})
    request = site.requests[0]
    assert re.fullmatch(r"Mozilla/5\.0 \(compatible; Atelier/\d+\.\d+\.\d+; \+me@example\.org\)", request.user_agent)
    assert request.headers["X-Requested-With"] == "XMLHttpRequest"


def test_a_remote_site_is_not_requested_without_a_contact():
    with pytest.raises(AtelierError, match=r"scrape\.wikiart\.contact"):
        PoliteClient("https://www.wikiart.org", contact="", rate_per_s=1, retries=0, timeout_s=1)


@pytest.mark.parametrize(("workers", "rate_per_s", "at_least"), [(1, 20, 20), (16, 20, 20), (64, 50, 50)])
def test_the_server_receives_at_most_the_set_rate_in_any_second(site, workers, rate_per_s, at_least):
    until_s = time.monotonic() + 1.6

    def ask(client: PoliteClient) -> None:
        while time.monotonic() < until_s:
            client.fetch(path(site), max_bytes=MAX_BYTES)

    with client_of(site, rate_per_s) as client, ThreadPoolExecutor(workers) as pool:
        list(pool.map(ask, [client] * workers))
    assert site.peak_per_s() <= rate_per_s
    assert len(site.requests) >= at_least  # the rate is used, also on a busy machine


def test_after_ten_seconds_of_429_all_requests_succeed_and_the_rate_recovers(site, monkeypatch):
    monkeypatch.setattr("atelier.web.client.MAX_THROTTLED_BACKOFF_S", 1.0)
    site.retry_after = ""
    with client_of(site, rate_per_s=50, retries=0) as client, ThreadPoolExecutor(16) as pool:
        client.fetch(path(site), max_bytes=MAX_BYTES)
        over_s = site.throttled_until_s = time.monotonic() + 10
        asked = [pool.submit(client.fetch, path(site), max_bytes=MAX_BYTES) for _ in range(40)]
        time.sleep(9.5)
        assert client.rate_per_s(site.base_url) < 25
        assert len(site.requests) < 200  # the set rate would have made 475 of it
        monkeypatch.setattr(RateLimiter, "INCREASE_EVERY_S", 0.1)  # 2 s, or the rest would take a minute
        assert all(future.result().content == SEA for future in asked)
        assert time.monotonic() > over_s
        while client.rate_per_s(site.base_url) < 50:  # ends with the test's time if it never recovers
            time.sleep(0.05)
    assert site.peak_per_s() <= 50


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop", "truncate", "gzip-cut"])
def test_a_temporary_failure_is_tried_again(site, client, fault):
    site.fail(path(site), fault)
    assert client.fetch(path(site), max_bytes=MAX_BYTES).content == SEA
    assert site.asked(path(site)) == 2


@pytest.mark.parametrize("fault", ["500", "drop", "truncate"])
def test_a_lasting_failure_is_given_up_after_the_set_retries(site, client, fault):
    site.fail(path(site), *[fault] * 9)
    error = refusal(client, path(site))
    assert error.kind == "error" and "3 tries" in error.reason
    assert isinstance(error, TransientError)
    assert site.asked(path(site)) == 3
    assert site.base_url not in error.reason and site.base_url in str(error)


@pytest.mark.parametrize(("answer", "kind"), [("404", "missing"), ("403", "refused")])
def test_404_and_403_are_not_tried_again(site, client, answer, kind):
    site.fail(path(site), answer)
    error = refusal(client, path(site))
    assert error.kind == kind
    assert not isinstance(error, TransientError)
    assert site.asked(path(site)) == 1


@pytest.mark.parametrize("answer", ["huge", "endless", "gzip-bomb"])
def test_a_body_that_is_too_large_is_cut_off(site, client, answer):
    site.fail(path(site), answer)
    assert refusal(client, path(site)).kind == "too-large"  # with "endless" it would never come
    assert site.asked(path(site)) == 1


def test_a_body_that_is_too_slow_is_given_up(site):
    site.fail(path(site), "drip")
    with client_of(site, retries=0) as client:
        error = refusal(client, path(site))
    assert error.kind == "error" and "trickles" in error.reason  # the whole of it would take eight minutes


def test_gzip_is_unpacked_and_other_encodings_are_refused(site, client):
    site.fail(path(site), "gzip", "odd-encoding")
    assert client.fetch(path(site), max_bytes=MAX_BYTES).content == SEA
    assert "encoding 'br'" in refusal(client, path(site)).reason


def test_redirects_on_the_same_site_are_followed(site, client):
    site.fail(path(site), "redirect", "placeholder")
    assert client.fetch(path(site), max_bytes=MAX_BYTES).url.endswith(PLACEHOLDER)


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1/", "http://127.0.0.1/", "http://localhost/", "http://2130706433/", "http://0x7f.1/",
        "http://[::1]/", "http://[::ffff:7f00:1]/", "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data",
        "//192.168.0.1/", "file:///etc/passwd", "http://[::1", "gopher://127.0.0.1/", "https://www.wikiart.org/",
    ],
)  # fmt: skip
def test_redirects_to_private_addresses_are_refused(target):
    with bare([b"HTTP/1.1 302 Found\r\nLocation: " + target.encode() + b"\r\n\r\n"]) as site:
        with PoliteClient(site.base_url, contact="", rate_per_s=None, retries=0, timeout_s=1) as client:
            assert refusal(client, "/").kind == "refused"
        assert len(site.heads) == 1


def test_a_wikiart_name_that_resolves_to_a_private_address_gets_no_request(site, monkeypatch):
    address = ("127.0.0.1", int(site.base_url.rpartition(":")[2]))
    inward = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **settings: inward)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for scheme in ("http", "https"):
        with PoliteClient(
            f"{scheme}://www.wikiart.org", contact="me@example.org", rate_per_s=None, retries=2, timeout_s=1
        ) as client:
            error = refusal(client, f"{scheme}://uploads0.wikiart.org/sea.jpg")
        assert error.kind == "refused"
        assert "uploads0.wikiart.org leads to 127.0.0.1, which is no public address" in error.reason
    assert not site.requests and not site.robots_requests


def test_redirects_to_foreign_hosts_are_refused(site, client):
    site.fail(path(site), "foreign-redirect")
    error = refusal(client, path(site))
    assert error.kind == "refused" and "elsewhere.invalid" in error.reason


def test_behind_a_proxy_the_proxy_resolves_the_names(site, monkeypatch):
    monkeypatch.setenv("http_proxy", site.base_url)
    monkeypatch.setenv("no_proxy", "")
    with PoliteClient(
        "http://www.wikiart.org", contact="me@example.org", rate_per_s=None, retries=0, timeout_s=1
    ) as client:
        assert client.fetch(path(site), max_bytes=MAX_BYTES).content == SEA
    assert site.requests[0].path == "http://www.wikiart.org" + path(site)


def test_a_redirect_to_the_sites_error_page_is_not_followed(site, client):
    site.fail(path(site), *["dead-id"] * 2)
    for is_data in (False, True):
        with pytest.raises(Redirected, match=ERROR_PAGE) as caught:
            client.fetch(path(site), max_bytes=MAX_BYTES, is_data=is_data)
        assert not isinstance(caught.value, TransientError)
    assert site.asked(path(site)) == 2 and not site.asked(ERROR_PAGE)


def test_for_data_only_a_redirect_to_the_same_path_is_followed(site, client):
    site.fail(path(site), "placeholder", "redirect")
    with pytest.raises(Redirected, match=PLACEHOLDER):
        client.fetch(path(site), max_bytes=MAX_BYTES, is_data=True)
    assert client.fetch(path(site), max_bytes=MAX_BYTES, is_data=True).content == SEA


def test_a_challenge_pauses_its_host_for_an_hour(site, client):
    site.fail(path(site), *["challenge"] * 9)
    for _ in range(3):
        error = refusal(client, path(site))
        assert isinstance(error, TransientError) and "Cloudflare" in error.reason
    assert site.asked(path(site)) == 1
    assert "no requests for 3,600 s" in error.reason or "no requests for 3,599 s" in error.reason


def test_a_challenge_instead_of_robots_txt_allows_no_request(site, client):
    site.fail("/robots.txt", "challenge")
    assert "Cloudflare" in refusal(client, path(site)).reason
    assert not site.requests


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


def test_errors_survive_pickling(site, client):
    site.fail(path(site), "404")
    error = refusal(client, path(site))
    again = copy.copy(error)  # as pickle does it
    assert (str(again), again.kind, again.reason, again.status) == (str(error), "missing", "HTTP 404", 404)
    site.fail(path(site), *["500"] * 9)
    assert isinstance(copy.copy(refusal(client, path(site))), TransientError)


def test_a_refused_connection_is_a_temporary_error():
    with PoliteClient(
        "http://127.0.0.1:9", contact="", rate_per_s=None, retries=1, timeout_s=1, backoff_s=0.01
    ) as client:
        error = refusal(client, "/")  # fails at robots.txt
        assert "no connection (2 tries)" in error.reason
        assert isinstance(error, TransientError)


def test_loopback_is_requested_without_the_proxy(site, client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert client.fetch(path(site), max_bytes=MAX_BYTES).content == SEA


def test_retry_after_delays_all_threads(site):
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


def test_a_site_that_keeps_answering_429_is_given_up_in_time(site):
    site.retry_after = "0"
    site.fail(path(site), *["429"] * 99)
    with client_of(site, max_throttled_s=0.3) as client:
        error = refusal(client, path(site))
    assert error.kind == "error" and "HTTP 429 for" in error.reason


def test_a_retry_after_of_a_year_fails_at_once_and_sends_no_request(site):
    site.retry_after = str(365 * 24 * 3600)
    site.fail(path(site), "503")
    with client_of(site) as client:
        for _ in range(2):
            error = refusal(client, path(site))
            assert error.kind == "error" and "a pause of 31,5" in error.reason
    assert site.asked(path(site)) == 1


def test_an_error_at_one_host_does_not_slow_another():
    client = PoliteClient("https://www.wikiart.org", contact="me", rate_per_s=10, retries=0, timeout_s=1)
    client._limiter("https://uploads1.wikiart.org/a.jpg").slow_down()
    client._limiter("https://uploads1.wikiart.org/b.jpg").pause(24 * 3600)
    assert client._limiter("https://UPLOADS1.wikiart.org:443/c.jpg").rate_per_s < 10
    assert client._limiter("https://uploads2.wikiart.org/a.jpg").rate_per_s == 10
    client._limiter("https://uploads2.wikiart.org/a.jpg").acquire()
    with pytest.raises(WaitTooLong):
        client._limiter("https://uploads1.wikiart.org/a.jpg").acquire()


def test_closing_the_client_ends_waiting_requests(site):
    site.retry_after = "60"
    site.fail(path(site), *["429"] * 9)
    client = client_of(site)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.fetch, path(site), max_bytes=MAX_BYTES) for _ in range(2)]
        while not site.requests:
            time.sleep(0.005)
        client.close()
        for future in waiting:
            with pytest.raises(Stopped):
                future.result(timeout=50)  # the site asks for a minute

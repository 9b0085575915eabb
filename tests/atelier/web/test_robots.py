"""robots.txt and response headers are read before content is requested, and obeyed."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from atelier.web.client import PoliteClient
from atelier.web.response import FetchError
from atelier.web.robots import ROBOTS_TXT_MAX_BYTES, RobotsRefused, RobotsRules, no_training_directive
from tests.lookalike import Offer, Site, lookalike
from tests.pictures import jpeg

SEA = jpeg((20, 60, 160))
ROBOTS = "/robots.txt"


@pytest.fixture
def site():
    with lookalike({"genre/marina": [Offer(id="0" * 24, image=SEA)]}) as site:
        yield site


def client_of(site: Site, **changes: Any) -> PoliteClient:
    settings = {"rate_per_s": None, "retries": 2, "timeout_s": 1.0, "backoff_s": 0.01, **changes}
    return PoliteClient(site.base_url, contact="", **settings)


def sea(site: Site) -> str:
    return site.path_of(site.lists["genre/marina"][0])


def fetch(site: Site, client: PoliteClient) -> bytes:
    return client.fetch(sea(site), max_bytes=1_000_000).content


def refusal(site: Site, client: PoliteClient) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(site, client)
    return caught.value


@pytest.mark.parametrize(
    "rules",
    [
        "User-agent: *\nDisallow: /images/",
        "User-agent: *\nAllow: /\n\nUser-agent: Atelier\nDisallow: /",
        "\ufeffuser-agent: ATELIER # the studio\r\ndisallow: /*.jpg$\r\n",
        "User-agent: *\nAllow: /\nDisallow: /images/anna-ancher",
    ],
)
def test_a_disallowed_url_is_not_requested(site, rules):
    site.pages[ROBOTS] = rules.encode()
    with client_of(site) as client:
        error = refusal(site, client)
    assert isinstance(error, RobotsRefused)
    assert error.kind == "refused" and "robots.txt" in error.reason
    assert not site.requests and len(site.robots_requests) == 1


@pytest.mark.parametrize(
    "rules",
    [
        "User-agent: *\nAllow: /\nSitemap: https://www.wikiart.org/sitemap.xml",
        "User-agent: *\nDisallow: /\n\nUser-agent: Atelier\nAllow: /",
        "User-agent: Atelierist\nDisallow: /",
        "User-agent: *\nDisallow: /en/Search",
        "<!DOCTYPE html><html>Just a moment</html>",
        "",
    ],
)
def test_a_url_that_is_not_disallowed_is_requested(site, rules):
    site.pages[ROBOTS] = rules.encode()
    with client_of(site) as client:
        assert fetch(site, client) == SEA


def test_many_threads_request_robots_txt_once(site):
    with client_of(site, rate_per_s=500) as client, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: fetch(site, client), range(32))) == [SEA] * 32
    assert len(site.robots_requests) == 1
    assert site.robots_requests[0].user_agent == site.requests[0].user_agent
    assert site.robots_requests[0].time_s <= min(request.time_s for request in site.requests)


@pytest.mark.parametrize("answer", ["404", "403", "400", "451"])
def test_a_site_without_robots_txt_allows_everything(site, answer):
    site.fail(ROBOTS, answer)
    with client_of(site) as client:
        assert fetch(site, client) == fetch(site, client) == SEA
    assert len(site.robots_requests) == 1


def test_a_temporary_failure_of_robots_txt_is_tried_again(site):
    site.fail(ROBOTS, "500", "429", "drop", "redirect")
    with client_of(site) as client:
        assert fetch(site, client) == SEA
    assert len(site.robots_requests) == 5


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("500", "HTTP 500"),
        ("drop", "dropped"),
        ("huge", "10,000,000,000"),
        ("endless", f"{ROBOTS_TXT_MAX_BYTES:,}"),
    ],
)
def test_without_a_readable_robots_txt_nothing_is_requested(site, answer, reason):
    site.fail(ROBOTS, *[answer] * 3)
    with client_of(site) as client:
        error = refusal(site, client)
        assert "robots.txt cannot be read" in error.reason and reason in error.reason
        assert sea(site) in str(error) and not site.requests
        if answer in ("500", "drop"):
            assert error.kind == "error"
            assert fetch(site, client) == SEA  # robots.txt can be read again


def test_threads_waiting_for_robots_txt_share_its_failure(site):
    site.fail(ROBOTS, *["500"] * 99)
    with client_of(site, backoff_s=0.1) as client, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(refusal, site, client) for _ in range(8)]
        assert all("HTTP 500" in future.result().reason for future in asked)
    assert len(site.robots_requests) == 3


def test_a_redirect_to_a_disallowed_url_is_not_followed(site):
    site.pages[ROBOTS] = b"User-agent: *\nDisallow: /Content/"
    site.fail(sea(site), "placeholder")
    with client_of(site) as client:
        assert "robots.txt" in refusal(site, client).reason
    assert len(site.requests) == 1


def test_crawl_delay_lowers_the_rate(site):
    site.pages[ROBOTS] = b"User-agent: *\nCrawl-delay: 0.4"
    with client_of(site) as client:
        began_s = time.monotonic()
        for _ in range(3):
            fetch(site, client)
        assert client.rate_per_s(site.base_url) == 2.5
    assert time.monotonic() - began_s >= 0.8
    assert site.peak_per_s() <= 3


def test_a_crawl_delay_of_a_day_fails_at_once(site):
    site.pages[ROBOTS] = b"User-agent: *\nCrawl-delay: 86400"
    with client_of(site) as client:
        assert "a pause of 86," in refusal(site, client).reason or "a pause of 89," in refusal(site, client).reason
    assert not site.requests


def test_a_robots_txt_with_too_many_rules_is_refused_and_a_large_one_is_read():
    agents = "".join(f"User-agent: {n:x}\n" for n in range(15_000))
    began_s = time.process_time()
    with pytest.raises(ValueError, match="too many rules"):
        RobotsRules(agents + "Disallow: /a\n" * 15_000)
    assert time.process_time() - began_s < 5  # Protego alone takes minutes
    rules = RobotsRules("User-agent: *\n" + "".join(f"Disallow: /private/{n}/*.jpg$\n" for n in range(10_000)))
    assert rules.allow("https://www.wikiart.org/en/a") and not rules.allow("https://www.wikiart.org/private/9/a.jpg")
    assert time.process_time() - began_s < 30


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ("User-agent: *\nContent-Signal: search=yes,ai-train=no\nAllow: /", False),
        ("user-agent: *\ncontent-signal: ai-train = NO", False),
        ("User-agent: *\nAllow: /\nContent-Usage: train-ai=n", False),
        ("Content-Signal: ai-train=no\nUser-agent: *\nAllow: /", False),
        ("User-agent: Otherbot\nUser-agent: *\nContent-Signal: ai-train=no", False),
        ("User-agent: Atelier\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /", False),
        ("User-agent: *\nContent-Signal: /images/ ai-train=no", False),
        ("User-agent: *\nContent-Signal: search=yes, ai-input=no, ai-train=yes", True),
        ("User-agent: *\nContent-Signal: search=no, ai-input=no", True),
        ("User-agent: *\nContent-Signal: /shop/ ai-train=no", True),
        ("User-agent: *\n# Content-Signal: ai-train=no\nAllow: / # ai-train=no", True),
        ("User-agent: Otherbot\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /", True),
        (
            "User-agent: *\nContent-Signal: ai-train=no\n\nUser-agent: atelier\nContent-Signal: ai-train=yes",
            True,
        ),
    ],
)
def test_a_training_signal_in_robots_txt_is_obeyed_unless_may_train_is_set(site, rules, allowed):
    site.pages[ROBOTS] = rules.encode()
    with client_of(site) as client:
        if allowed:
            assert fetch(site, client) == SEA
        else:
            error = refusal(site, client)
            assert isinstance(error, RobotsRefused)
            assert "ai-train=no" in error.reason and "scrape.wikiart.may_train: true" in error.reason
            assert not site.requests
    with client_of(site, may_train=True) as client:
        assert fetch(site, client) == SEA


@pytest.mark.parametrize("name", ["Content-Signal", "Content-Usage"])
def test_a_training_signal_in_a_header_is_obeyed_unless_may_train_is_set(site, name):
    site.headers[name] = "search=yes, ai-train=no" if name == "Content-Signal" else "train-ai=n"
    with client_of(site) as client:
        assert f"its {name} says" in refusal(site, client).reason
    with client_of(site, may_train=True) as client:
        assert fetch(site, client) == SEA


@pytest.mark.parametrize(
    ("tags", "directive"),
    [
        (["noai"], "noai"),
        (["noindex, NoImageAI"], "noimageai"),
        (["noindex", "atelier: noai"], "noai"),
        (["otherbot: noai", "Atelier: noindex, noimageai"], "noimageai"),
        (["unavailable_after: 25 Jun 2027 15:00:00 PST, noai"], "noai"),
        (["otherbot: noai, noimageai"], None),
        (["noindex, nofollow", "max-image-preview: large"], None),
        (["noairs, nonoai"], None),
        ([""], None),
        ([], None),
    ],
)
def test_x_robots_tag_applies_to_the_named_robots(tags, directive):
    assert no_training_directive(tags) == directive


def test_a_page_marked_noai_is_refused(site):
    site.headers["X-Robots-Tag"] = "noindex, noai"
    with client_of(site) as client:
        error = refusal(site, client)
    assert isinstance(error, RobotsRefused) and "X-Robots-Tag says noai" in error.reason
    assert len(site.requests) == 1

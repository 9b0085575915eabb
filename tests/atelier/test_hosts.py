"""Which addresses may be asked."""

import pytest

from atelier.hosts import is_allowed, is_loopback

WIKIART = "https://www.wikiart.org"


@pytest.mark.parametrize(
    "url",
    [
        "https://www.wikiart.org/en/paintings-by-genre/marina",
        "https://uploads0.wikiart.org/images/a/b.jpg",
        "https://use2-uploads8.wikiart.org/00123/images/a/b.jpg",
        "http://wikiart.org:80/",
        "https://WWW.WIKIART.ORG:443/",
    ],
)
def test_wikiarts_own_hosts_are_allowed(url):
    assert is_allowed(url, WIKIART)


@pytest.mark.parametrize(
    "url",
    [
        "https://wikiart.org.example/",
        "https://notwikiart.org/",
        "https://www.wikiart.org@example.org/",
        "https://user:secret@www.wikiart.org/",
        "https://www.wikiart.org:8443/",
        "https://www.wikiart.org:port/",
        "https://example.org/?www.wikiart.org",
        "https://example.org/#.wikiart.org",
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://www.wikiart.org/",
        "//www.wikiart.org/",
        "www.wikiart.org",
        "http://[",
        "",
    ],
)
def test_everything_else_is_not(url):
    assert not is_allowed(url, WIKIART)


def test_a_loopback_site_may_name_itself_only():
    base = "http://127.0.0.1:8123"
    assert is_allowed("http://127.0.0.1:8123/images/a.jpg", base)
    for url in ("http://127.0.0.1:8124/", "http://127.0.0.1/", "http://localhost:8123/", WIKIART):
        assert not is_allowed(url, base)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1/", True),
        ("http://127.8.8.8/", True),
        ("http://[::1]:80/", True),
        ("http://localhost:80/", True),
        ("http://localhost.example/", False),
        ("http://192.168.0.1/", False),
        ("https://www.wikiart.org/", False),
    ],
)
def test_loopback_is_told_by_name_and_number(url, expected):
    assert is_loopback(url) is expected

"""Which URLs may be requested, and which addresses are public."""

import pytest

from atelier.web.limits import is_allowed, is_loopback, is_public

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
def test_urls_of_wikiart_are_allowed(url):
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
        "http://localhost/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fd00::1]/",
        "http://10.0.0.1/",
        "http://192.168.0.1/",
        "https://www.wikiart.org.:8443/",
        "https://wikiart.org%2f@127.0.0.1/",
        "https://127.0.0.1\\.wikiart.org/",
        "https://elsewhere.example\\.wikiart.org/",
        "https://www.wikiart.org\\@elsewhere.example/",
        "https://elsewhere.example\t.wikiart.org/",
        "https://elsewhere.example .wikiart.org/",
        "https://elsewhere.example%00.wikiart.org/",
        "https://elsewhere。wikiart.org/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://www.wikiart.org/",
        "//www.wikiart.org/",
        "www.wikiart.org",
        "http://[",
        "",
    ],
)
def test_other_urls_are_not_allowed(url):
    assert not is_allowed(url, WIKIART)


def test_a_loopback_site_may_lead_to_itself_only():
    base = "http://127.0.0.1:8123"
    assert is_allowed("http://127.0.0.1:8123/images/a.jpg", base)
    for url in ("http://127.0.0.1:8124/", "http://127.0.0.1/", "http://localhost:8123/", WIKIART):
        assert not is_allowed(url, base)


@pytest.mark.parametrize("base", ["https://mirror.example", "http://10.0.0.5:8000", "http://[fd00::5]:8000/"])
def test_a_mirror_may_lead_to_itself_and_to_wikiart(base):
    assert is_allowed(f"{base.rstrip('/')}/images/a.jpg", base)
    assert is_allowed("https://uploads0.wikiart.org/images/a/b.jpg", base)
    for url in (
        "https://elsewhere.example/", "https://sub.mirror.example/", "https://mirror.example:8443/",
        "http://10.0.0.5:8001/", "http://10.0.0.6:8000/", "http://127.0.0.1/", "http://169.254.169.254/",
        f"{base.rstrip('/').replace('://', '://user@')}/", "https://mirror.example.elsewhere.example/",
    ):  # fmt: skip
        assert not is_allowed(url, base)


def test_a_default_port_may_be_written_or_omitted():
    assert is_allowed("https://mirror.example:443/a", "https://MIRROR.example/")
    assert is_allowed("http://mirror.example/a", "https://mirror.example")
    assert not is_allowed("http://mirror.example/a", "https://mirror.example:8443")


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
def test_loopback_is_recognised_by_name_and_address(url, expected):
    assert is_loopback(url) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::6810:84e5", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),  # NAT64 of 127.0.0.1
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b:1::808:808", False),
        ("2002:7f00:1::1", False),  # 6to4 of 127.0.0.1
        ("2002:a00:1::", False),
        ("2002:808:808::1", True),
        ("2001:0:7f00:1::", False),  # Teredo
        ("::7f00:1", False),
        ("::ffff:0:7f00:1", False),
        ("fec0::1", False),
        ("ff0e::1", False),
    ],
)
def test_public_and_private_addresses_are_distinguished(address, expected):
    assert is_public(address) is expected

"""Reading responses: complete, within limits, and given up in time, whatever a server sends."""

import gzip
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import chain, repeat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atelier.web.client import PoliteClient, is_downgrade
from atelier.web.response import FetchError, ResponseLimits, Validators, _gunzip, retry_after_s
from tests.bare import OK, Bare, Pieces, bare
from tests.pictures import gzip_bomb

MAX_BYTES = 10_000
SEA = b"the sea"
WHOLE = OK + b"Content-Length: 7\r\nConnection: close\r\n"


def client_of(site: Bare) -> PoliteClient:
    return PoliteClient(
        site.base_url,
        contact="",
        rate_per_s=None,
        retries=0,
        timeout_s=0.5,
        backoff_s=0.01,
        max_throttled_s=1,
    )


def refusal(pieces: Pieces) -> FetchError:
    """The error for a response of these pieces, of which there may be infinitely many."""
    with bare(pieces) as site, client_of(site) as client, pytest.raises(FetchError) as caught:
        client.fetch("/sea", max_bytes=MAX_BYTES)
    return caught.value


def test_a_conditional_request_may_be_answered_by_not_modified():
    named = Validators('"abc"', "Wed, 21 Oct 2015 07:28:00 GMT")
    first = [WHOLE + b'ETag: "abc"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n' + SEA]
    unchanged = [b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"]
    changed = [WHOLE + b'ETag: "abd"\r\n\r\n' + SEA]
    with bare(first, unchanged, changed) as site, client_of(site) as client:
        fetched = client.fetch("/sea", max_bytes=MAX_BYTES)
        assert (fetched.content, fetched.validators, fetched.unchanged) == (SEA, named, False)
        again = client.fetch("/sea", max_bytes=MAX_BYTES, validators=fetched.validators)
        assert (again.content, again.validators, again.unchanged) == (b"", named, True)
        other = client.fetch("/sea", max_bytes=MAX_BYTES, validators=again.validators)
        assert (other.content, other.validators, other.unchanged) == (SEA, Validators('"abd"'), False)
    assert "If-None-Match" not in site.heads[0] and "If-Modified-Since" not in site.heads[0]
    for head in site.heads[1:]:
        assert 'If-None-Match: "abc"\r\n' in head
        assert "If-Modified-Since: Wed, 21 Oct 2015 07:28:00 GMT\r\n" in head


def packed(*members: bytes) -> list[bytes]:
    body = b"".join(members)
    return [WHOLE.replace(b"7", b"%d" % len(body)) + b"Content-Encoding: gzip\r\n\r\n" + body]


@pytest.mark.parametrize("members", [1, 2, 3, 1000])
@pytest.mark.parametrize("padding", [b"", b"\0" * 50])
def test_all_members_of_a_gzip_body_are_read(members, padding):
    pieces = packed(*[gzip.compress(SEA)] * members, padding)
    with bare(pieces) as site, client_of(site) as client:
        assert client.fetch("/sea", max_bytes=100_000).content == SEA * members


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ((gzip.compress(SEA), gzip.compress(SEA)[:-5]), "ends early"),
        ((gzip.compress(SEA), b"and more"), "damaged"),
        ((gzip.compress(b"x" * 6000), gzip.compress(b"x" * 6000)), "when unpacked"),
        ((gzip.compress(b""),) * 300, ""),
    ],
)
def test_a_damaged_or_too_large_gzip_body_is_an_error(members, reason):
    if reason:
        assert reason in refusal(packed(*members)).reason
    else:
        with bare(packed(*members)) as site, client_of(site) as client:
            assert client.fetch("/sea", max_bytes=MAX_BYTES).content == b""


def test_a_gzip_body_of_very_many_empty_members_is_refused_in_time():
    body = gzip.compress(b"") * 400_000
    began_s = time.process_time()
    with pytest.raises(FetchError, match="more than 10,000 gzip members"):
        _gunzip(body, ResponseLimits("http://x/", 10_000_000, 1.0, threading.Event()))
    assert time.process_time() - began_s < 3


def test_only_a_redirect_from_https_to_http_is_a_downgrade():
    assert not is_downgrade("http://a.example/", "https://a.example/")
    assert not is_downgrade("https://a.example/", "https://b.example/")
    assert is_downgrade("https://a.example/", "http://a.example/")
    assert is_downgrade("HTTPS://a.example/", "HTTP://a.example/")


@pytest.mark.parametrize("validators", [None, Validators()])
def test_not_modified_is_an_error_unless_the_request_was_conditional(validators):
    unchanged = [b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"]
    with bare(unchanged) as site, client_of(site) as client, pytest.raises(FetchError, match="HTTP 304"):
        client.fetch("/sea", max_bytes=MAX_BYTES, validators=validators)


def test_validators_that_are_no_header_values_are_an_error():
    with bare([WHOLE + b"\r\n" + SEA]) as site, client_of(site) as client:
        with pytest.raises(FetchError):
            client.fetch("/sea", max_bytes=MAX_BYTES, validators=Validators("a\r\nHost: elsewhere"))
        assert not site.heads


DRIPS = {
    "status": repeat(b"H", 600),
    "header": chain([OK], repeat(b"A", 600)),
    "body": chain([OK + b"Content-Length: 9000\r\n\r\n"], repeat(b"x", 600)),
    "chunks": chain([OK + b"Transfer-Encoding: chunked\r\n\r\n"], repeat(b"1\r\nx\r\n", 600)),
    "chunk size": chain([OK + b"Transfer-Encoding: chunked\r\n\r\n1;"], repeat(b"x", 600)),
    "trailer": chain([OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"], repeat(b"A: b\r\n", 600)),
}


@pytest.mark.parametrize("part", DRIPS)
def test_a_response_that_is_too_slow_is_given_up_in_every_part(part):
    pieces = chain.from_iterable((piece, 0.05) for piece in DRIPS[part])
    error = refusal(pieces)
    assert error.kind == "error" and "slower than 1,000 bytes a second" in error.reason
    assert next(pieces, None) is not None  # long before the end, which is half a minute away


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "interim answers": (repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "too-large"),
    "headers": (chain([OK], repeat(b"A: b\r\n" * 1000)), "error"),
    "one header": (chain([OK + b"A: "], repeat(b"b" * 10_000)), "error"),
    "folded header": (chain([OK + b"A: b\r\n"], repeat(b" b\r\n" * 1000)), "error"),
    "chunks": (chain([CHUNKED], repeat(b"400\r\n" + b"x" * 1024 + b"\r\n")), "too-large"),
    "chunk sizes": (chain([CHUNKED + b"1;"], repeat(b"x" * 10_000)), "error"),
    "trailers": (chain([CHUNKED + b"0\r\n"], repeat(b"A: b\r\n" * 1000)), "too-large"),
    "a body": (chain([OK + b"\r\n"], repeat(b"x" * 10_000)), "too-large"),
}


@pytest.mark.parametrize("part", FLOODS)
def test_a_response_that_is_too_large_is_cut_off_in_every_part(part):
    pieces, kind = FLOODS[part]
    assert refusal(pieces).kind == kind


def test_the_body_of_a_redirect_is_not_read():
    bomb = gzip_bomb()
    head = b"HTTP/1.1 302 Found\r\nLocation: /shore\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    with bare([head % len(bomb) + bomb], [WHOLE + b"\r\n" + SEA]) as site, client_of(site) as client:
        tracemalloc.start()
        try:
            assert client.fetch("/sea", max_bytes=10_000_000).url == site.base_url + "/shore"
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("target", [b"/\xff\xfe", b"http://[", b"", b"http://127.0.0.1:99999/", b"x" * 60_000])
def test_a_redirect_to_a_malformed_url_is_an_error(target):
    head = b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\nConnection: close\r\n\r\n"
    assert refusal([head]).kind in ("error", "refused")


@pytest.mark.parametrize("length", [b"10000000000", b"9" * 5000, b"-1", b"7, 8", b"seven", b"0x7", "٧".encode()])
def test_a_wrong_content_length_changes_no_content(length):
    pieces = [OK + b"Content-Length: " + length + b"\r\nConnection: close\r\n\r\n" + SEA]
    with bare(pieces) as site, client_of(site) as client:
        try:
            assert client.fetch("/sea", max_bytes=MAX_BYTES).content == SEA
        except FetchError as error:
            assert error.kind in ("too-large", "error")


@pytest.mark.parametrize(
    "head",
    [b"SSH-2.0-OpenSSH_9.6\r\n", b"\0" * 100, b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 2OO OK\r\n\r\n", b""],
)
def test_a_response_that_is_not_http_is_an_error(head):
    assert refusal([head]).kind == "error"


def test_retry_after_is_read_as_seconds_and_as_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 27 < (retry_after_s(later) or 0) <= 30
    assert retry_after_s("7") == 7
    assert (retry_after_s("9" * 400) or 0) > 1e9
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_s("soon") is retry_after_s("") is None


NUMBERS = st.integers(0, 99_999)


@given(
    st.sampled_from(["Wed", "Mon", "x"]), NUMBERS, st.sampled_from(["Jan", "Feb", "Dec", "x"]), NUMBERS,
    st.tuples(NUMBERS, NUMBERS, NUMBERS), st.sampled_from(["GMT", "EST", "+", "-", ""]), NUMBERS,
)  # fmt: skip
@example("Wed", 1, "Jan", 1, (0, 0, 0), "+", 2359)
@example("Wed", 31, "Dec", 9999, (23, 59, 59), "-", 2359)
@example("Wed", 1, "Jan", 2030, (0, 0, 0), "+", 9999)
@example("Wed", 1, "Jan", 2030, (0, 0, 0), "-", 99_999)
def test_every_date_in_retry_after_gives_seconds_or_none(day_name, day, month, year, time_of_day, sign, zone):
    for hours, minutes, seconds in (time_of_day, tuple(number % 24 for number in time_of_day)):
        for number in (day, day % 28 + 1):
            date = f"{number:02} {month} {year % 10_000:04} {hours:02}:{minutes:02}:{seconds:02}"
            value = retry_after_s(f"{day_name}, {date} {sign}{zone if sign in '+-' else ''}")
            assert value is None or value >= 0


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d{1,9} [A-Z][a-z]{2} \d{1,6} \d+:\d+:\d+ [-+]?\d*")))
def test_every_text_in_retry_after_gives_seconds_or_none(value):
    seconds = retry_after_s(value)
    assert seconds is None or seconds >= 0

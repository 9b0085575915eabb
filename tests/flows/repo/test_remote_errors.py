"""What is said of a remote that cannot be used: a real S3 client and a server of ours, and other kinds' exceptions."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from configobj import ConfigObj

from atelier.errors import AtelierError, TransientError
from flows.commands import doctor
from flows.repo import operations, storage
from tests.flows.toys import Tree

CLOSED = "http://127.0.0.1:9"
NAME = "0123456789abcdef" * 2


class Bucket(ThreadingHTTPServer):
    """An S3 endpoint that has one answer for everything."""

    status, body = 403, b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Bucket

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.body)

    do_HEAD = do_PUT = do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with Bucket(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def inside(studio: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.chdir(studio.root)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("PATH", "PYTHONPATH", "SHELL", "HOME"):
        monkeypatch.setenv(name, studio.environment[name])
    return studio


def set_remote(url: str, **settings: str) -> None:
    lines = [f"{key} = '{value}'" for key, value in {"url": url, **settings}.items()]
    text = "\n".join(["[core]", "    remote = r", "['remote \"r\"']", *lines, ""])
    Path(".dvc/config.local").write_text(text, encoding="utf-8")


def s3(endpoint: str, **settings: str) -> None:
    keys = {"access_key_id": "a", "secret_access_key": "s"}
    set_remote("s3://bucket/studio", endpointurl=endpoint, **{**keys, **settings})


def told() -> AtelierError:
    with pytest.raises(AtelierError) as caught:
        storage.remote()
    return caught.value


def test_an_endpoint_that_does_not_answer_may_answer_later(inside: Tree) -> None:
    s3(CLOSED)
    error = told()
    assert isinstance(error, TransientError)
    assert str(error).startswith("r, s3://bucket/studio, cannot be reached: Could not connect to the endpoint")
    said: list[str] = []
    assert storage.fetch_objects([NAME], said.append, inside.root) == {}
    assert storage.fetch_list(f"{NAME}.dir", said.append, inside.root) is None
    assert len(said) == 2 and all("cannot be reached" in sentence for sentence in said)


def test_a_server_in_trouble_may_recover(inside: Tree, bucket: Bucket) -> None:
    bucket.status = 503
    s3(bucket.url)
    assert isinstance(told(), TransientError)


def test_refused_credentials_do_not_pass_by_themselves(inside: Tree, bucket: Bucket) -> None:
    bucket.status = 403
    s3(bucket.url)
    error = told()
    assert not isinstance(error, TransientError)
    assert "r, s3://bucket/studio, refuses access: " in str(error) and "dvc remote modify" in str(error)
    Path("a.txt").write_text("a sea")
    tracked = storage.track(inside.root, inside.root / "a.txt")
    with pytest.raises(AtelierError, match="Forbidden") as caught:
        storage.push(inside.root, [tracked], print)
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize(
    ("url", "settings", "words"),
    [
        ("s3://Bad_Bucket!/x", {"endpointurl": CLOSED}, "Invalid bucket name"),
        ("s3://bucket/x", {"profile": "nobody"}, "profile"),
        ("s3://bucket/x", {"endpointurl": "127.0.0.1:9"}, "Invalid endpoint"),
        ("foo://bucket/x", {}, "Unsupported URL type"),
        ("hdfs://bucket/x", {}, r"`uv pip install dvc-hdfs` brings it"),
    ],
)
def test_wrong_settings_are_a_sentence_and_do_not_pass(
    inside: Tree, url: str, settings: dict[str, str], words: str
) -> None:
    set_remote(url, **settings)
    error = told()
    assert words.replace("`", "") in str(error).replace("`", "") and not isinstance(error, TransientError)


class ServiceRequestError(Exception):
    """As azure-core's."""


class ClientAuthenticationError(Exception):
    """As azure-core's."""

    status_code = 401


class HttpError(Exception):
    """As gcsfs's."""

    def __init__(self, code: int) -> None:
        super().__init__("")
        self.code = code


class Disguised(Exception):
    """An exception that says nothing of itself, but has a cause."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ServiceRequestError("no route"), True),
        (ClientAuthenticationError("no"), False),
        (caused(ClientAuthenticationError("no"), ConnectionError()), False),
        (HttpError(403), False),
        (HttpError(503), True),
        (HttpError(400), False),
        (TimeoutError(), True),
        (PermissionError(13, "Access Denied"), False),
        (FileNotFoundError(2, "No such file", "key.json"), False),
        (caused(Disguised(), ConnectionResetError()), True),
        (Disguised(), False),
        (KeyError("bucket"), False),
    ],
)
def test_exceptions_of_all_kinds_of_remotes_are_told_apart(error: Exception, passes: bool) -> None:
    with (
        pytest.raises(AtelierError, match=r"^r, gs://b, ") as caught,
        operations.errors_in_words("r", "gs://b"),
    ):
        raise error
    assert isinstance(caught.value, TransientError) == passes
    assert str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["störe a #b", "sto\u0308re 50% off", "a%20b q'u\"ote;"])
def test_a_remote_whose_path_has_odd_signs_is_asked(inside: Tree, name: str) -> None:
    place, md5 = inside.root.parent / name, hashlib.md5(b"a sea").hexdigest()
    path = storage.object_path(place, md5)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a sea")
    _write_url(place)
    assert storage.remote() == str(place)
    assert storage.fetch_objects([md5], print, inside.root)[md5].read_bytes() == b"a sea"


def test_a_path_that_dvc_itself_fails_at_is_named(inside: Tree) -> None:
    (inside.root.parent / "{x}").mkdir()
    _write_url(inside.root.parent / "{x}")
    assert "DVC fails at { and } in a path: name another" in str(told())


def test_the_doctor_says_it_too(inside: Tree) -> None:
    s3(CLOSED)
    found = doctor._remote()
    assert found.state == "wrong" and "cannot be reached" in found.message


def _write_url(place: Path) -> None:
    config = ConfigObj({"core": {"remote": "r"}, 'remote "r"': {"url": str(place)}}, encoding="utf-8")
    with Path(".dvc/config.local").open("wb") as file:
        config.write(file)

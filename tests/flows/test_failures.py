"""Retries: a flow repeats a stage only if its failure may pass by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.flows.toys import Started, Tree

# with shorter delays than a user's
IMPATIENT = """
from flows.runtime import work_tree
work_tree.enter()  # before Prefect is imported
from flows import studio
from flows.orchestration import stage_tasks
stage_tasks.RETRY_DELAYS_S = (1.0, 2.0)
raise SystemExit(studio.main([]))
"""


class Site(HTTPServer):
    """A site on loopback whose address is known before it starts to answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers, bind_and_activate=False)
        self.server_bind()
        self.asked = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def open(self) -> Iterator[None]:
        self.server_activate()
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield
        self.shutdown()
        thread.join()


class _Answers(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(404 if self.path == "/robots.txt" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def impatient(tree: Tree) -> Started:
    return tree.start("-c", IMPATIENT)


def test_a_stage_is_retried_when_a_site_answers_again(served: Tree, site: Site):
    served.trouble(f"train ask {site.address}")
    run = impatient(served).until("again 1.0 second(s) from now (1 of 2)")
    assert "no connection (1 try); again" in run.output
    with site.open():
        assert run.wait() == 0, run.output
    assert site.asked == 2  # robots.txt and the page
    assert run.output.count("Running stage 'scrape'") == 1
    assert run.output.count("Running stage 'train'") == run.output.count("; again ") + 1
    assert "Traceback" not in run.output


def test_a_site_that_never_answers_ends_the_flow_with_the_stages_sentence(served: Tree, site: Site):
    served.trouble(f"train ask {site.address}")
    run = impatient(served)
    assert run.wait() == 1
    assert run.output.count("Running stage 'train'") == 3
    assert run.output.rstrip().endswith(
        f"train: {site.address}/: its site's robots.txt cannot be read: no connection (1 try)"
    )
    assert "Out of reach" in run.output
    assert "Traceback" not in run.output


def test_a_bug_is_not_retried(served: Tree):
    served.trouble("train bug")
    run = impatient(served)
    assert run.wait() == 1
    assert run.output.count("Running stage 'train'") == 1
    assert "; again" not in run.output

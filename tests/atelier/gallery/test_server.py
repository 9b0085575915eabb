"""The built-in archive over HTTP, requested by the client for WikiArt."""

import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from atelier.data.catalog import ID_PATTERN
from atelier.gallery.scene import GENRE, describe
from atelier.gallery.server import live_url, painting_jpeg, serve, virtual_url, work_id
from atelier.web.client import PoliteClient
from atelier.web.response import FetchError
from atelier.wikiart.cached_client import CachedClient, ResponseCache
from atelier.wikiart.lists import Query, collect
from atelier.wikiart.pages import fetch_slugs

SIZE_PX = 128


def asking(base_url: str) -> PoliteClient:
    return PoliteClient(base_url, contact="", rate_per_s=None, retries=1, timeout_s=60, backoff_s=0.01)


@pytest.fixture(scope="module")
def gallery():
    with serve(5, 130, SIZE_PX) as base_url, asking(base_url) as client:
        yield base_url, client


def listed(client, *queries):
    return collect(CachedClient(client, ResponseCache(), ""), queries or [Query("genre", GENRE)])


def test_the_list_has_every_work_in_order_of_its_year(gallery):
    found = listed(gallery[1])
    assert found.claimed == len(found.works) == 130 and not found.skipped and not found.notes
    assert {work.id for work in found.works} == {work_id(5, number) for number in range(130)}
    years = [work.year for work in found.works]
    assert years == sorted(years) and None not in years


def test_a_record_has_the_facts_of_the_painter(gallery):
    works = {work.id: work for work in listed(gallery[1]).works}
    for number in range(130):
        label, work = describe(5, number), works[work_id(5, number)]
        assert (work.title, work.artist, work.year) == (label.title, label.artist, label.year)
        assert (work.width, work.height) == label.size(SIZE_PX)
        assert ID_PATTERN.fullmatch(work.id) and work.image_url.isascii()


def test_the_indices_count_the_works_of_the_lists(gallery):
    _, client = gallery
    (genre,) = fetch_slugs("genre", client)
    styles = fetch_slugs("style", client)
    assert (genre.slug, genre.count) == (GENRE, 130)
    assert sum(style.count or 0 for style in styles) == 130
    found = listed(client, Query("genre", GENRE), *[Query("style", style.slug) for style in styles])
    assert len(found.works) == 130 and all(work.style and work.genre == GENRE for work in found.works)


def test_images_have_the_listed_size_and_the_same_bytes_each_time(gallery):
    _, client = gallery
    works = listed(client).works[:4]
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda work: client.fetch(work.image_url, max_bytes=10**7), works * 2))
    assert [answer.content for answer in fetched[:4]] == [answer.content for answer in fetched[4:]]
    for work, answer in zip(works, fetched[:4], strict=True):
        with Image.open(io.BytesIO(answer.content)) as image:
            assert (image.format, image.size) == ("JPEG", (work.width, work.height))
        assert answer.content_type == "image/jpeg"
    numbers = {work_id(5, number): number for number in range(130)}
    assert fetched[0].content == painting_jpeg(5, numbers[works[0].id], SIZE_PX)


def test_another_seed_or_size_has_another_url(gallery):
    base_url, client = gallery
    urls = {virtual_url(work.image_url, base_url) for work in listed(client).works}
    assert len(urls) == 130
    for seed, size_px in ((6, SIZE_PX), (5, 2 * SIZE_PX)):
        with serve(seed, 130, size_px) as other_url, asking(other_url) as other:
            assert not urls & {virtual_url(work.image_url, other_url) for work in listed(other).works}


def test_virtual_urls_do_not_depend_on_the_port(gallery):
    base_url, client = gallery
    live = listed(client).works[0].image_url
    virtual = virtual_url(live, base_url)
    assert virtual.startswith("gallery:/images/") and "127.0.0.1" not in virtual
    assert live_url(virtual, base_url) == live
    assert live_url(virtual, "http://127.0.0.1:1") == "http://127.0.0.1:1" + virtual.removeprefix("gallery:")


@pytest.mark.parametrize(
    "path", ["/", "/images/nobody/nothing.jpg", "/en/paintings-by-genre/portrait?page=1", "/en/x?page=%00"]
)
def test_unknown_paths_are_missing(gallery, path):
    with pytest.raises(FetchError) as caught:
        gallery[1].fetch(path, max_bytes=1000)
    assert caught.value.kind == "missing"


def test_the_list_ends(gallery):
    answer = gallery[1].fetch(f"/en/paintings-by-genre/{GENRE}?json=2&page=4", max_bytes=10**6)
    assert b'"Paintings": null' in answer.content


PAINT_AND_BE_KILLED = f"""
import os, signal, threading
from atelier.gallery.server import serve
from atelier.web.client import PoliteClient

if __name__ == "__main__":
    with serve(5, 130, {SIZE_PX}) as base, PoliteClient(
        base, contact="", rate_per_s=None, retries=0, timeout_s=60
    ) as client:
        from atelier.wikiart.lists import Query, collect
        from atelier.wikiart.cached_client import CachedClient, ResponseCache
        work = collect(CachedClient(client, ResponseCache(), ""), [Query("genre", "marina")]).works[0]
        client.fetch(work.image_url, max_bytes=10**7)
        print("painted", flush=True)
        threading.Event().wait()
"""


@pytest.mark.slow
def test_painting_processes_end_when_the_server_is_killed(tmp_path):
    """Waits for a process to start its painters, kills it, and looks for them."""
    script = tmp_path / "gallery.py"
    script.write_text(PAINT_AND_BE_KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout and process.stdout.readline() == b"painted\n"
        painters = psutil.Process(process.pid).children(recursive=True)
        assert painters
        process.kill()
    _, alive = psutil.wait_procs(painters, timeout=10)
    for painter in alive:
        painter.kill()
    assert not alive


def test_closing_the_server_ends_the_painting_processes():
    before = painters_of(psutil.Process())
    with serve(5, 3, SIZE_PX) as base_url, asking(base_url) as client:
        client.fetch(listed(client).works[0].image_url, max_bytes=10**7)
        assert painters_of(psutil.Process()) - before
    assert not painters_of(psutil.Process()) - before


def painters_of(process: psutil.Process) -> set[psutil.Process]:
    """The fork server is a child, and the painters are its children."""
    return set(process.children(recursive=True)) - set(process.children())


INTERRUPTED = """
import threading, time, urllib.request
from atelier.gallery.server import serve

def ask(base_url, paths):
    for path in paths:
        try:
            with urllib.request.urlopen(base_url + path) as answer:
                answer.read()
        except OSError:
            return

try:
    with serve(seed=1, works=40, size_px=160) as base_url:
        import json
        with urllib.request.urlopen(f"{base_url}/en/paintings-by-genre/marina?json=2") as answer:
            paths = [work["image"].removeprefix(base_url) for work in json.load(answer)["Paintings"]]
        for _ in range(4):
            threading.Thread(target=ask, args=(base_url, paths), daemon=True).start()
        print("open", flush=True)
        while True:
            time.sleep(0.1)  # a signal that another thread takes would not end a long sleep
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize("after_s", [0.1, 2.0])  # while painters start, and while they paint
def test_ctrl_c_ends_the_server_without_tracebacks(after_s: float):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == ("stopped\n", 0)

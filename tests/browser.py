"""A real Chromium for tests of pages: no console error and no request to anything but files is tolerated."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

WIDTHS_PX = (390, 1600)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that is started once for several pages. An event loop runs in this thread until it ends."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # its sandbox refuses to run as root, as CI does
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@contextmanager
def opened(path: Path, width_px: int = 1600, browser: Any = None) -> Iterator[Any]:
    """Open a file in Chromium and yield Playwright's page; at the end, fail if the page complained or asked a host."""
    faults: list[str] = []
    with nullcontext(browser) if browser else chromium() as running:
        page = running.new_page(viewport={"width": width_px, "height": 900}, accept_downloads=True)
        page.set_default_timeout(120_000)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda request: faults.append(f"not found: {request.url}"))
        page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.resolve().as_uri())
        try:
            yield page
        finally:
            page.close()
    assert not faults


def check_accessibility(page: Any) -> None:
    """Fail where axe-core finds a serious or critical fault, or the page is wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    found = [entry for entry in Axe().run(page).response["violations"] if entry["impact"] in ("serious", "critical")]
    assert not found, [(entry["id"], [node["html"] for node in entry["nodes"]][:3]) for entry in found]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def slide(page: Any, selector: str, value: float) -> None:
    """Move a slider as a person does, which tells the page about it."""
    page.eval_on_selector(
        selector, "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def ready(page: Any) -> None:
    """Wait until the explorer has rendered its first picture."""
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')")


def save_picture(page: Any, folder: Path) -> Path:
    """Save the explorer's picture, once it is rendered, into a folder, under a name of its own."""
    page.wait_for_selector("#picture[aria-busy=false]")
    page.evaluate("document.getElementById('status').textContent = ''")
    with page.expect_download() as download:
        page.click("#save")
        page.wait_for_function("document.getElementById('status').textContent")
        if page.is_visible("#download"):
            page.click("#download")
    path = folder / f"{len([*folder.iterdir()]):02d}-{download.value.suggested_filename}"
    download.value.save_as(path)
    return path

"""What a run shows on Prefect's page: progress, pictures, tables, texts, links. Knows no stage and decides nothing.

A page that cannot be reached is no reason to stop a training, nor to hold it up: it is left alone for a while.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.orchestration.report import picture_address
from flows.repo import stages

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]
SILENT_S = 60.0  # after a page could not be reached
PROGRESS = Path(".atelier/progress")


class Page:
    """The page of the run that is at work; the server may be gone."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._silent_until_s = float("-inf")

    def table(self, key: str, rows: list[dict[str, str]]) -> None:
        """Rows whose columns have the same names."""
        self._show(lambda: create_table_artifact(rows, key=key))

    def markdown(self, key: str, text: str) -> None:
        """A text, with markdown's headings, tables and emphasis."""
        self._show(lambda: create_markdown_artifact(text, key=key))

    def link(self, key: str, path: Path, words: str) -> None:
        """Where a file lies on the machine that made it; a browser elsewhere shows at least the path."""
        place = path.absolute()
        self._show(lambda: create_link_artifact(place.as_uri(), str(place), key=key, description=words))

    def picture(self, key: str, path: Path, words: str) -> None:
        """A picture of ours, made small."""
        try:
            address = picture_address(path)
        except OSError as error:  # deleted between its making and our looking
            self._logger.warning("%s is not shown: %s", path, error)
            return
        self._show(lambda: create_image_artifact(address, key=key, description=f"`{path}`, {words}"))

    def progress(self, key: str, bar: UUID | None, percent: float, words: str) -> UUID | None:
        """A bar, new where `bar` is None, else that one moved; its id."""
        if bar is not None:
            self._show(lambda: update_progress_artifact(bar, percent, description=words))
            return bar
        made = self._show(lambda: create_progress_artifact(percent, key=key, description=words))
        return made if isinstance(made, UUID) else None

    def _show(self, show: Callable[[], object]) -> object:
        if time.monotonic() < self._silent_until_s:
            return None
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):  # as it is, it would wait for a minute
                return show()
        except (httpx.HTTPError, PrefectException) as error:
            self._silent_until_s = time.monotonic() + SILENT_S
            self._logger.warning("Prefect's page is out of reach, the work goes on: %s", error)
            return None


class Follower:
    """A stage's lines become log lines, its progress file a bar, its pictures pictures."""

    def __init__(self, stage: str, logger: Logger) -> None:
        self._key, self._logger = stage.replace("_", "-"), logger
        self._path = PROGRESS / f"{stage}.json"
        self._page = Page(logger)
        self._bar: UUID | None = None
        self._picture = ""
        self._shown = self._stamp()  # what an earlier run left is not this one's progress
        self._shown_s = float("-inf")

    def line(self, text: str) -> None:
        self._logger.info(text)

    def tick(self) -> None:
        if time.monotonic() - self._shown_s >= stages.TICK_S:
            self.show()

    def show(self) -> None:
        """Bring the page up to the progress file, however recently that was done."""
        stamp = self._stamp()
        if stamp == self._shown:
            return
        self._shown, self._shown_s = stamp, time.monotonic()
        progress = json.loads(self._path.read_text())
        percent = 100 * float(progress["done"]) / max(float(progress["total"]), 1e-9)
        words = f"{progress['done']}/{progress['total']} {progress['unit']}, {progress['rate']}/s {progress['note']}"
        self._bar = self._page.progress(
            f"{self._key}-progress", self._bar, min(max(percent, 0.0), 100.0), words
        )
        if (picture := str(progress.get("picture", ""))) not in ("", self._picture):
            self._picture = picture
            self._page.picture(f"{self._key}-picture", Path(picture), words)

    def _stamp(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

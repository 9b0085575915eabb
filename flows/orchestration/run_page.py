"""The page of a flow run in Prefect's UI: progress bars, pictures, tables, texts and links, as artifacts.

A server that cannot be reached neither stops nor delays the work: artifacts are dropped for a minute.
"""

import base64
import io
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import httpx
from PIL import Image
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

from atelier.paths import PROGRESS
from flows.runtime.process import TICK_S

PAUSE_S = 60.0  # without artifacts, after the server could not be reached
PICTURE_BYTES = 60_000  # Prefect's UI prints the whole data URL below the picture
PICTURE_SIDES_PX = (768, 512, 384, 256, 128)

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


class RunPage:
    """Creates artifacts of the current flow or task run. `key` names an artifact: lower-case letters and dashes."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._paused_until_s = float("-inf")

    def table(self, key: str, rows: list[dict[str, str]]) -> None:
        """Show a table; all rows have the same columns."""
        self._show(lambda: create_table_artifact(rows, key=key))

    def markdown(self, key: str, text: str) -> None:
        """Show a text in Markdown."""
        self._show(lambda: create_markdown_artifact(text, key=key))

    def link(self, key: str, path: Path, description: str) -> None:
        """Link to a file on this machine. A browser on another machine shows at least its path."""
        place = path.absolute()
        self._show(lambda: create_link_artifact(place.as_uri(), str(place), key=key, description=description))

    def picture(self, key: str, path: Path, description: str) -> None:
        """Show a reduced copy of a picture. A file that cannot be read is a warning in the log."""
        try:
            url = picture_data_url(path)
        except OSError as error:  # deleted since it was written
            self._logger.warning("%s is not shown: %s", path, error)
            return
        self._show(lambda: create_image_artifact(url, key=key, description=f"`{path}`, {description}"))

    def progress(self, key: str, bar: UUID | None, percent: float, description: str) -> UUID | None:
        """Create a progress bar, or move the one with the id `bar`. Returns the bar's id, or None if it failed."""
        if bar is not None:
            self._show(lambda: update_progress_artifact(bar, percent, description=description))
            return bar
        created = self._show(lambda: create_progress_artifact(percent, key=key, description=description))
        return created if isinstance(created, UUID) else None

    def _show(self, show: Callable[[], object]) -> object:
        if time.monotonic() < self._paused_until_s:
            return None
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):  # the default waits for a minute
                return show()
        except (httpx.HTTPError, PrefectException) as error:
            self._paused_until_s = time.monotonic() + PAUSE_S
            self._logger.warning("Prefect's page is out of reach, the work goes on: %s", error)
            return None


class StageFollower:
    """Logs a running stage's output and shows its progress file as a bar and a picture on the run page."""

    def __init__(self, stage: str, logger: Logger) -> None:
        self._key, self._logger = stage.replace("_", "-"), logger
        self._path = PROGRESS / f"{stage}.json"
        self._page = RunPage(logger)
        self._bar: UUID | None = None
        self._picture = ""
        self._shown_mtime_ns = self._mtime_ns()  # the file of an earlier run is not shown
        self._shown_s = float("-inf")

    def line(self, text: str) -> None:
        """Log a line of the stage's output."""
        self._logger.info(text)

    def tick(self) -> None:
        """Update the page, at most once a second."""
        if time.monotonic() - self._shown_s >= TICK_S:
            self.show()

    def show(self) -> None:
        """Update the page now if the progress file has changed."""
        mtime_ns = self._mtime_ns()
        if mtime_ns == self._shown_mtime_ns:
            return
        self._shown_mtime_ns, self._shown_s = mtime_ns, time.monotonic()
        progress = json.loads(self._path.read_text())
        percent = 100 * float(progress["done"]) / max(float(progress["total"]), 1e-9)
        text = f"{progress['done']}/{progress['total']} {progress['unit']}, {progress['rate']}/s {progress['note']}"
        self._bar = self._page.progress(f"{self._key}-progress", self._bar, min(max(percent, 0.0), 100.0), text)
        if (picture := str(progress.get("picture", ""))) not in ("", self._picture):
            self._picture = picture
            self._page.picture(f"{self._key}-picture", Path(picture), text)

    def _mtime_ns(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def picture_data_url(path: Path) -> str:
    """Return the picture as a `data:` URL of a small WebP, because Prefect's UI cannot read files.

    Raises OSError if the file is missing or no picture.
    """
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    for side_px in PICTURE_SIDES_PX:
        image.thumbnail((side_px, side_px))
        file = io.BytesIO()
        image.save(file, "WEBP", quality=75)  # a third smaller than JPEG
        if file.tell() <= PICTURE_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"

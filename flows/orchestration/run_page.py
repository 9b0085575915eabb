"""What a flow run shows and sends: artifacts on its page in Prefect's UI, and a notification of how it ended.

A server that cannot be reached neither stops nor delays the work: artifacts are dropped for a minute. A notification is
sent through Prefect's notification blocks; one that cannot be sent is a warning in the run's log and never fails the
run. Its address is the name of a block or a webhook's URL, which may contain a secret, so it is never logged.
"""

import base64
import functools
import io
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from PIL import Image
from prefect import Flow, artifacts
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import PrefectException
from prefect.flows import FlowStateHook
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

from atelier.errors import AtelierError
from atelier.paths import PROGRESS
from flows.runtime.process import TICK_S

PAUSE_S = 60.0  # without artifacts, after the server could not be reached
PICTURE_BYTES = 60_000  # Prefect's UI prints the whole data URL below the picture
PICTURE_SIDES_PX = (768, 512, 384, 256, 128)

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs the URL of each request


class RunPage:
    """Creates artifacts of the current flow or task run. `key` names an artifact: lower-case letters and dashes."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._paused_until_s = float("-inf")
        context = get_settings_context()
        impatient = context.settings.copy_with_update({PREFECT_CLIENT_MAX_RETRIES: 1})  # the default waits for a minute
        self._settings = functools.partial(SettingsContext, profile=context.profile, settings=impatient)

    def table(self, key: str, rows: list[dict[str, str]]) -> None:
        """Show a table; all rows have the same columns."""
        self._show(lambda: artifacts.create_table_artifact(rows, key=key))

    def markdown(self, key: str, text: str) -> None:
        """Show a text in Markdown."""
        self._show(lambda: artifacts.create_markdown_artifact(text, key=key))

    def link(self, key: str, path: Path, description: str) -> None:
        """Link to a file on this machine. A browser on another machine shows at least its path."""
        place = path.absolute()
        self._show(lambda: artifacts.create_link_artifact(place.as_uri(), str(place), key=key, description=description))

    def picture(self, key: str, path: Path, description: str) -> None:
        """Show a reduced copy of a picture. A file that cannot be read is a warning in the log."""
        try:
            url = picture_data_url(path)
        except OSError as error:  # deleted since it was written
            self._logger.warning("%s is not shown: %s", path, error)
            return
        self._show(lambda: artifacts.create_image_artifact(url, key=key, description=f"`{path}`, {description}"))

    def progress(self, key: str, bar: UUID | None, percent: float, description: str) -> UUID | None:
        """Create a progress bar, or move the one with the id `bar`. Returns the bar's id, or None if it failed."""
        if bar is not None:
            self._show(lambda: artifacts.update_progress_artifact(bar, percent, description=description))
            return bar
        created = self._show(lambda: artifacts.create_progress_artifact(percent, key=key, description=description))
        return created if isinstance(created, UUID) else None

    def _show(self, show: Callable[[], object]) -> object:
        if time.monotonic() < self._paused_until_s:
            return None
        try:
            with self._settings():  # temporary_settings would take 30 ms each time
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
    """Return a `data:` URL of a small WebP of the picture, for Prefect's UI. Raises OSError if it is no picture."""
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    for side_px in PICTURE_SIDES_PX:
        image.thumbnail((side_px, side_px))
        file = io.BytesIO()
        image.save(file, "WEBP", quality=75)  # a third smaller than JPEG
        if file.tell() <= PICTURE_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def notifier(read_address: Callable[[], str | None], quiet: Callable[[State[Any]], bool]) -> FlowStateHook[..., Any]:
    """A hook for `@flow` that sends the final state's message to an address, unless that is None or `quiet(state)`."""

    def notify(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
        if quiet(state):
            return
        logger = flow_run_logger(flow_run, flow)
        try:
            if (address := read_address()) is not None:
                text = f"{flow_run.name}: {state.message or state.name}"
                # called outside an event loop, so it sends the message before it returns
                _block(address).notify(text, f"Atelier: {(state.name or 'ended').lower()}")  # type: ignore[unused-coroutine]
        except AtelierError as error:
            logger.warning("no notification was sent: %s", error)
        except (httpx.HTTPError, httpx.InvalidURL, NotificationError, PrefectException, OSError, ValueError) as error:
            # the error's text may contain the secret address
            status = f"HTTP {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
            logger.warning("nightly.notify: the message was not sent: %s", status or type(error).__name__)

    return notify


def _block(address: str) -> NotificationBlock:
    if "://" not in address:
        block = Block.load(address)
        if not isinstance(block, NotificationBlock):
            raise AtelierError(f"nightly.notify: the block {address} sends no messages: name a Slack or webhook block")
        return block
    fields = {"text": "{{subject}}: {{body}}", "subject": "{{subject}}", "body": "{{body}}"}
    return CustomWebhookNotificationBlock(name="atelier", url=address, json_data=fields)

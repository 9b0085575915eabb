"""What a run shows on Prefect's page: progress, pictures, tables, texts, links. Knows no stage and decides nothing.

A page that cannot be reached is no reason to stop a training, nor to hold it up: it is left alone for a while.

What a flow tells: a stage's picture, and at its end one row a stage, for a terminal and for Prefect's page.

Tells somebody outside, through Prefect's notification blocks: of a promotion, and of a night that failed or ended.

`nightly.notify` names a block, or gives a webhook's address, which may hold a secret: it is in no line of ours. A
message that cannot be sent is a warning, never the night's failure.
"""

import base64
import io
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from PIL import Image
from prefect import Flow
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectException
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from rich.table import Table

from atelier.errors import AtelierError
from flows.clones import night_clone
from flows.repo import stages

PICTURE_BYTES = 60_000  # Prefect's page prints an address in full below what it shows

PICTURE_SIDES_PX = (768, 512, 384, 256, 128)

STYLES = {"Completed": "green", "Cached": "cyan", "Failed": "red", "Out of reach": "red", "Not run": "dim"}


@dataclass(frozen=True, slots=True)
class Row:
    """One stage's fate; `key` names its inputs, 12 hex of dvc.lock."""

    stage: str
    state: str
    seconds: float
    key: str


def picture_address(path: Path) -> str:
    """A picture of our own as the data: address of a small WebP: Prefect's page can reach no file.

    Raises OSError where it is gone or no picture.
    """
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    for side_px in PICTURE_SIDES_PX:
        image.thumbnail((side_px, side_px))
        file = io.BytesIO()
        image.save(file, "WEBP", quality=75)  # a third smaller than a JPEG
        if file.tell() <= PICTURE_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def terminal_table(rows: Sequence[Row]) -> Table:
    """For rich's console."""
    table = Table("stage", "state", "seconds", "key")
    table.columns[2].justify = "right"
    for row in rows:
        style = STYLES.get(row.state, "")
        table.add_row(row.stage, f"[{style}]{row.state}[/]", f"{row.seconds:.1f}", row.key)
    return table


def artifact_table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """For Prefect's table artifact."""
    return [
        {"stage": row.stage, "state": row.state, "seconds": f"{row.seconds:.1f}", "key": row.key}
        for row in rows
    ]


def summary(rows: Sequence[Row]) -> str:
    """`3 completed, 5 cached`"""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state.lower()}" for state in STYLES if state in states)


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


logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log the address it asks


def tell(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A flow's hook: say how `flow_run` ended, where that is worth a message and params.yaml says to whom."""
    if state.is_completed() and state.name != "Promoted":
        return
    logger = flow_run_logger(flow_run, flow)
    try:
        to = night_clone.committed_params(Path.cwd()).nightly.notify
        if to is not None:
            said = f"{flow_run.name}: {state.message or state.name}"
            # outside an event loop it sends, and gives nothing to wait for
            _block(to).notify(said, f"Atelier: {(state.name or 'ended').lower()}")  # type: ignore[unused-coroutine]
    except AtelierError as error:
        logger.warning("nobody is told: %s", error)
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        NotificationError,
        PrefectException,
        OSError,
        ValueError,
    ) as error:
        logger.warning("nightly.notify: the message was not sent: %s", _why(error))


def _block(to: str) -> NotificationBlock:
    if "://" not in to:
        block = Block.load(to)
        if not isinstance(block, NotificationBlock):
            raise AtelierError(
                f"nightly.notify: the block {to} sends no messages; Slack's or a webhook's would"
            )
        return block
    words = {"text": "{{subject}}: {{body}}", "subject": "{{subject}}", "body": "{{body}}"}
    return CustomWebhookNotificationBlock(name="atelier", url=to, json_data=words)


def _why(error: Exception) -> str:
    """The kind of mistake; its text might hold the address."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__

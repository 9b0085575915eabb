"""Tells somebody outside, through Prefect's notification blocks: of a promotion, and of a night that failed or ended.

`nightly.notify` names a block, or gives a webhook's address, which may hold a secret: it is in no line of ours. A
message that cannot be sent is a warning, never the night's failure.
"""

import logging
from pathlib import Path
from typing import Any

import httpx
from prefect import Flow
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectException
from prefect.logging.loggers import flow_run_logger

from atelier.errors import AtelierError
from flows.clones import night_clone

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

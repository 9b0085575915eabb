"""Notifications of how a flow run ended, sent through Prefect's notification blocks.

The address is the name of a block or a webhook's URL, which may contain a secret, so it is never logged. A message
that cannot be sent is a warning in the run's log and never fails the run.
"""

import logging
from collections.abc import Callable
from typing import Any

import httpx
from prefect import Flow
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectException
from prefect.flows import FlowStateHook
from prefect.logging.loggers import flow_run_logger

from atelier.errors import AtelierError

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs the URL of each request


def notifier(read_address: Callable[[], str | None], quiet: Callable[[State[Any]], bool]) -> FlowStateHook[..., Any]:
    """Return a hook for `@flow` that sends the final state's message to `read_address()`, unless that is None.

    States for which `quiet` is true send nothing.
    """

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
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            NotificationError,
            PrefectException,
            OSError,
            ValueError,
        ) as error:
            logger.warning("nightly.notify: the message was not sent: %s", _reason(error))

    return notify


def _block(address: str) -> NotificationBlock:
    if "://" not in address:
        block = Block.load(address)
        if not isinstance(block, NotificationBlock):
            raise AtelierError(f"nightly.notify: the block {address} sends no messages; Slack's or a webhook's would")
        return block
    fields = {"text": "{{subject}}: {{body}}", "subject": "{{subject}}", "body": "{{body}}"}
    return CustomWebhookNotificationBlock(name="atelier", url=address, json_data=fields)


def _reason(error: Exception) -> str:
    """The HTTP status or the error's type. The error's text may contain the secret address."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__

"""The nights of one studio as a deployment of a Prefect server: when they begin, and what became of unfinished ones.

No more than one runs at a time, because this runner starts one at a time and a night holds its tree's lock. Prefect's
own limit of a deployment is not asked for: it ends a training whose server was away when a lease was to be renewed.
"""

import contextlib
import os
import sys
import threading
import time
import warnings
from dataclasses import dataclass

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.schedules import Cron
from prefect.states import Crashed
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from atelier.errors import AtelierError
from flows import server, tree
from flows.nightly import nightly

# Prefect's runner does so where it is told to stop, which it then does
warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)

LOOK_EVERY_S = 10.0
AT_WORK = (StateType.RUNNING, StateType.CANCELLING)


@dataclass(frozen=True, slots=True)
class Plan:
    """When nights begin: a cron line, and the time zone it is meant in."""

    cron: str
    timezone: str


def checked(cron: str, timezone: str) -> Plan:
    """A schedule that Prefect will take. Raises AtelierError for a line or a zone that is none."""
    try:
        CronSchedule(cron=cron)
    except ValidationError:
        raise AtelierError(
            f'--cron "{cron}": no cron line; it has minute, hour, day, month, weekday: "0 2 * * *" is each night at 2'
        ) from None
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError:
        raise AtelierError(
            f"--timezone {timezone}: no time zone; one like Europe/Paris is asked for"
        ) from None
    return Plan(cron, timezone)


def serve(name: str, plan: Plan) -> None:
    """Start nights when they are due, until we are told to stop; after an outage of the server, we begin anew."""
    threading.Thread(target=_begin_anew_after_outage, daemon=True, name="outage").start()
    gone = False
    try:
        nightly.serve(
            name=name,
            schedule=Cron(plan.cron, timezone=plan.timezone),
            limit=1,
            pause_on_shutdown=False,
            print_starting_message=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
            description="Harvests, trains and judges; promotes the challenger where it is better than the champion.",
        )
    except* RuntimeError:  # what Prefect's runner ends with where its server was away for some minutes
        gone = True
    if gone:
        threading.Event().wait()  # for that thread


def _begin_anew_after_outage() -> None:
    """Start this program again between two nights, once a server that was away answers.

    Prefect's runner survives a short outage, but hears of no cancelling any more.
    """
    was_away = False
    while True:
        time.sleep(LOOK_EVERY_S)
        if server.running() is None:
            was_away = True
        elif was_away:
            with contextlib.suppress(tree.AtWorkError), tree.only_flow("night"):
                os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def bury(name: str) -> None:
    """Say of nights that ended without a word, killed or cut off from the server, that they have ended."""
    ours = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    open_ones = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(AT_WORK))))
    with (
        contextlib.suppress(tree.AtWorkError),
        tree.only_flow("night"),
        get_client(sync_client=True) as client,
    ):
        for run in client.read_flow_runs(deployment_filter=ours, flow_run_filter=open_ones):
            ended: State[None] = Crashed(
                message="its process ended without a word; the next night goes on from there"
            )
            client.set_flow_run_state(run.id, ended, force=True)

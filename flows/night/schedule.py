"""The nights of one studio as a deployment of a Prefect server: when they begin, and what became of unfinished ones.

No more than one runs at a time, because this runner starts one at a time and a night holds its tree's lock. Prefect's
own limit of a deployment is not asked for: it ends a training whose server was away when a lease was to be renewed.
"""

import contextlib
import json
import os
import re
import secrets
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.states import Crashed
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from atelier.errors import AtelierError
from atelier.files import write_json
from flows.nightly import nightly
from flows.orchestration import server
from flows.runtime import work_tree

# Prefect's runner does so where it is told to stop, which it then does
warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)

LOOK_EVERY_S = 10.0
IDENTITY = Path(".atelier/studio.json")  # what tells this studio from others of a Prefect server
AT_WORK = (StateType.RUNNING, StateType.CANCELLING)


@dataclass(frozen=True, slots=True)
class Plan:
    """When nights begin: a cron line, and the time zone it is meant in."""

    cron: str
    timezone: str


def checked(cron: str, timezone: str) -> Plan:
    """The plan of these two. Raises AtelierError where either cannot be read, and where the time never comes."""
    wanted = 'minute, hour, day, month, weekday: "0 2 * * *" is each night at 2'
    if (fields := len(cron.split())) != 5:  # a sixth would be seconds: 60 nights in a minute
        raise AtelierError(f'--cron "{cron}": {fields} fields in place of five, {wanted}')
    try:
        CronSchedule(cron=cron)
    except ValidationError:
        raise AtelierError(f'--cron "{cron}" is no cron line: {wanted}') from None
    if not _comes(cron):
        raise AtelierError(f'--cron "{cron}" names a date that never comes: {wanted}')
    try:
        zone = CronSchedule(cron=cron, timezone=timezone).timezone
    except ValidationError:
        zone = ""
    if not zone:
        raise AtelierError(f'--timezone "{timezone}" is no time zone; one like Europe/Paris is asked for')
    return Plan(cron, timezone)


def _comes(cron: str) -> bool:
    """Whether there is a time that a cron line names: 30 February is none."""
    from prefect._vendor.croniter import croniter
    from prefect._vendor.croniter.croniter import CroniterBadDateError

    try:
        croniter(cron, datetime.now()).get_next()
    except CroniterBadDateError:
        return False
    return True


def deployment() -> str:
    """The name of this studio's deployment: its folder's, and what tells it from others that are called so.

    A Prefect server has one deployment of a name. The second part is drawn once and kept in the studio; a copy of the
    studio's folder draws another.
    """
    here = Path.cwd().resolve()
    folder = re.sub(r"[^A-Za-z0-9_.-]+", "-", here.name).strip("-") or "studio"
    kept = _kept_identity()
    was = Path(kept.get("path", here))
    copied = was != here and (was / IDENTITY).is_file()
    identity = kept.get("id") if not copied else None
    if identity is None or was != here:
        identity = identity or secrets.token_hex(4)
        write_json(IDENTITY, {"id": identity, "path": str(here)})
    return f"{folder}-{identity}"


def _kept_identity() -> dict[str, str]:
    """What was drawn and where; nothing where nothing was, or where the file is damaged."""
    try:
        told = json.loads(IDENTITY.read_text(encoding="utf-8"))
        return (
            {"id": str(told["id"]), "path": str(told["path"])}
            if re.fullmatch(r"[0-9a-f]{8}", told["id"])
            else {}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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
        found = server.look()
        if found is None or found.state != "ok":
            was_away = True
        elif was_away:
            with contextlib.suppress(work_tree.AtWorkError), work_tree.only_flow("night"):
                os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def bury(name: str) -> None:
    """Mark as Crashed what nights of this deployment ended without a word: killed, or cut off from the server.

    Nothing is marked while a night is at work in this studio.
    """
    at_work = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(AT_WORK))))
    with (
        contextlib.suppress(work_tree.AtWorkError),
        work_tree.only_flow("night"),
        get_client(sync_client=True) as client,
    ):
        try:
            ours = client.read_deployment_by_name(f"{nightly.name}/{name}").id
        except ObjectNotFound:
            return
        mine = DeploymentFilter(id=DeploymentFilterId(any_=[ours]))
        for run in client.read_flow_runs(deployment_filter=mine, flow_run_filter=at_work):
            ended: State[None] = Crashed(
                message="its process ended without a word; the next night goes on from there"
            )
            client.set_flow_run_state(run.id, ended, force=True)

"""The schedule of a studio's nights: a deployment of the nightly flow on a Prefect server, and the runs it starts.

Nights never overlap: this process starts one at a time, and a night holds a lock in its studio. Prefect's own
concurrency limit of a deployment is not used: it cancels a training if the server is down when its lease is renewed.
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
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect._vendor.croniter import croniter
from prefect._vendor.croniter.croniter import CroniterBadDateError
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron, Schedule
from prefect.states import Crashed
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from atelier.errors import AtelierError
from atelier.files import write_json
from atelier.paths import STUDIO_ID
from flows.orchestration import server
from flows.runtime import work_tree

# Prefect's runner does that when it is stopped, and stops all the same
warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)

CHECK_EVERY_S = 10.0
UNFINISHED = [StateType.RUNNING, StateType.CANCELLING]


def checked(cron: str, timezone: str) -> Schedule:
    """Return the schedule. Raises AtelierError for an invalid cron line or time zone, or a time that never comes."""
    wanted = 'minute, hour, day, month, weekday: "0 2 * * *" is each night at 2'
    if (fields := len(cron.split())) != 5:  # a sixth field would be seconds: 60 nights in a minute
        raise AtelierError(f'--cron "{cron}": {fields} fields in place of five, {wanted}')
    try:
        CronSchedule(cron=cron)
        croniter(cron, datetime.now()).get_next()
    except ValidationError:
        raise AtelierError(f'--cron "{cron}" is no cron line: {wanted}') from None
    except CroniterBadDateError:  # 30 February
        raise AtelierError(f'--cron "{cron}" names a date that never comes: {wanted}') from None
    with contextlib.suppress(ValidationError):
        if CronSchedule(cron=cron, timezone=timezone).timezone:
            return Cron(cron, timezone=timezone)
    raise AtelierError(f'--timezone "{timezone}" is no time zone: write one like Europe/Paris')


def deployment_name() -> str:
    """Return the name of this studio's deployment: the folder's name and a random id.

    A Prefect server has one deployment of a name. The id is drawn once for a studio; a copy of it draws its own.
    """
    here = Path.cwd().resolve()
    folder = re.sub(r"[^A-Za-z0-9_.-]+", "-", here.name).strip("-") or "studio"
    identity, path = _read_identity()
    if path != here:  # moved, copied, or never drawn
        if identity is None or (path is not None and (path / STUDIO_ID).is_file()):
            identity = secrets.token_hex(4)
        write_json(STUDIO_ID, {"id": identity, "path": str(here)})
    return f"{folder}-{identity}"


def serve(nightly: Flow[Any, Any], name: str, plan: Schedule) -> None:
    """Run the flow `nightly` as planned, as the deployment `name`, until the process is stopped.

    After an outage of the server the process restarts itself.
    """
    threading.Thread(target=_restart_after_outage, daemon=True, name="outage").start()
    lost_server = False
    try:
        nightly.serve(
            name=name,
            schedule=plan,
            limit=1,
            pause_on_shutdown=False,
            print_starting_message=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
            description="Harvests, trains and judges; promotes the challenger where it is better than the champion.",
        )
    except* RuntimeError:  # Prefect's runner raises it when the server was down for some minutes
        lost_server = True
    if lost_server:
        threading.Event().wait()  # until the thread restarts the process


def mark_crashed(nightly: Flow[Any, Any], name: str) -> None:
    """Set the unfinished runs of this deployment to Crashed: their processes were killed or lost the server.

    Does nothing while a night is running in this studio.
    """
    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": UNFINISHED}}})
    with (
        contextlib.suppress(work_tree.AtWorkError),
        work_tree.only_flow("night"),
        get_client(sync_client=True) as client,
    ):
        try:
            deployment = client.read_deployment_by_name(f"{nightly.name}/{name}")
        except ObjectNotFound:
            return
        of_deployment = DeploymentFilter.model_validate({"id": {"any_": [deployment.id]}})
        for run in client.read_flow_runs(deployment_filter=of_deployment, flow_run_filter=unfinished):
            message = "its process ended unexpectedly; the next night goes on from there"
            crashed: State[None] = Crashed(message=message)
            client.set_flow_run_state(run.id, crashed, force=True)


def _read_identity() -> tuple[str | None, Path | None]:
    """The studio's id and the folder in which it was drawn; None twice if the file is missing or damaged."""
    try:
        content = json.loads(STUDIO_ID.read_text(encoding="utf-8"))
        identity, path = str(content["id"]), Path(str(content["path"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
    return (identity, path) if re.fullmatch(r"[0-9a-f]{8}", identity) else (None, None)


def _restart_after_outage() -> None:
    """Restart this program between two nights once a server that was down answers again.

    Prefect's runner survives a short outage, but no longer learns of cancelled runs.
    """
    was_down = False
    while True:
        time.sleep(CHECK_EVERY_S)
        found = server.look()
        if found is None or found.state != "ok":
            was_down = True
        elif was_down:
            with contextlib.suppress(work_tree.AtWorkError), work_tree.only_flow("night"):
                os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

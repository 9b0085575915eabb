"""The pipeline as Prefect sees it: one task per stage, in DVC's order. DVC alone decides what runs.

Enter the tree (flows.tree) before this module is imported: Prefect reads its settings when it is.
"""

import json
import logging
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import httpx
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.states import Completed, Failed
from rich.console import Console

from atelier.errors import AtelierError
from flows import dvc
from flows.report import Row, artifact_table, picture_address, summary, terminal_table

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]
PROGRESS = Path(".atelier/progress")

# a failed stage has said why; Prefect would say it again, with an empty traceback
get_logger("prefect.task_runs").addFilter(lambda record: "Task run failed with state" not in str(record.msg))


@flow(name="studio", persist_result=False)
def studio(plan: list[dvc.PlannedStage]) -> State:
    """Make each stage of DVC's plan fresh; stops at the first that fails."""
    logger = get_run_logger()
    run = uuid.uuid4().hex
    states: dict[str, State] = {}
    rows: list[Row] = []
    moving: set[str] = set()  # stale, or fed by something stale: DVC is asked again when their turn comes
    for stage in plan:
        began_s = time.monotonic()
        if stage.stale or moving & set(stage.upstream):
            moving.add(stage.name)
        # called, not submitted: in the main thread Ctrl-C and SIGTERM reach the stage
        states[stage.name] = state = run_stage.with_options(name=stage.name)(
            stage.name,
            run,
            stage.name in moving,
            wait_for=[states[name] for name in stage.upstream],
            return_state=True,
        )
        done = state.is_completed()
        key = dvc.key(stage.name) if done else ""  # dvc.lock still holds the last success's
        rows.append(Row(stage.name, state.name or "", time.monotonic() - began_s, key))
        if not done:
            break
    rows += [Row(stage.name, "Not run", 0.0, "") for stage in plan[len(rows) :]]
    Console().print(terminal_table(rows))
    create_table_artifact(artifact_table(rows), key="stages")
    if not done:
        return Failed(message=state.message)
    return Completed(message=summary(rows) + _changed_meanwhile(rows, logger))


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, run: str, moving: bool) -> State:
    """`Cached` where DVC has the stage's outs already, `Completed` where the stage ran."""
    verdict: dvc.Verdict = "unchanged"
    if moving:
        follower = _Follower(stage, get_run_logger())
        try:
            verdict = dvc.repro(stage, run, follower)
            follower.show()
        except AtelierError as error:  # a sentence for a person, not a traceback
            return Failed(message=str(error))
    name = "Completed" if verdict == "executed" else "Cached"
    return Completed(name=name, message=f"dvc: {verdict} {dvc.key(stage)}")


class _Follower:
    """A stage's lines become log lines, its progress file a progress artifact, its pictures image artifacts."""

    def __init__(self, stage: str, logger: Logger) -> None:
        self._stage, self._logger = stage, logger
        self._path = PROGRESS / f"{stage}.json"
        self._artifact: UUID | None = None
        self._picture = ""
        self._shown = self._stamp()  # what an earlier run left is not this one's progress
        self._shown_s = float("-inf")
        self._reachable = True

    def line(self, text: str) -> None:
        self._logger.info(text)

    def tick(self) -> None:
        if time.monotonic() - self._shown_s >= dvc.TICK_S:
            self.show()

    def show(self) -> None:
        """Bring the artifact up to the progress file, however recently that was done."""
        stamp = self._stamp()
        if not self._reachable or stamp == self._shown:
            return
        self._shown, self._shown_s = stamp, time.monotonic()
        try:
            self._show(json.loads(self._path.read_text()))
        except (httpx.HTTPError, PrefectException) as error:  # a server gone is no reason to stop training
            self._reachable = False
            self._logger.warning("progress is no longer shown: %s", error)

    def _show(self, progress: dict[str, float | str]) -> None:
        percent = 100 * float(progress["done"]) / max(float(progress["total"]), 1e-9)
        percent = min(max(percent, 0.0), 100.0)
        words = f"{progress['done']}/{progress['total']} {progress['unit']}, {progress['rate']}/s {progress['note']}"
        if self._artifact is None:
            created = create_progress_artifact(
                percent, key=f"{self._stage}-progress".replace("_", "-"), description=words
            )
            assert isinstance(created, UUID)
            self._artifact = created
        else:
            update_progress_artifact(self._artifact, percent, description=words)
        if (picture := str(progress.get("picture", ""))) not in ("", self._picture):
            self._picture = picture
            self._show_picture(picture, words)

    def _show_picture(self, picture: str, words: str) -> None:
        try:
            address = picture_address(Path(picture))
        except OSError as error:  # deleted between its making and our looking
            self._logger.warning("%s is not shown: %s", picture, error)
            return
        key = f"{self._stage}-picture".replace("_", "-")
        create_image_artifact(address, key=key, description=f"`{picture}`, {words}")

    def _stamp(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def _changed_meanwhile(rows: Sequence[Row], logger: Logger) -> str:
    """Each stage read params.yaml when it began; what was edited since is stale again, and said so."""
    if all(row.state == "Cached" for row in rows):
        return ""
    again = dvc.stale([row.stage for row in rows], logger.info)
    names = ", ".join(row.stage for row in rows if row.stage in again)
    if not names:
        return ""
    sentence = f"something was edited while the flow ran, stale again: {names}; run once more"
    logger.warning(sentence)
    return f"; {sentence}"

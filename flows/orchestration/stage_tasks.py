"""The pipeline as Prefect sees it: one task per stage, in DVC's order. DVC alone decides what runs.

Enter the tree (flows.runtime.work_tree) before this module is imported: Prefect reads its settings when it is.
"""

import logging
import time
import uuid
from collections.abc import Collection, Sequence

import httpx
from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_logger
from prefect.states import Completed, Failed
from rich.console import Console

from atelier.errors import AtelierError, TransientError
from flows.orchestration.page import Follower, Logger, Page, Row, artifact_table, summary, terminal_table
from flows.repo import stages
from flows.runtime.process import in_words

OUT_OF_REACH = "Out of reach"  # the state of a stage whose trouble may pass by itself
WAITS_S = (30.0, 60.0, 120.0, 240.0)  # before it is tried again; it has been patient itself by then


@flow(name="studio", persist_result=False)
def studio(plan: list[stages.PlannedStage]) -> State:
    """Make each stage of DVC's plan fresh; stops at the first that fails."""
    logger = get_run_logger()
    course = Course(plan)
    stopped = course.run()
    course.show(Page(logger))
    if stopped:
        return Failed(message=stopped.message)
    return Completed(message=summary(course.rows) + _changed_meanwhile(course.rows, logger))


class Course:
    """A plan's way through its stages, in one go or in several; `rows` tell each stage's fate so far."""

    def __init__(self, plan: Sequence[stages.PlannedStage]) -> None:
        self._plan = plan
        self._run = uuid.uuid4().hex
        self._states: dict[str, State] = {}
        self._ran: dict[str, Row] = {}
        self._moving: set[str] = set()  # stale, or fed by something stale: DVC is asked again at their turn

    @property
    def rows(self) -> list[Row]:
        """One a stage of the plan, in its order."""
        return [self._ran.get(stage.name, Row(stage.name, "Not run", 0.0, "")) for stage in self._plan]

    @property
    def ends(self) -> list[State]:
        """How those stages ended that no other has waited for so far."""
        awaited = {name for stage in self._plan if stage.name in self._states for name in stage.upstream}
        return [state for name, state in self._states.items() if name not in awaited]

    def run(self, *targets: str) -> State | None:
        """Make these stages and what they need fresh, or all; each has one turn. The first failure's state.

        Raises AtelierError where the plan has no such stage.
        """
        if unknown := set(targets) - {stage.name for stage in self._plan}:
            raise AtelierError(f"dvc.yaml has no stage {', '.join(sorted(unknown))}")
        wanted = self._with_needs(targets) if targets else {stage.name for stage in self._plan}
        for stage in self._plan:
            if stage.name in wanted and stage.name not in self._ran:
                state = self._make_fresh(stage)
                if not state.is_completed():
                    return state
        return None

    def show(self, page: Page) -> None:
        """Print the rows, and put them on Prefect's page."""
        Console().print(terminal_table(self.rows))
        page.table("stages", artifact_table(self.rows))

    def _with_needs(self, targets: Collection[str]) -> set[str]:
        wanted = set(targets)
        for stage in reversed(self._plan):  # a stage stands behind all that it needs
            if stage.name in wanted:
                wanted.update(stage.upstream)
        return wanted

    def _make_fresh(self, stage: stages.PlannedStage) -> State:
        began_s = time.monotonic()
        if stage.stale or self._moving & set(stage.upstream):
            self._moving.add(stage.name)
        # called, not submitted: in the main thread Ctrl-C and SIGTERM reach the stage
        state = run_stage.with_options(
            name=stage.name, retries=len(WAITS_S), retry_delay_seconds=list(WAITS_S)
        )(
            stage.name,
            self._run,
            stage.name in self._moving,
            wait_for=[self._states[name] for name in stage.upstream],
            return_state=True,
        )
        key = (
            stages.key(stage.name) if state.is_completed() else ""
        )  # dvc.lock still holds the last success's
        self._states[stage.name] = state
        self._ran[stage.name] = Row(stage.name, state.name or "", time.monotonic() - began_s, key)
        return state


def may_pass(task: Task[..., State], run: TaskRun, state: State) -> bool:
    """Prefect's question whether a task should be tried again."""
    return state.name == OUT_OF_REACH


def failed(error: AtelierError | OSError) -> State:
    """A task's state that says in a sentence what went wrong, without a traceback."""
    return Failed(
        name=OUT_OF_REACH if isinstance(error, TransientError) else "Failed", message=in_words(error)
    )


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=may_pass)
def run_stage(stage: str, run: str, moving: bool) -> State:
    """`Cached` where DVC has the stage's outs already, `Completed` where the stage ran."""
    verdict: stages.Verdict = "unchanged"
    if moving:
        follower = Follower(stage, get_run_logger())
        try:
            verdict = stages.repro(stage, run, follower)
            follower.show()
        except (AtelierError, OSError) as error:
            return failed(error)
    name = "Completed" if verdict == "executed" else "Cached"
    return Completed(name=name, message=f"dvc: {verdict} {stages.key(stage)}")


def _changed_meanwhile(rows: Sequence[Row], logger: Logger) -> str:
    """Each stage read params.yaml when it began; what was edited since is stale again, and said so."""
    if all(row.state == "Cached" for row in rows):
        return ""
    try:
        again = stages.stale([row.stage for row in rows], logger.info)
    except AtelierError as error:  # dvc.yaml or params.yaml cannot be read any more
        sentence = f"something was edited while the flow ran: {error}"
        logger.warning(sentence)
        return f"; {sentence}"
    names = ", ".join(row.stage for row in rows if row.stage in again)
    if not names:
        return ""
    sentence = f"something was edited while the flow ran, stale again: {names}; run once more"
    logger.warning(sentence)
    return f"; {sentence}"


def _in_words(record: logging.LogRecord) -> bool:
    """A failed stage has said why: Prefect would say it again with an empty traceback, or as a repr with the time."""
    if "Task run failed with state" in str(record.msg):
        return False
    match record.args:
        case ("state", State() as state, number, retries, when):
            record.msg, record.args = "%s; again %s (%s of %s)", (state.message, when, number, retries)
    return True


def _without_traceback(record: logging.LogRecord) -> bool:
    """Where Prefect's server fails, a full disk say, the flow's command ends with a sentence, which is enough."""
    return not (record.exc_info and isinstance(record.exc_info[1], httpx.HTTPError))


get_logger("prefect.task_runs").addFilter(_in_words)
get_logger("prefect.flow_runs").addFilter(_without_traceback)

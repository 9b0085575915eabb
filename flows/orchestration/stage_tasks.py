"""The pipeline in Prefect: the flow `studio`, with one task per stage in DVC's order. DVC alone decides what runs.

Enter the work tree (flows.runtime.work_tree) before importing this module: Prefect reads its settings on import.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence

import httpx
from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_logger
from prefect.states import Completed, Failed

from atelier.errors import AtelierError, TransientError
from flows.orchestration.run_page import Logger, RunPage, StageFollower
from flows.orchestration.without_prefect import StageRow, print_table, summary
from flows.repo import stages
from flows.runtime.process import in_words

OUT_OF_REACH = "Out of reach"  # the state of a stage that failed for a reason that may pass, for example a network
RETRY_DELAYS_S = (30.0, 60.0, 120.0, 240.0)  # in addition to the retries within the stage itself


@flow(name="studio", persist_result=False)
def studio(plan: list[stages.PlannedStage]) -> State:
    """Bring each stage of DVC's plan up to date; stop at the first that fails."""
    logger = get_run_logger()
    pipeline = PipelineRun(plan)
    stopped = pipeline.run()
    pipeline.show(RunPage(logger))
    if stopped:
        return Failed(message=stopped.message)
    return Completed(message=summary(pipeline.rows) + _stale_again(pipeline.rows, logger))


class PipelineRun:
    """Runs a plan's stages as Prefect tasks of the current flow, all at once or in several calls of `run`."""

    def __init__(self, plan: Sequence[stages.PlannedStage]) -> None:
        self._plan = plan
        self._run_id = uuid.uuid4().hex
        self._states: dict[str, State] = {}
        self._rows: dict[str, StageRow] = {}
        self._unsettled: set[str] = set()  # stale, or downstream of a stale stage: DVC decides again at their turn

    @property
    def rows(self) -> list[StageRow]:
        """A row for each stage of the plan, in its order."""
        return [self._rows.get(stage.name, StageRow(stage.name, "Not run", 0.0, "")) for stage in self._plan]

    @property
    def leaves(self) -> list[State]:
        """The final states of the stages on whose outputs none of the stages that have run depends."""
        awaited = {name for stage in self._plan if stage.name in self._states for name in stage.upstream}
        return [state for name, state in self._states.items() if name not in awaited]

    def run(self, *targets: str) -> State | None:
        """Bring the targets and what they need up to date, or all stages without targets; no stage runs twice.

        Returns the state of the first stage that failed, or None. Raises AtelierError for an unknown target.
        """
        names = {stage.name for stage in self._plan}
        if unknown := set(targets) - names:
            raise AtelierError(f"dvc.yaml has no stage {', '.join(sorted(unknown))}")
        wanted = set(targets or names)
        for stage in reversed(self._plan):  # a stage comes after all that it needs
            if stage.name in wanted:
                wanted.update(stage.upstream)
        for stage in self._plan:
            if stage.name in wanted and stage.name not in self._rows:
                state = self._run_stage(stage)
                if not state.is_completed():
                    return state
        return None

    def show(self, page: RunPage) -> None:
        """Show the rows in the terminal and on the run page."""
        print_table(self.rows)
        page.table("stages", [row.texts for row in self.rows])

    def _run_stage(self, stage: stages.PlannedStage) -> State:
        began_s = time.monotonic()
        if stage.stale or self._unsettled & set(stage.upstream):
            self._unsettled.add(stage.name)
        retried = run_stage.with_options(
            name=stage.name, retries=len(RETRY_DELAYS_S), retry_delay_seconds=list(RETRY_DELAYS_S)
        )
        awaited = [self._states[name] for name in stage.upstream]
        unsettled = stage.name in self._unsettled
        # called and not submitted: Ctrl-C and SIGTERM reach the stage only from the main thread
        state = retried(stage.name, self._run_id, unsettled, wait_for=awaited, return_state=True)
        # after a failure dvc.lock still has the last success
        key = stages.key(stage.name) if state.is_completed() else ""
        self._states[stage.name] = state
        self._rows[stage.name] = StageRow(stage.name, state.name or "", time.monotonic() - began_s, key)
        return state


def is_retried(task: Task[..., State], run: TaskRun, state: State) -> bool:
    """Whether Prefect runs a failed task again: only if the reason may pass."""
    return state.name == OUT_OF_REACH


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=is_retried)
def run_stage(stage: str, run_id: str, unsettled: bool) -> State:
    """Run one stage with DVC: `Completed` if it ran, `Cached` if DVC had its outputs.

    A stage that is not `unsettled` was up to date when the flow began, so DVC is not asked again.
    """
    verdict: stages.StageOutcome = "unchanged"
    if unsettled:
        follower = StageFollower(stage, get_run_logger())
        try:
            verdict = stages.repro(stage, run_id, follower)
            follower.show()
        except (AtelierError, OSError) as error:
            return failed(error)
    name = "Completed" if verdict == "executed" else "Cached"
    return Completed(name=name, message=f"dvc: {verdict} {stages.key(stage)}")


def failed(error: AtelierError | OSError) -> State:
    """A failed task's state with the error's sentence as message, without a traceback."""
    return Failed(name=OUT_OF_REACH if isinstance(error, TransientError) else "Failed", message=in_words(error))


def _stale_again(rows: Sequence[StageRow], logger: Logger) -> str:
    """A clause naming the stages that are stale again because files were edited during the run; empty if none."""
    if all(row.state == "Cached" for row in rows):
        return ""
    try:
        again = ", ".join(stages.stale([row.stage for row in rows], logger.info))
        trouble = f"something was edited while the flow ran, stale again: {again}; run once more" if again else ""
    except AtelierError as error:  # dvc.yaml or params.yaml cannot be read any more
        trouble = f"something was edited while the flow ran: {error}"
    if not trouble:
        return ""
    logger.warning(trouble)
    return f"; {trouble}"


def _shorten(record: logging.LogRecord) -> bool:
    """Drop Prefect's report of a failed task, which was logged already; log a retry without the state's repr."""
    if "Task run failed with state" in str(record.msg):
        return False
    match record.args:
        case ("state", State() as state, number, retries, when):
            record.msg, record.args = "%s; again %s (%s of %s)", (state.message, when, number, retries)
    return True


def without_traceback(error: type[Exception]) -> Callable[[logging.LogRecord], bool]:
    """Return a log filter that drops tracebacks of such errors: the flow's command ends with a sentence instead."""
    return lambda record: not (record.exc_info and isinstance(record.exc_info[1], error))


get_logger("prefect.task_runs").addFilter(_shorten)
get_logger("prefect.flow_runs").addFilter(without_traceback(httpx.HTTPError))

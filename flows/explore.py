"""An exploration: trials over settings as a Prefect flow, one task a trial, with the sheet as its artifact.

Enter the user's tree (flows.runtime.work_tree) before importing this module: Prefect reads its settings on import.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from atelier.errors import AtelierError, TransientError
from flows.clones import trials_clone
from flows.orchestration import server
from flows.orchestration.run_page import RunPage, StageFollower
from flows.orchestration.stage_tasks import OUT_OF_REACH
from flows.runtime import process, work_tree
from flows.trials.record import Exploration, count_endings, draw_sheet, exploration_names, sheet_rows
from flows.trials.run import TrialRunner
from flows.trials.search_space import Request, described

STOPPED = "Stopped"  # the state of a trial that failed for a reason that no other settings would change


def run(request: Request) -> tuple[Exploration, State]:
    """Run the trials that have not ended, in a clone of the user's tree, which is the current directory.

    Returns the exploration and the flow's state. Raises AtelierError while another exploration is running.
    """
    user = Path.cwd()
    clone = trials_clone.snapshot(user)
    exploration = Exploration(user, request.exploration_name(clone.identity))
    with work_tree.only_flow("exploration"):
        exploration.begin(request, clone.identity)
        print(f"{exploration.name}: {request.summary}; the studio stays as it is, trials run in {clone.root}")
        wait_for_server = server.start()
        trials_clone.prepare(clone, exploration.name, exploration_names(user))
        wait_for_server()
        with contextlib.chdir(clone.root), process.server_needed("the same command goes on from here"):
            runner = TrialRunner(request, clone, exploration)
            return exploration, explore(exploration.name, runner, return_state=True)


@flow(name="explore", flow_run_name="explore {name}", persist_result=False, validate_parameters=False)
def explore(name: str, runner: TrialRunner) -> State:
    """Run the trials one after another; stop at an error that other settings would not change.

    The state is Failed if a trial of this run failed.
    """
    page, exploration = RunPage(get_run_logger()), runner.exploration
    turns = 0
    while turn := runner.next():
        turns += 1
        experiment = exploration.experiment(turn[0])
        # called and not submitted: Ctrl-C and SIGTERM reach the training only from the main thread
        state = run_trial.with_options(name=experiment, task_run_name=experiment)(runner, *turn, return_state=True)
        if len(runner.ended) != turns:  # the trial has not ended and is not in the record
            message = state.message or "it ended without a message"
            stopped = state.name in (STOPPED, OUT_OF_REACH)
            return Failed(message=message if stopped else f"{experiment}: {message}")
        if trials := draw_sheet(exploration):
            page.picture("sheet", exploration.sheet, f"{len(trials)} trials, the best {exploration.by} first")
            page.table("trials", sheet_rows(exploration, trials))
    draw_sheet(exploration)
    return _final_state(runner)


@task(cache_policy=NO_CACHE, persist_result=False)
def run_trial(runner: TrialRunner, number: int, changes: Mapping[str, Any]) -> State:
    """Run one trial: `Completed` if it is a DVC experiment now, else `Pruned` or `Failed` with the reason."""
    logger = get_run_logger()
    logger.info("tries %s", described(changes))
    try:
        trial = runner.run(number, changes, lambda stage: StageFollower(stage, logger), logger.info)
    except TransientError as error:
        return Failed(name=OUT_OF_REACH, message=str(error))
    except AtelierError as error:  # expected: a sentence without a traceback
        return Failed(name=STOPPED, message=str(error))
    if trial.ending == "failed":
        return Failed(message=trial.said)
    if trial.ending == "pruned":
        return Completed(name="Pruned", message=trial.said)
    by = runner.exploration.by
    return Completed(message=f"{by} {trial.scores[by]:.6g}")


def _final_state(runner: TrialRunner) -> State:
    """The flow's final state: Failed if a trial of this run failed, or if there is no completed trial."""
    exploration = runner.exploration
    trials = exploration.trials()
    failed = [trial for trial in runner.ended if trial.ending == "failed"]
    reasons = "".join(f"\n{exploration.experiment(trial.number)} failed: {trial.said}" for trial in failed)
    if not trials:
        return Failed(message="no trial was run")
    best, counts = trials[0], count_endings(trials)
    if best.ending != "completed":
        return Failed(message=f"{counts}{reasons or f': {best.said}'}")
    name = exploration.experiment(best.number)
    message = (
        f"{counts}; the best {exploration.by}, {best.scores[exploration.by]:.4g}, is {name} "
        f"({described(best.changes)}); `atelier explore apply {name}` adopts it; {exploration.sheet} shows all{reasons}"
    )
    return Failed(message=message) if failed else Completed(message=message)

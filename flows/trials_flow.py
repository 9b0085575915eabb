"""An exploration as Prefect sees it: one task a trial, and the sheet growing with them.

Enter the user's tree (flows.runtime.work_tree) before this module is imported, and the trials' tree before the flow
is called.
"""

from collections.abc import Mapping
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from atelier.errors import AtelierError, PassingError
from flows.orchestration.page import Follower, Page
from flows.orchestration.stage_tasks import OUT_OF_REACH
from flows.trials import trials_sheet
from flows.trials.run import Trying
from flows.trials.search_space import described

STOPPED = "Stopped"


@flow(name="explore", flow_run_name="explore {name}", persist_result=False, validate_parameters=False)
def explore(name: str, trying: Trying) -> State:
    """Run the trials that have not ended, one after another; stops at what no other settings would mend.

    Its state is Failed where a trial of this run has failed.
    """
    page, explored = Page(get_run_logger()), trying.explored
    turns = 0
    while turn := trying.next():
        turns += 1
        experiment = explored.experiment(turn[0])
        # called, not submitted: in the main thread Ctrl-C and SIGTERM reach the training
        state = run_trial.with_options(name=experiment, task_run_name=experiment)(
            trying, *turn, return_state=True
        )
        if len(trying.ended) != turns:  # whatever became of it, it is on no sheet
            message = state.message or "it ended without a word"
            stopped = state.name in (STOPPED, OUT_OF_REACH)
            return Failed(message=message if stopped else f"{experiment}: {message}")
        if trials := trials_sheet.draw(explored):
            page.picture("sheet", explored.sheet, f"{len(trials)} trials, the best {explored.by} first")
            page.table("trials", trials_sheet.rows(explored, trials))
    trials_sheet.draw(explored)
    return _ended(trying)


@task(cache_policy=NO_CACHE, persist_result=False)
def run_trial(trying: Trying, number: int, changes: Mapping[str, Any]) -> State:
    """`Completed` where the trial is an experiment now, else `Pruned` or `Failed`, with the reason."""
    logger = get_run_logger()
    logger.info("tries %s", described(changes))
    try:
        trial = trying.run(number, changes, lambda stage: Follower(stage, logger), logger.info)
    except PassingError as error:
        return Failed(name=OUT_OF_REACH, message=str(error))
    except AtelierError as error:  # a sentence for a person, not a traceback
        return Failed(name=STOPPED, message=str(error))
    match trial.ending:
        case "completed":
            return Completed(message=f"{trying.explored.by} {trial.scores[trying.explored.by]:.6g}")
        case "pruned":
            return Completed(name="Pruned", message=trial.said)
        case "failed":
            return Failed(message=trial.said)


def _ended(trying: Trying) -> State:
    """What came of it. An exploration of which a trial has failed, or that has no experiment, has failed."""
    explored = trying.explored
    trials = explored.trials()
    endings = [trial.ending for trial in trials]
    counts = ", ".join(f"{endings.count(ending)} {ending}" for ending in dict.fromkeys(endings))
    failed = [trial for trial in trying.ended if trial.ending == "failed"]
    whys = "".join(f"\n{explored.experiment(trial.number)} failed: {trial.said}" for trial in failed)
    if "completed" not in endings:
        return Failed(message=f"{counts}{whys or f': {trials[0].said}'}" if trials else "no trial was run")
    best = trials[0]
    name = explored.experiment(best.number)
    message = (
        f"{counts}; the best {explored.by}, {best.scores[explored.by]:.4g}, is {name} "
        f"({described(best.changes)}); `atelier explore apply {name}` adopts it; {explored.sheet} shows all{whys}"
    )
    return Failed(message=message) if failed else Completed(message=message)

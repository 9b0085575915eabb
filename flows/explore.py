"""The trial and error of an artist: what goes before the trials, and what a person may do with what they came to.

Knows nothing of Prefect until every trial's settings are checked and no other exploration is at work.

An exploration as Prefect sees it: one task a trial, and the sheet growing with them.

Enter the user's tree (flows.runtime.work_tree) before this module is imported, and the trials' tree before the flow
is called.
"""

import contextlib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from rich.console import Console
from rich.table import Table

from atelier.errors import AtelierError, TransientError
from atelier.settings.load import load_params
from atelier.settings.messages import counted
from flows import studio
from flows.clones import trials_clone
from flows.orchestration.page import Follower, Page
from flows.orchestration.stage_tasks import OUT_OF_REACH
from flows.runtime import process, work_tree
from flows.trials import search_space, trials_sheet
from flows.trials.record import Explored, Wish
from flows.trials.run import Trying
from flows.trials.search_space import described

PARAMS = Path("params.yaml")

GOES_ON = "the same command goes on from here"

SHOWN = 5  # names of files in a sentence


def main(wish: Wish) -> int:
    """Run the trials that have not been run: 0 done, 1 failed or refused, 130 and 143 stopped."""
    return process.run_for_exit_code(lambda: _explore(wish), GOES_ON)


def apply(name: str, trial: int | None = None) -> int:
    """Make the studio what the experiment `name` is, and then what it lacks.

    `name` may also be an exploration: then it is the experiment of its trial `trial`, else of its best one.
    """
    return process.run_for_exit_code(lambda: _apply(name, trial), GOES_ON)


def show(name: str) -> int:
    """Draw an exploration's sheet anew."""

    def draw() -> int:
        work_tree.enter()
        _print(Explored.found(Path.cwd(), name))
        return 0

    return process.run_for_exit_code(draw, "")


def _explore(wish: Wish) -> int:
    work_tree.enter()
    _check(wish)
    user = Path.cwd()
    ours = trials_clone.look(user)
    explored = Explored(user, wish.called(ours.identity))
    with work_tree.only_flow("exploration"):
        explored.begin(wish, ours.identity)
        print(f"{explored.name}: {_counted(wish)}; the studio stays as it is, trials run in {ours.root}")

        from flows.orchestration import server

        wait_for_server = server.start()
        trials_clone.prepare(ours, explored.name)

        from flows.trials.run import Trying

        wait_for_server()
        with contextlib.chdir(ours.root), process.server_needed(GOES_ON):
            state = explore(explored.name, Trying(wish, ours, explored), return_state=True)
    _print(explored)
    print(state.message, file=sys.stdout if state.is_completed() else sys.stderr)
    return 0 if state.is_completed() else 1


def _check(wish: Wish) -> None:
    """That every trial's settings may be had; of a search, those at the ends of what it may choose."""
    params = load_params(PARAMS)
    trials = search_space.product(wish.axes) if wish.mode == "grid" else search_space.ends(wish.axes)
    search_space.check(params, [{**wish.fixed, **changes} for changes in trials])


def _counted(wish: Wish) -> str:
    words = " ".join(map(str, wish.axes))
    return (
        f"{counted(len(search_space.product(wish.axes)), 'trial')} of {words}"
        if wish.mode == "grid"
        else f"{counted(wish.trials, 'trial')}, chosen from {words}"
    )


def _apply(name: str, trial: int | None) -> int:
    work_tree.enter()
    user = Path.cwd()
    experiment, exploration = _named(user, name, trial)
    with work_tree.only_flow():
        plan = trials_clone.adoption(user, experiment, exploration)
        if plan.lost:
            raise AtelierError(
                f"{', '.join(plan.lost)}: edited or added since, and the experiment {experiment} would take its place: "
                "commit the edits, or put them aside with `git stash`; a folder that DVC tracks, `dvc add` it again "
                "and commit that"
            )
        plan.write()
    print(f"params.yaml, dvc.lock and data/ are those of {experiment}; what it lacks is made now")
    if plan.merged:
        print(f"{_listed(plan.merged)}: your commits have changed it, too; it has both changes now")
    if plan.kept:
        print(
            f"{_listed(plan.kept)}: changed by your commits since, and kept; what depends on it is made again"
        )
    return studio.main([])


def _listed(names: Collection[str]) -> str:
    """The first few names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(list(names)[:SHOWN]) + more


def _named(user: Path, name: str, trial: int | None) -> tuple[str, str]:
    """The experiment that is meant, and its exploration.

    `lr-2` is trial 2 of the exploration lr, or the best one of the exploration lr-2. Raises AtelierError where there
    are both, and where there is neither.
    """
    if trial is not None:
        explored = Explored.found(user, name)
        if explored.trial(trial) is None:
            raise AtelierError(f"the exploration {name} has no trial {trial}: `atelier explore show {name}`")
        return explored.experiment(trial), name
    exploration, dash, number = name.rpartition("-")
    of_another = (
        bool(dash) and number.isdecimal() and Explored(user, exploration).trial(int(number)) is not None
    )
    if of_another and Explored(user, name).is_there:
        raise AtelierError(
            f"{name} is both an exploration and an experiment of the exploration {exploration}: say which with "
            f"--trial, `atelier explore apply {exploration} --trial {number}`, or `atelier explore apply {name} "
            "--trial` and a number of its sheet"
        )
    if of_another:
        return name, exploration
    explored = Explored.found(user, name)
    trials = explored.trials()
    if not trials or trials[0].ending != "completed":
        raise AtelierError(f"the exploration {name} has no experiment yet: `atelier explore` makes some")
    return explored.experiment(trials[0].number), name


def _print(explored: Explored) -> None:
    """The trials as a table, after drawing their sheet."""
    trials = trials_sheet.draw(explored)
    rows = trials_sheet.rows(explored, trials)
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table()
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place < 2)  # a name is what `apply` takes
    for row in rows:
        table.add_row(*(row.get(column, "") for column in columns))
    Console().print(table, markup=False)
    print(f"{explored.sheet}\n{explored.table}")


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
    except TransientError as error:
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

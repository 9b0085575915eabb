"""The trial and error of an artist: what goes before the trials, and what a person may do with what they came to.

Knows nothing of Prefect until every trial's settings are checked and no other exploration is at work.
"""

import contextlib
import sys
from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.table import Table

from atelier.errors import AtelierError
from atelier.settings.messages import counted
from atelier.settings.schema import load_params
from flows import studio
from flows.clones import trials_clone
from flows.runtime import ending, work_tree
from flows.trials import search_space, trials_sheet
from flows.trials.record import Explored, Wish

PARAMS = Path("params.yaml")
GOES_ON = "the same command goes on from here"
SHOWN = 5  # names of files in a sentence


def main(wish: Wish) -> int:
    """Run the trials that have not been run: 0 done, 1 failed or refused, 130 and 143 stopped."""
    return ending.with_words(lambda: _explore(wish), GOES_ON)


def apply(name: str, trial: int | None = None) -> int:
    """Make the studio what the experiment `name` is, and then what it lacks.

    `name` may also be an exploration: then it is the experiment of its trial `trial`, else of its best one.
    """
    return ending.with_words(lambda: _apply(name, trial), GOES_ON)


def show(name: str) -> int:
    """Draw an exploration's sheet anew."""

    def draw() -> int:
        work_tree.enter()
        _print(Explored.found(Path.cwd(), name))
        return 0

    return ending.with_words(draw, "")


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
        from flows.trials_flow import explore

        wait_for_server()
        with contextlib.chdir(ours.root), ending.server_needed(GOES_ON):
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

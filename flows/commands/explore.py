"""`atelier explore …`: train and compare trials over settings, each a DVC experiment."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atelier.errors import AtelierError, run_for_exit_code
from atelier.paths import PARAMS
from flows.runtime import work_tree

if TYPE_CHECKING:
    from flows.trials.record import Exploration, Request

app = typer.Typer(
    help="Try settings, each trial a DVC experiment, and compare all of them on one sheet: "
    "`atelier explore grid train.lr=1e-4,2e-4 augment.crop=center,random --minutes 5`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

GOES_ON = "the same command goes on from here"  # printed after Ctrl-C
MAX_NAMES = 5  # of files, in a message

Minutes = Annotated[float | None, typer.Option(help="minutes of training in each trial (train.minutes)")]
By = Annotated[str, typer.Option(help="the number of metrics.json that ranks trials, for example coverage")]
Name = Annotated[str | None, typer.Option(help="name of the exploration; by default made from its keys")]


@app.command()
def grid(
    settings: Annotated[list[str], typer.Argument(metavar="KEY=VALUES...", help="for example train.lr=1e-4,2e-4")],
    minutes: Minutes = None,
    by: By = "kid_coarse",
    name: Name = None,
) -> None:
    """Run a trial for every combination of the values."""
    _explore("grid", settings, minutes=minutes, by=by, name=name)


@app.command()
def search(
    settings: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUES...", help="values or a range, for example train.lr=log:1e-5,1e-3"),
    ],
    trials: Annotated[int, typer.Option(min=1, help="number of trials")] = 20,
    minutes: Minutes = None,
    by: By = "kid_coarse",
    seed: Annotated[int, typer.Option(help="seed of Optuna's sampler")] = 0,
    name: Name = None,
) -> None:
    """Run trials with settings that Optuna chooses."""
    _explore("search", settings, trials=trials, minutes=minutes, by=by, seed=seed, name=name)


@app.command()
def apply(
    name: Annotated[str, typer.Argument(help="an experiment of the sheet, or an exploration for its best trial")],
    trial: Annotated[
        int | None, typer.Option(min=1, help="number of a trial of the exploration NAME, instead of its best")
    ] = None,
) -> None:
    """Adopt an experiment: take over its params.yaml, dvc.lock and data/, then run the stages that it lacks."""
    sys.exit(run_for_exit_code(lambda: _apply(name, trial), GOES_ON))


@app.command()
def show(name: Annotated[str, typer.Argument(help="an exploration")]) -> None:
    """Draw the sheet and the table of an exploration again."""
    from flows.trials.record import Exploration

    work_tree.enter()
    _print(Exploration.existing(Path.cwd(), name))


def _explore(
    mode: Literal["grid", "search"],
    settings: list[str],
    *,
    minutes: float | None,
    by: str,
    name: str | None,
    trials: int = 0,
    seed: int = 0,
) -> None:
    from flows.trials.record import Request
    from flows.trials.search_space import read_axes

    axes = tuple(read_axes(settings, ranges=mode == "search"))
    if minutes is not None and "train.minutes" in [axis.key for axis in axes]:
        raise AtelierError("train.minutes is among the settings to try: leave out --minutes")
    fixed = {} if minutes is None else {"train.minutes": minutes}
    request = Request(mode, axes, fixed, trials, seed, by, name)
    sys.exit(run_for_exit_code(lambda: _run(request), GOES_ON))


def _run(request: "Request") -> int:
    from atelier.settings.load import load_params

    work_tree.enter()
    request.check(load_params(PARAMS))
    from flows import explore

    exploration, state = explore.run(request)
    _print(exploration)
    print(state.message, file=sys.stdout if state.is_completed() else sys.stderr)
    return 0 if state.is_completed() else 1


def _apply(name: str, trial: int | None) -> int:
    from flows import studio
    from flows.clones import trials_clone
    from flows.trials.record import find_experiment

    work_tree.enter()
    user = Path.cwd()
    experiment, exploration = find_experiment(user, name, trial)
    with work_tree.only_flow():
        adoption = trials_clone.adoption(user, experiment, exploration)
        if adoption.lost:
            raise AtelierError(
                f"{', '.join(adoption.lost)}: edited or added since, and the experiment {experiment} would take its "
                "place: commit the edits, or put them aside with `git stash`; a folder that DVC tracks, `dvc add` it "
                "again and commit that"
            )
        adoption.write()
    print(f"params.yaml, dvc.lock and data/ are those of {experiment}; what it lacks is made now")
    if adoption.merged:
        print(f"{_listed(adoption.merged)}: your commits have changed it, too; it has both changes now")
    if adoption.kept:
        print(f"{_listed(adoption.kept)}: changed by your commits since, and kept; what depends on it is made again")
    return studio.main([])


def _print(exploration: "Exploration") -> None:
    """Draw the sheet and print the trials as a table."""
    from rich.console import Console
    from rich.table import Table

    from flows.trials import sheet

    rows = sheet.rows(exploration, sheet.draw(exploration))
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table()
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place < 2)  # the first is the name that `apply` takes
    for row in rows:
        table.add_row(*(row.get(column, "") for column in columns))
    Console().print(table, markup=False)
    print(f"{exploration.sheet}\n{exploration.table}")


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(list(names)[:MAX_NAMES]) + more

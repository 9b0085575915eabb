"""Commands that train models: `atelier explore …` tries settings, `atelier nightly …` retrains on a schedule."""

import json
import sys
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atelier.errors import AtelierError, counted, run_for_exit_code
from atelier.paths import CHAMPION_FILE, PARAMS
from flows.repo.git import git, holds
from flows.runtime import process, work_tree

if TYPE_CHECKING:
    from flows.trials.record import Exploration

explore_app = typer.Typer(
    help="Try settings, each trial a DVC experiment, and compare all of them on one sheet: "
    "`atelier explore grid train.lr=1e-4,2e-4 augment.crop=center,random --minutes 5`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
nightly_app = typer.Typer(
    help="Scheduled retraining: each night a better model is promoted, or the old one stays and the report says why.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

GOES_ON = "the same command goes on from here"  # printed after Ctrl-C
MAX_NAMES = 5  # of files, in a message

Minutes = Annotated[float | None, typer.Option(help="minutes of training in each trial (train.minutes)")]
By = Annotated[str, typer.Option(help="the number of metrics.json that ranks trials, for example coverage")]
Name = Annotated[str | None, typer.Option(help="name of the exploration; by default made from its keys")]


@explore_app.command()
def grid(
    settings: Annotated[list[str], typer.Argument(metavar="KEY=VALUES...", help="for example train.lr=1e-4,2e-4")],
    minutes: Minutes = None,
    by: By = "kid_coarse",
    name: Name = None,
) -> None:
    """Run a trial for every combination of the values."""
    _explore("grid", settings, minutes, by, name)


@explore_app.command()
def search(
    settings: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUES...", help="values or a range, for example train.lr=log:1e-5,1e-3")
    ],
    trials: Annotated[int, typer.Option(min=1, help="number of trials")] = 20,
    minutes: Minutes = None,
    by: By = "kid_coarse",
    seed: Annotated[int, typer.Option(help="seed of Optuna's sampler")] = 0,
    name: Name = None,
) -> None:
    """Run trials with settings that Optuna chooses."""
    _explore("search", settings, minutes, by, name, trials, seed)


@explore_app.command()
def apply(
    name: Annotated[str, typer.Argument(help="an experiment of the sheet, or an exploration for its best trial")],
    trial: Annotated[int | None, typer.Option(min=1, help="number of a trial of NAME instead of its best")] = None,
) -> None:
    """Adopt an experiment: take over its params.yaml, dvc.lock and data/, then run the stages that it lacks."""
    sys.exit(run_for_exit_code(lambda: _apply(name, trial), GOES_ON))


@explore_app.command()
def show(name: Annotated[str, typer.Argument(help="an exploration")]) -> None:
    """Draw the sheet and the table of an exploration again."""
    from flows.trials.record import Exploration

    work_tree.enter()
    _print(Exploration.existing(Path.cwd(), name))


@nightly_app.command()
def run(night: Annotated[str | None, typer.Option(help="a date like 2026-11-30; else today")] = None) -> None:
    """Run one night now."""
    sys.exit(run_for_exit_code(lambda: _run_night(night), "the next night goes on from here"))


@nightly_app.command()
def serve(
    cron: Annotated[str, typer.Option(help="minute, hour, day, month, weekday")] = "0 2 * * *",
    timezone: Annotated[str, typer.Option(help="time zone of --cron, for example Europe/Paris")] = "UTC",
) -> None:
    """Run nights on a schedule until this command is stopped; needs a Prefect server."""
    from flows.clones.sibling import committed_params

    work_tree.enter()
    committed_params(Path.cwd())
    from flows.night import schedule
    from flows.nightly import nightly
    from flows.orchestration import server

    plan = schedule.checked(cron, timezone)
    found = server.look()
    if found is None or found.state != "ok":
        why = f"{found.message}; " if found else ""
        raise AtelierError(
            f"{why}a schedule needs a Prefect server, and none answers: type `prefect server start` in another "
            f'terminal, in this directory, then here `atelier nightly serve --cron "{cron}" --timezone {timezone}`'
        )
    name = schedule.deployment_name()
    with process.server_needed("the same command begins anew"):
        schedule.mark_crashed(nightly, name)
        print(f"{cron} ({timezone}): nightly/{name} is at {server.page()}", flush=True)
        schedule.serve(nightly, name, plan)


@nightly_app.command()
def status() -> None:
    """Print the champion, the branch that has it, and how the last night ended."""
    from flows.clones.sibling import committed_params
    from flows.night.report import Night

    work_tree.enter()
    here = Path.cwd()
    branch = committed_params(here).nightly.branch
    ref = f"refs/heads/{branch}"
    if not holds(here, "rev-parse", "--verify", "--quiet", ref):
        print(f"champion  none yet: no night was promoted, there is no branch {branch}")
    else:
        champion = json.loads(git(here, "show", f"{ref}:{CHAMPION_FILE}"))
        paintings = counted(champion["paintings"], "painting")
        print(f"champion  atelier@v{champion['version']}, night of {champion['night']}, {paintings}")
        merged = holds(here, "merge-base", "--is-ancestor", ref, "HEAD")
        take = "HEAD has it" if merged else f"`git merge {branch} && dvc checkout` takes it over"
        print(f"branch    {branch}, commit {git(here, 'rev-parse', '--short', ref)}; {take}")
    last = Night.last(here)
    print(f"last      {last.outcome}, night of {last.night}: {last.message}" if last else "last      no night yet")


def _explore(
    mode: Literal["grid", "search"], settings: list[str], minutes: float | None, by: str, name: str | None,
    trials: int = 0, seed: int = 0,
) -> None:  # fmt: skip
    from flows.trials.search_space import Request, read_axes

    axes = tuple(read_axes(settings, ranges=mode == "search"))
    if minutes is not None and "train.minutes" in [axis.key for axis in axes]:
        raise AtelierError("train.minutes is among the settings to try: leave out --minutes")
    fixed = {} if minutes is None else {"train.minutes": minutes}
    request = Request(mode, axes, fixed, trials, seed, by, name)

    def work() -> int:
        from atelier.settings.load import load_params

        work_tree.enter()
        request.check(load_params(PARAMS))
        from flows import explore

        exploration, state = explore.run(request)
        _print(exploration)
        print(state.message, file=sys.stdout if state.is_completed() else sys.stderr)
        return 0 if state.is_completed() else 1

    sys.exit(run_for_exit_code(work, GOES_ON))


def _run_night(night: str | None) -> int:
    try:
        which = None if night is None else date.fromisoformat(night)
    except ValueError:
        raise AtelierError(f"--night {night}: not a date; write one like 2026-11-30") from None
    work_tree.enter()
    from flows.clones.sibling import committed_params

    committed_params(Path.cwd())
    from flows.nightly import nightly
    from flows.orchestration import server

    server.start()()
    with process.server_needed("the next night goes on from there"):
        state = nightly(which, return_state=True)
    if state.is_completed() and state.name != "Skipped":
        print(f"{state.name}: {state.message}")
        return 0
    print(state.message, file=sys.stderr)
    return 1


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

    from flows.trials.record import draw_sheet, sheet_rows

    rows = sheet_rows(exploration, draw_sheet(exploration))
    if not rows:
        return
    table = Table()
    for place, column in enumerate(rows[0]):
        table.add_column(column, overflow="fold", no_wrap=place < 2)  # the first is the name that `apply` takes
    for row in rows:
        table.add_row(*row.values())
    Console().print(table, markup=False)
    print(f"{exploration.sheet}\n{exploration.table}")


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(list(names)[:MAX_NAMES]) + more

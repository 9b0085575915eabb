"""`atelier nightly …`: run one night now, serve a schedule of nights, show the champion and the last night."""

import json
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from atelier.errors import AtelierError, counted, run_for_exit_code
from flows.repo import git
from flows.runtime import process, work_tree

app = typer.Typer(
    help="Scheduled retraining: each night a better model is promoted, or the old one stays and the report says why.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def run(
    night: Annotated[str | None, typer.Option(help="a date like 2026-11-30; today by default")] = None,
) -> None:
    """Run one night now."""
    sys.exit(run_for_exit_code(lambda: _run(night), "the next night goes on from here"))


@app.command()
def serve(
    cron: Annotated[str, typer.Option(help="minute, hour, day, month, weekday")] = "0 2 * * *",
    timezone: Annotated[str, typer.Option(help="time zone of --cron, for example Europe/Paris")] = "UTC",
) -> None:
    """Run nights on a schedule until this command is stopped; needs a Prefect server."""
    from flows.clones import night_clone

    work_tree.enter()
    night_clone.committed_params(Path.cwd())
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
        print(f"{plan.cron} ({plan.timezone}): nightly/{name} is at {server.page()}", flush=True)
        schedule.serve(nightly, name, plan)


@app.command()
def status() -> None:
    """Print the champion, the branch that has it, and how the last night ended."""
    from flows.clones import night_clone
    from flows.night.report import Night

    work_tree.enter()
    here = Path.cwd()
    branch = night_clone.committed_params(here).nightly.branch
    if not git.holds(here, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"):
        print(f"champion  none yet: no night was promoted, there is no branch {branch}")
    else:
        told = json.loads(git.git(here, "show", f"refs/heads/{branch}:models/champion.json"))
        commit = git.git(here, "rev-parse", "--short", f"refs/heads/{branch}")
        print(
            f"champion  atelier@v{told['version']}, night of {told['night']}, {counted(told['paintings'], 'painting')}"
        )
        merged = git.holds(here, "merge-base", "--is-ancestor", f"refs/heads/{branch}", "HEAD")
        take = "HEAD has it" if merged else f"`git merge {branch} && dvc checkout` takes it over"
        print(f"branch    {branch}, commit {commit}; {take}")
    last = Night.last(here)
    print(f"last      {last.outcome}, night of {last.night}: {last.message}" if last else "last      no night yet")


def _run(night: str | None) -> int:
    which = None if night is None else _date(night)
    work_tree.enter()
    from flows.clones import night_clone

    night_clone.committed_params(Path.cwd())
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


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise AtelierError(f"--night {text}: not a date; write one like 2026-11-30") from None

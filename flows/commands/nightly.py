"""`atelier nightly …`: what goes before a night and its exit code, the schedule that starts nights, and how it stands.

Knows nothing of Prefect until the tree is entered and the params are read, and of `status` nothing at all.
"""

import json
import sys
from datetime import date
from pathlib import Path

from atelier.errors import AtelierError
from atelier.settings.messages import counted
from flows.clones import night_clone
from flows.night.report import Night
from flows.repo import git
from flows.runtime import process, work_tree


def run(night: str | None) -> int:
    """One night, now: 0 where it came to an end, 1 failed or refused, 130 and 143 stopped."""

    def work() -> int:
        which = None if night is None else _date(night)
        work_tree.enter()
        night_clone.committed_params(Path.cwd())
        return _run(which)

    return process.run_for_exit_code(work, "the next night goes on from here")


def serve(cron: str, timezone: str) -> int:
    """Start a night at each time of the schedule, one after another, until we are stopped."""
    work_tree.enter()
    night_clone.committed_params(Path.cwd())
    from flows.orchestration import server

    found = server.look()
    from flows.night import schedule

    plan = schedule.checked(cron, timezone)
    if found is None or found.state != "ok":
        why = f"{found.message}; " if found else ""
        raise AtelierError(
            f"{why}a schedule needs a Prefect server, and none answers: type `prefect server start` in another "
            f'terminal, in this directory, then here `atelier nightly serve --cron "{cron}" --timezone {timezone}`'
        )
    name = schedule.deployment()
    with process.server_needed("the same command begins anew"):
        schedule.bury(name)
        print(f"{plan.cron} ({plan.timezone}): nightly/{name} is at {server.page()}", flush=True)
        schedule.serve(name, plan)
    return 0


def status() -> int:
    """Print the champion, where it is, and what the last night came to."""
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
    print(
        f"last      {last.outcome}, night of {last.night}: {last.message}"
        if last
        else "last      no night yet"
    )
    return 0


def _run(night: date | None) -> int:
    from flows.orchestration import server

    server.start()()
    from flows.nightly import nightly

    with process.server_needed("the next night goes on from there"):
        state = nightly(night, return_state=True)
    if state.is_completed() and state.name != "Skipped":
        print(f"{state.name}: {state.message}")
        return 0
    print(state.message, file=sys.stderr)
    return 1


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise AtelierError(f"--night {text}: no date; one like 2026-11-30 is asked for") from None

"""The pipeline: `atelier run`, or `python -m flows.studio [STAGE…]`; the flow is in flows.orchestration.stage_tasks.

DVC is asked first, because importing Prefect and starting a server takes seconds: if every stage is up to date and no
Prefect server is configured, the run ends without Prefect.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from atelier.errors import AtelierError, run_for_exit_code
from atelier.paths import INDEX, PARAMS
from atelier.settings.load import load_params
from flows.runtime import process, work_tree


def main(targets: Sequence[str], open_page: bool = False) -> int:
    """Bring the stages `targets` and what they need up to date, or all stages without targets; say where the page is.

    With `open_page` the page is opened in a browser, if the machine has a screen. Returns the exit code: 0, 1 after a
    failure, 130 and 143 after Ctrl-C and SIGTERM.
    """

    def work() -> int:
        work_tree.enter()
        load_params(PARAMS)
        with work_tree.only_flow():
            status = _run(targets)
        if status == 0 and not targets and INDEX.is_file():
            _show_page(INDEX.resolve().as_uri(), open_page)
        return status

    return run_for_exit_code(work, "the next run goes on from here")


def _run(targets: Sequence[str]) -> int:
    from flows.orchestration.without_prefect import StageRow, may_be_configured, print_table, summary
    from flows.repo import locks, stages

    locks.mend(Path(), process.print_error)
    plan = stages.plan(targets, process.print_error)
    if not plan:
        raise AtelierError("dvc.yaml has no stages: take it from git, `git checkout dvc.yaml`")
    names = [stage.name for stage in plan]
    if not any(stage.stale for stage in plan) and not may_be_configured():
        rows = [StageRow(name, "Cached", 0.0, key) for name, key in stages.keys(names).items()]
        print_table(rows)
        print(summary(rows))
        return 0

    from flows.orchestration import server

    wait_for_server = server.start()
    from flows.orchestration.stage_tasks import studio

    wait_for_server()
    with process.server_needed("the next run goes on from there"):
        state = studio(plan, return_state=True)
    if state.is_completed():
        return 0
    process.print_error(state.message)
    return 1


def _show_page(address: str, open_page: bool) -> None:
    print(f"look at {address}")
    if open_page:
        import webbrowser

        if not webbrowser.open(address):
            process.print_error("no browser was found to open it")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

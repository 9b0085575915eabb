"""`python -m flows.studio [STAGE…]`, also `atelier run`: what goes before the pipeline, and its exit code.

Knows nothing of Prefect until the tree is entered, the params are read, and no other flow is at work.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from atelier.errors import AtelierError
from atelier.settings.load import load_params
from flows.runtime import process, work_tree


def main(targets: Sequence[str]) -> int:
    """Run the pipeline up to `targets`, or all of it: 0 done, 1 failed or refused, 130 and 143 stopped."""

    def work() -> int:
        work_tree.enter()
        load_params(Path("params.yaml"))
        with work_tree.only_flow():
            return _run(targets)

    return process.run_for_exit_code(work, "the next run goes on from here")


def _run(targets: Sequence[str]) -> int:
    from flows.orchestration import server
    from flows.repo import locks, stages

    wait_for_server = server.start()

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    locks.mend(Path(), say)
    plan = stages.plan(targets, say)
    if not plan:
        raise AtelierError("dvc.yaml has no stages: take it from git, `git checkout dvc.yaml`")

    from flows.orchestration.stage_tasks import studio

    wait_for_server()
    with process.server_needed("the next run goes on from there"):
        state = studio(plan, return_state=True)
    if state.is_completed():
        return 0
    print(state.message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m flows.studio [STAGE…]`, also `atelier run`: what goes before the pipeline, and its exit code.

Knows nothing of Prefect until the tree is entered, the params are read, and no other flow is at work.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from atelier.errors import AtelierError
from atelier.params import load_params
from flows import tree


def main(targets: Sequence[str]) -> int:
    """Run the pipeline up to `targets`, or all of it: 0 done, 1 failed or refused, 130 and 143 stopped."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        tree.enter()
        load_params(Path("params.yaml"))
        with tree.only_flow():
            return _run(targets)
    except AtelierError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the next run goes on from here", file=sys.stderr)
        return 130


def _run(targets: Sequence[str]) -> int:
    from flows import dvc, server

    wait_for_server = server.start()
    plan = dvc.plan(targets, lambda text: print(text, file=sys.stderr))

    import httpx

    from flows.pipeline import studio

    wait_for_server()
    try:
        state = studio(plan, return_state=True)
    except httpx.TransportError as error:
        raise AtelierError(
            f"Prefect's server has gone ({error}): what is finished is kept, and the next run goes on from there"
        ) from None
    if state.is_completed():
        return 0
    print(state.message, file=sys.stderr)
    return 1


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

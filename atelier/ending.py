"""How a command ends for a person: an exit code and a sentence, never a traceback for a mistake or a Ctrl-C."""

import signal
import sys
from collections.abc import Callable

from atelier.errors import AtelierError


def with_words(work: Callable[[], int], goes_on: str) -> int:
    """Run `work` for its exit code; 1 with the sentence of a mistake, 130 after Ctrl-C, 143 after SIGTERM.

    `goes_on` says how to go on after a Ctrl-C, empty where nothing is to be gone on with.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        return work()
    except AtelierError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None or error.errno is None:
            raise
        print(f"{error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; {goes_on}" if goes_on else "stopped", file=sys.stderr)
        return 130


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)

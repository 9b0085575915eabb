"""A stage of the toy pipelines: `toy_stage.py NAME SECONDS INPUT…` joins its inputs and takes SECONDS for it.

If the same stage runs twice at once in the studio, it writes .atelier/overlaps.
"""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from PIL import Image

from atelier.errors import AtelierError
from atelier.paths import DATA
from tasks.stage import Stage, main

NAME, SECONDS, *INPUTS = sys.argv[1:]
TROUBLE = Path(".atelier/trouble")  # what should fail, written by a test


def run(stage: Stage) -> str:
    alone = (stage.state / "alone").open("w")  # locked until this process ends
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with Path(".atelier/overlaps").open("a") as overlaps:
            overlaps.write(f"{NAME}\n")
    match TROUBLE.read_text().split() if TROUBLE.exists() else []:
        case [stage.name, "mistake"]:
            raise AtelierError("the sky is missing: paint it\nthen run again")
        case [stage.name, "bug"]:
            raise ZeroDivisionError("division by zero")
        case [stage.name, "kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case [stage.name, "ask", address]:
            from atelier.web.client import PoliteClient  # the other stages start without it, in half the time

            with PoliteClient(address, contact="", rate_per_s=None, retries=0, timeout_s=5) as client:
                client.fetch("/", max_bytes=1000)
        case [stage.name, "hold"]:
            print(f"{NAME}: held", flush=True)
            while TROUBLE.exists():
                time.sleep(0.05)
    steps = int(float(SECONDS) * 10)
    with stage.progress(steps, "strokes") as progress:
        for _ in range(steps):
            time.sleep(0.1)
            progress.advance()
        picture = Path(".atelier") / f"{NAME}.png"
        Image.new("RGB", (900, 600), (40, 90, 200)).save(picture)
        progress.show_picture(picture)
    seed = getattr(stage.params, stage.name).seed if stage.name != "scrape" else 0
    DATA.mkdir(exist_ok=True)
    (DATA / NAME).write_text("".join(Path(name).read_text() for name in INPUTS) + f"{NAME} {seed}\n")
    return "painted"


if __name__ == "__main__":
    main(NAME, run)

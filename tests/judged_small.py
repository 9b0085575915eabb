"""Cheaper previews in tests: pictures are judged at 32 px, and batch norms calibrated on 128 latents instead of 1,024.

`python -m tests.judged_small` is `python -m tasks.train` with these, also in the processes that it starts.
"""

import tasks.train
from atelier.metrics import features
from atelier.training import monitor
from atelier.training.distributed import ProcessGroup
from tasks.stage import Stage, main

CHEAPER = ((features, "SMALLEST_SIDE_PX", 32), (monitor, "CALIBRATION_BATCHES", 2))


def apply() -> None:
    """Change this process for good."""
    for module, name, value in CHEAPER:
        setattr(module, name, value)


def train(stage: Stage, group: ProcessGroup) -> str:
    """In the place of tasks.train.train, in a process that stage train starts."""
    apply()
    return tasks.train.train(stage, group)


if __name__ in ("__main__", "__mp_main__"):  # the second in the processes that the first starts
    apply()

if __name__ == "__main__":
    main("train", tasks.train.run)

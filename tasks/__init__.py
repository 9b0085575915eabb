"""One module per stage of dvc.yaml; `python -m tasks.<stage>` is what DVC runs. Imports neither Prefect nor DVC."""

import os
import time

from atelier.parent_death import die_with_starter

if "DVC_STAGE" in os.environ:  # a killed dvc would leave its stage running
    die_with_starter()  # here, because a stage's own imports take seconds in which dvc may go

STARTED_NS = (
    time.time_ns()
)  # before any stage's code is imported: tasks.inputs compares it with when that was edited

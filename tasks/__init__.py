"""The stages of dvc.yaml, one module each; DVC runs `python -m tasks.<stage>`."""

import os
import time

from atelier.parent_death import die_with_starter

if "DVC_STAGE" in os.environ:  # else a stage would outlive a killed dvc
    die_with_starter()  # here, because importing a stage takes seconds in which dvc may be killed

STARTED_NS = time.time_ns()  # before a stage's code is imported: tasks.inputs finds edits made after this

"""One module per stage of dvc.yaml; `python -m tasks.<stage>` is what DVC runs. Knows neither Prefect nor DVC."""

import os

from atelier.leash import die_with_starter

if "DVC_STAGE" in os.environ:  # a killed dvc would leave its stage running
    die_with_starter()  # here, because a stage's own imports take seconds in which dvc may go

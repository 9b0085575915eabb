"""The command that holds two models against each other, with what params.yaml says of judging."""

import sys
from pathlib import Path

from atelier.settings.schema import Params


def command(champion: Path, challenger: Path, params: Params, *, sheet: Path | None = None) -> list[str]:
    """`python -m atelier.metrics.compare …`: a process of its own, since it needs torch and a flow does not."""
    judge = params.evaluate
    words = [sys.executable, "-m", "atelier.metrics.compare", str(champion), str(challenger)]
    words += [f"--samples={judge.samples}", f"--seed={judge.seed}", f"--device={judge.device}"]
    words += [f"--confidence={params.nightly.gate}"]
    return [*words, f"--sheet={sheet}"] if sheet else words

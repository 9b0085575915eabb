"""The versions at work, as a picture tells them."""

import torch

from atelier import __version__
from atelier.provenance.facts import SoftwareFacts


def software() -> SoftwareFacts:
    """Of what paints now."""
    return SoftwareFacts(atelier=__version__, torch=torch.__version__)

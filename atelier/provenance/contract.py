"""The JSON that `python -m atelier.provenance.repaint` reads and writes: the contract atelier-repainting/1.

Later versions of the house ask earlier ones, out of git, to paint what those painted: a key may be added here, with a
default that means what was so without it, and what does not know it overlooks it; none may change or go.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from atelier.provenance.facts import PixelFacts, SoftwareFacts

Format = Literal["atelier-repainting/1"]
FORMAT: Format = "atelier-repainting/1"
MODULE = "atelier.provenance.repaint"
LOCK = "lock"  # in a mural's folder of `kept`: held by the process that paints there


class _Growing(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Job(_Growing):
    """A picture to paint into `to`, a file of numpy's, (H, W, 3) of uint8 or uint16.

    `provenance` is what the picture says of itself, word for word; whoever asks has found the networks' files. `kept`,
    on the same disk, is a folder for what is painted of murals, where another process that is asked for them goes on.
    """

    name: str
    provenance: dict[str, Any]
    generator: Path
    upscaler: Path | None = None
    to: Path
    kept: Path | None = None


class Jobs(_Growing):
    """The file JOBS.json."""

    format: Format = FORMAT
    device: str = "cpu"
    jobs: list[Job]


class Answer(_Growing):
    """A line of the output, as soon as the job is done: the pixels' facts, or a sentence why there are none.

    `original` are those of the picture that a print enlarges. What else is printed is for a person.
    """

    format: Format = FORMAT
    name: str
    pixels: PixelFacts | None = None
    original: PixelFacts | None = None
    software: SoftwareFacts
    refused: str | None = None

"""The JSON input and output of `python -m atelier.provenance.repaint`: the contract atelier-repainting/1.

Later versions of Atelier check out earlier ones from git and ask them to paint their pictures again. So keys may be
added here, with defaults that mean what was true without them, and unknown keys are ignored; no key may change its
meaning or be removed.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from atelier.provenance.facts import PixelFacts, SoftwareFacts

Format = Literal["atelier-repainting/1"]
FORMAT: Format = "atelier-repainting/1"
MODULE = "atelier.provenance.repaint"
LOCK = "lock"  # in a mural's folder inside Job.kept: locked by the process that paints there


class _Extensible(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Job(_Extensible):
    """A picture to paint into the .npy file `to`, (H, W, 3) uint8 or uint16.

    `provenance` is the JSON that the picture carries; `generator` and `upscaler` are the files of the networks that it
    names. `kept` is a folder on the same disk for unfinished murals, where a later process for the same job continues.
    """

    name: str
    provenance: dict[str, Any]
    generator: Path
    upscaler: Path | None = None
    to: Path
    kept: Path | None = None


class Jobs(_Extensible):
    """The contents of the file JOBS.json."""

    format: Format = FORMAT
    device: str = "cpu"
    jobs: list[Job]


class Answer(_Extensible):
    """One line of the output, printed when a job is done. Lines that are not such JSON are for people.

    `pixels` are the facts of the picture that was painted, and `original` those of the picture that a print enlarges.
    If the job could not be done, `refused` is a sentence that says why, and both are None.
    """

    format: Format = FORMAT
    name: str
    pixels: PixelFacts | None = None
    original: PixelFacts | None = None
    software: SoftwareFacts
    refused: str | None = None

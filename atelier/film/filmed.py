"""What a film says of itself, written into it and read back. Knows no generator.

What is read back is a stranger's claim: bounded, checked against the schema, never used as a path.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier.canvas.recipe import Facts
from atelier.errors import AtelierError
from atelier.film.encode import MOST_PX, read_comment
from atelier.pictures.untrusted import shown
from atelier.provenance.facts import Provenance, first_line

MOST_WALKERS, MOST_FPS, LEAST_PX = 256, 240, 16

Walkers = Annotated[int, Field(ge=1, le=MOST_WALKERS)]


class FilmFacts(Facts):
    """The first walker's first frame, how many walk beside it, how fast, how many pixels the longer side has.

    Without the seams of a grid, and at least: pictures are never made smaller.
    """

    format: Literal["atelier-film/1"] = "atelier-film/1"
    first: Provenance
    walkers: tuple[Walkers, Walkers]
    fps: Annotated[int, Field(ge=1, le=MOST_FPS)]
    side: Annotated[int, Field(ge=LEAST_PX, le=MOST_PX)] = 512  # the first films did not say

    @model_validator(mode="after")
    def _it_is_a_walk(self) -> Self:
        if self.first.latent.walk is None:
            raise ValueError("its first frame belongs to no walk")
        if self.walkers[0] * self.walkers[1] > MOST_WALKERS:
            raise ValueError(f"there are at most {MOST_WALKERS} walkers")
        return self


def read_facts(path: Path) -> FilmFacts:
    """What a film carries; its frames are not looked at.

    Raises AtelierError where the file is absent, no film, or carries nothing that this version can read.
    """
    try:
        return FilmFacts.model_validate_json(read_comment(path))
    except ValueError as error:
        raise AtelierError(
            f"{shown(path)} says nothing of a walk that this version knows ({first_line(error)}): name a film as "
            "`atelier walk` wrote it"
        ) from None

"""What is made of pictures that were painted again: neighbours, the same on a larger canvas, moved; and a sheet.

Each by the code that paints the picture itself most truly, many in one process.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atelier.canvas.recipe import Recipe
from atelier.errors import AtelierError
from atelier.pictures import Samples
from atelier.provenance.facts import Provenance
from flows.repaint import job as commission
from flows.repaint.job import UNANSWERED, Studio
from flows.repaint.past_code import Code
from flows.repaint.picture import Given, relatives
from flows.repaint.session import Outcome


@dataclass(frozen=True, slots=True)
class Family:
    """What was made of a picture, or why nothing was."""

    given: Given
    written: tuple[Path, ...]
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Relative:
    """A recipe that was made of a picture's, what to add to its name, and whether it is the last of them."""

    given: Given
    suffix: str
    recipe: Recipe
    last: bool

    @property
    def made(self) -> Provenance:
        """What is known of it before it is painted; an artwork also where the picture is a print."""
        plain = {"print": None, "pick": None, "pixels": None}
        return self.given.made.model_copy(update={**plain, "latent": self.recipe})


def families(studio: Studio, outcomes: Sequence[Outcome]) -> Iterator[Family]:
    """Paint the variations of every picture that could be painted: one family per picture, with why it lacks any."""
    painted = [outcome for outcome in outcomes if outcome.verdict.kind != "refused"]
    for code in dict.fromkeys(outcome.code for outcome in painted):
        asked: dict[str, _Relative] = {}
        for number, outcome in enumerate(painted):
            if outcome.code != code:
                continue
            try:
                made = relatives(outcome.given.made.latent, studio.changes)
            except AtelierError as error:
                yield Family(outcome.given, (), str(error))
                continue
            for place, (suffix, recipe) in enumerate(made.items()):
                asked[f"{number}-{place}"] = _Relative(outcome.given, suffix, recipe, place == len(made) - 1)
        if not asked:
            continue
        left = {relative.given.name: relative.given for relative in asked.values()}
        why = UNANSWERED
        try:
            for family in _paint(studio, code, asked):
                del left[family.given.name]
                yield family
        except AtelierError as error:
            why = str(error)
        yield from (Family(given, (), why) for given in left.values())


def _paint(studio: Studio, code: Code | None, asked: dict[str, _Relative]) -> Iterator[Family]:
    """Each family as soon as its last relative is there."""
    jobs = [commission.job(studio, name, relative.made, code) for name, relative in asked.items()]
    written: list[Path] = []
    shown: list[tuple[str, Samples]] = []
    refused = ""
    for answer in commission.paint(studio, jobs, code):
        relative, path = asked[answer.name], commission.place(studio, answer.name, code)
        stem = relative.given.path.stem
        if answer.pixels is None:
            refused = answer.refused or UNANSWERED
        else:
            made = commission.by(answer, relative.made)
            try:
                written.append(studio.shelf.write(f"{stem}{relative.suffix}", path, made))
            except AtelierError as error:
                refused = str(error)
            shown.append((relative.suffix.rpartition("-")[2], commission.painted(path)))
            path.unlink()  # an open map keeps what it shows
        if relative.last:
            if studio.changes.variations and shown:
                heading = f"{stem}, and neighbours of it at strength {studio.changes.strength:g}"
                pictures = [*_own(relative.given), *shown]
                try:
                    written.append(studio.shelf.hang(f"{stem}-variations", heading, pictures))
                except AtelierError as error:
                    refused = str(error)
            yield Family(relative.given, tuple(written), refused)
            written, shown, refused = [], [], ""


def _own(given: Given) -> list[tuple[str, Samples]]:
    return [("the picture", np.concatenate([*given.bands()]))] if given.pixels else []

"""The pictures of one model, painted again: by the present code, then by earlier code as long as any is not settled.

Knows how pictures are asked for and judged; not how they are found, nor who watches.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atelier.errors import AtelierError
from atelier.provenance import FORMAT, ModelFacts, Provenance, UpscaleFacts
from atelier.recipe import Recipe
from atelier.repaint_contract import Answer, Job
from atelier.vips import Samples
from flows import earlier, painter, verdicts
from flows.earlier import Code
from flows.finding import Networks, Wanted
from flows.given import Given
from flows.relatives import Changes, relatives
from flows.shelf import Shelf
from flows.verdicts import Verdict

Say = Callable[[str], None]
UNANSWERED = "the painting process gave no reason"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a picture: by which code, the present where it is None, and what was written."""

    given: Given
    verdict: Verdict
    code: Code | None
    written: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """What was made of a picture, or why nothing was."""

    given: Given
    written: tuple[Path, ...]
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Studio:
    """What all sittings share. `place` is a folder for what is painted until it is judged."""

    root: Path
    place: Path
    networks: Networks
    shelf: Shelf
    changes: Changes
    device: str
    say: Say


@dataclass(slots=True)
class _Attempt:
    """The truest picture so far, and the answer that came with it."""

    verdict: Verdict
    code: Code | None
    answer: Answer
    path: Path


class Sitting:
    """Pictures that name one model."""

    def __init__(self, model: ModelFacts, pictures: Sequence[Given]) -> None:
        self.model, self.pictures = model, list(pictures)

    def wanted(self) -> set[Wanted]:
        """The networks' files that they need."""
        upscalers = (_upscaler(given.made) for given in self.pictures)
        return {_generator(self.model), *(wanted for wanted in upscalers if wanted is not None)}

    def run(self, studio: Studio) -> Iterator[Outcome]:
        """An outcome a picture, each as soon as it is known; the networks have been looked for."""
        left: dict[str, Given] = {}
        best: dict[str, _Attempt] = {}
        why: dict[str, str] = {}
        for number, given in enumerate(self.pictures):
            try:
                self._job(studio, str(number), given.made)
            except AtelierError as error:
                yield Outcome(given, verdicts.refused(str(error)), None, ())
            else:
                left[str(number)] = given
        for code in _codes(studio, self.model, left):
            for name, attempt in self._attempts(studio, left, code, why):
                if name not in best or attempt.verdict.rank < best[name].verdict.rank:
                    best[name] = attempt
                else:
                    attempt.path.unlink()
                if best[name].verdict.settled:
                    yield self._outcome(studio, left.pop(name), best.pop(name))
        for name, given in left.items():
            if name in best:
                yield self._outcome(studio, given, best[name])
            else:
                yield Outcome(given, verdicts.refused(why.get(name) or UNANSWERED), None, ())

    def _attempts(
        self, studio: Studio, left: dict[str, Given], code: Code | None, why: dict[str, str]
    ) -> Iterator[tuple[str, _Attempt]]:
        """What this code makes of the pictures that are left; `why` is told what it says where it makes nothing."""
        jobs = [self._job(studio, name, given.made, code) for name, given in left.items()]
        try:
            for answer in _paint(studio, jobs, code):
                given, path = left[answer.name], studio.place / f"{_stem(answer.name, code)}.npy"
                if answer.pixels is None:
                    why.setdefault(answer.name, answer.refused or "")
                else:
                    verdict = verdicts.judge(given, answer, _painted(path))
                    yield answer.name, _Attempt(verdict, code, answer, path)
        except AtelierError as error:
            for name in left:
                why.setdefault(name, str(error))
            studio.say(f"{code or 'the present code'}: {error}")

    def _job(self, studio: Studio, name: str, made: Provenance, code: Code | None = None) -> Job:
        """Raises AtelierError where a network of the picture is nowhere."""
        upscaler = _upscaler(made)
        return Job(
            name=name,
            provenance=_word_for_word(made),
            generator=studio.networks.path(_generator(self.model)),
            upscaler=studio.networks.path(upscaler) if upscaler else None,
            to=studio.place / f"{_stem(name, code)}.npy",
        )

    def _outcome(self, studio: Studio, given: Given, attempt: _Attempt) -> Outcome:
        """Write what is to be written."""
        verdict = attempt.verdict
        written: list[Path] = []
        if verdict.kind != "identical" or studio.shelf.wanted:
            made = given.made
            if attempt.answer.pixels != given.named:
                made = _by(attempt.answer, made)
            written.append(studio.shelf.write(given.path.stem, attempt.path, made, given.path))
        attempt.path.unlink()
        return Outcome(given, verdict, attempt.code, tuple(written))

    def families(self, studio: Studio, outcomes: Sequence[Outcome]) -> Iterator[Family]:
        """The relatives of those that could be painted, each by the code that paints the picture most truly."""
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
                    asked[f"{number}-{place}"] = _Relative(
                        outcome.given, suffix, recipe, place == len(made) - 1
                    )
            if not asked:
                continue
            try:
                yield from self._family(studio, code, asked)
            except AtelierError as error:
                given = dict.fromkeys(relative.given for relative in asked.values())
                yield from (Family(each, (), str(error)) for each in given)

    def _family(self, studio: Studio, code: Code | None, asked: dict[str, "_Relative"]) -> Iterator[Family]:
        """The relatives as they are painted; each family as soon as its last is there."""
        jobs = [self._job(studio, name, relative.made, code) for name, relative in asked.items()]
        written: list[Path] = []
        shown: list[tuple[str, Samples]] = []
        refused = ""
        for answer in _paint(studio, jobs, code):
            relative, path = asked[answer.name], studio.place / f"{_stem(answer.name, code)}.npy"
            stem = relative.given.path.stem
            if answer.pixels is None:
                refused = answer.refused or UNANSWERED
            else:
                made = _by(answer, relative.made)
                written.append(studio.shelf.write(f"{stem}{relative.suffix}", path, made))
                shown.append((relative.suffix.rpartition("-")[2], _painted(path)))
                path.unlink()  # an open map keeps what it shows
            if relative.last:
                if studio.changes.variations and shown:
                    written.append(studio.shelf.hang(f"{stem}-variations", [*_own(relative.given), *shown]))
                yield Family(relative.given, tuple(written), refused)
                written, shown, refused = [], [], ""


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


def _paint(studio: Studio, jobs: Sequence[Job], code: Code | None) -> Iterator[Answer]:
    folder = earlier.lay_out(studio.root, code) if code else None
    return painter.paint(jobs, studio.device, studio.place, studio.say, folder)


def _codes(studio: Studio, model: ModelFacts, left: dict[str, Given]) -> Iterator[Code | None]:
    """The present code, and earlier ones as long as there is something left to paint."""
    yield None
    if not left:
        return
    prints = any(given.made.print for given in left.values())
    try:
        found = earlier.earlier(studio.root, model.md5, ("generate", "upscale") if prints else ("generate",))
    except AtelierError as error:  # no git, or none that works: then there is the present code alone
        studio.say(str(error))
        return
    for code in found.codes:
        if not left:
            return
        studio.say(f"trying {code}")
        yield code
    if left:
        for sentence in _not_tried(found):
            studio.say(sentence)


def _not_tried(found: earlier.Earlier) -> Iterator[str]:
    if found.strangers:
        names = ", ".join(f"commit {commit}" for commit in found.strangers[:3])
        yield (
            f"other code that names this model is in {names}, which only a remote's branch reaches: a stranger's code "
            f"is not run; where you trust it, `git branch trusted {found.strangers[0].id[:12]}`, and ask again"
        )
    if found.silent:
        yield f"{found.silent} earlier versions of the code name this model but cannot be asked to paint again"
    if found.more:
        yield f"{found.more} still earlier versions of the code were not tried"


def _own(given: Given) -> list[tuple[str, Samples]]:
    return [("the picture", np.concatenate([*given.bands()]))] if given.pixels else []


def _generator(model: ModelFacts) -> Wanted:
    return Wanted("generator", model.sha256, model.md5)


def _upscaler(made: Provenance) -> Wanted | None:
    facts: UpscaleFacts | None = made.print.upscale if made.print else None
    if facts is None or facts.upscaler_sha256 is None:
        return None
    kind = "external network" if facts.method == "external" else "upscaler"
    return Wanted(kind, facts.upscaler_sha256, facts.upscaler_md5)


def _word_for_word(made: Provenance) -> dict[str, Any]:
    """What the picture says, without what later formats have added: earlier code knows no such keys."""
    return made.model_dump(mode="json", exclude_unset=True)


def _by(answer: Answer, made: Provenance) -> Provenance:
    """The same, painted by this code now."""
    return made.model_copy(update={"software": answer.software, "pixels": None, "format": FORMAT})


def _stem(name: str, code: Code | None) -> str:
    return f"{name}-{code.tree[:12] if code else 'present'}"


def _painted(path: Path) -> Samples:
    pixels: Samples = np.load(path, mmap_mode="r", allow_pickle=False)
    return pixels

"""The pictures of one model, painted again: by the present code, then by earlier code as long as any is not settled.

Knows how pictures are asked for and judged; not how they are found, nor who watches.

What is said of a picture that was painted again: identical, within 1/255, different, edited, damaged, refused.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atelier.errors import AtelierError
from atelier.pictures import Samples
from atelier.pictures.compare import PixelDifference, compare_pixels
from atelier.provenance.contract import Answer
from atelier.provenance.facts import ModelFacts, PixelFacts, Provenance
from flows.records.networks import Wanted
from flows.repaint import job as commission
from flows.repaint import past_code
from flows.repaint.job import UNANSWERED, Painter, Studio
from flows.repaint.past_code import Code, Earlier
from flows.repaint.picture import Given

Kind = Literal["identical", "within 1/255", "different", "edited", "damaged", "refused"]

CLOSE = 1.0  # of 255: what other hardware or another torch may round otherwise


@dataclass(frozen=True, slots=True)
class Verdict:
    """`settled`: no other code could paint it more truly. `words` go on after the kind."""

    kind: Kind
    words: str
    settled: bool
    likeness: PixelDifference | None = None

    @property
    def reproduced(self) -> bool:
        return self.kind in ("identical", "within 1/255")

    @property
    def rank(self) -> tuple[bool, bool, float, int]:
        """The truer the smaller."""
        differing = (self.likeness.largest, self.likeness.differing) if self.likeness else (256.0, 0)
        return (not self.settled, not self.reproduced, *differing)


def refused(why: str) -> Verdict:
    """It could not be painted at all."""
    return Verdict("refused", why, settled=False)


def judge(given: Given, answer: Answer, painted: Samples) -> Verdict:
    """Hold what was painted against the picture, and both against what its provenance names."""
    if answer.pixels == given.named:
        return _of_what_it_names(given, painted)
    if given.pixels is None:
        return Verdict("damaged", f"{given.trouble}; and {_otherwise(given, answer)}", settled=False)
    if given.pixels == answer.pixels:
        words = "the pixels are what its recipe paints, but its provenance names others: that was edited"
        return Verdict("edited", words, settled=True)
    if _size(given.pixels) != _size(answer.pixels):
        words = (
            f"its recipe paints {_described(answer.pixels)}, and the picture has {_described(given.pixels)}"
        )
        return Verdict("different", words, settled=False)
    likeness = compare_pixels(given.bands(), painted)
    if given.pixels != given.named:
        words = (
            f"its pixels are not those that its provenance names ({_counted(likeness)} of what is painted now), and "
            f"{_otherwise(given, answer)}"
        )
        return Verdict("edited", words, settled=False, likeness=likeness)
    counted = f"{likeness.differing:,} of {likeness.values:,} values differ"
    if likeness.largest <= CLOSE:
        return Verdict("within 1/255", f"{counted}{_versions(given.made, answer)}", False, likeness)
    words = f"{counted}, by up to {likeness.largest:.4g} of 255, in {likeness.box}{_where(given, answer)}"
    return Verdict("different", f"{words}{_versions(given.made, answer)}", False, likeness)


def _of_what_it_names(given: Given, painted: Samples) -> Verdict:
    """The recipe paints what the provenance names: whatever is wrong is the picture's own."""
    if given.pixels is None:
        return Verdict("damaged", given.trouble, settled=True)
    if given.pixels == given.named:
        return Verdict("identical", "", settled=True)
    if _size(given.pixels) != _size(given.named):
        words = f"edited after it was made: it has {_described(given.pixels)}, not {_described(given.named)}"
        return Verdict("edited", words, settled=True)
    likeness = compare_pixels(given.bands(), painted)
    return Verdict("edited", f"edited after it was made: {_counted(likeness)}", True, likeness)


def _counted(likeness: PixelDifference) -> str:
    total = likeness.values // 3
    return f"{likeness.pixels:,} of {total:,} pixels differ, in {likeness.box}"


def _otherwise(given: Given, answer: Answer) -> str:
    return f"its recipe paints neither what its provenance names{_where(given, answer)}{_versions(given.made, answer)}"


def _where(given: Given, answer: Answer) -> str:
    """In which step a print goes wrong."""
    if given.made.print is None or answer.original is None:
        return ""
    same = answer.original == given.made.print.original
    return (
        "; the artwork under the print is identical, its enlargement is not"
        if same
        else "; already the artwork under the print differs"
    )


def _versions(made: Provenance, answer: Answer) -> str:
    """Which versions differ, where that may be the reason."""
    software = made.print.upscale.software if made.print else made.software
    pairs = [
        ("Atelier", software.atelier, answer.software.atelier),
        ("torch", software.torch, answer.software.torch),
    ]
    differing = [f"{name} {then}, painted again with {now}" for name, then, now in pairs if then != now]
    if differing:
        return f"; made with {'; '.join(differing)}"
    return f"; torch is {answer.software.torch} as it was, so the hardware or the code is another"


def _size(pixels: PixelFacts | None) -> tuple[int, int, int] | None:
    return (pixels.height, pixels.width, pixels.bits) if pixels else None


def _described(pixels: PixelFacts | None) -> str:
    return f"{pixels.width:,} × {pixels.height:,} px of {pixels.bits} bits" if pixels else "no pixels"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on a picture, the code that painted it (None: the present code), and the files that were written.

    `unwritten` says why a file that was to be written is missing.
    """

    given: Given
    verdict: Verdict
    code: Code | None
    written: tuple[Path, ...]
    unwritten: str = ""


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
        self._begun: Painter | None = None

    def wanted(self) -> set[Wanted]:
        """The networks' files that they need."""
        upscalers = (commission.wanted_upscaler(given.made) for given in self.pictures)
        return {commission.wanted_generator(self.model), *filter(None, upscalers)}

    @contextlib.contextmanager
    def begun(self, studio: Studio) -> Iterator[None]:
        """Around `run`: the present code is at work already, whose imports take seconds."""
        able = {name: given for name, given in self._named() if not self._trouble(studio, given)}
        if not able:
            yield
            return
        with self._painter(studio, able, None) as self._begun:
            yield

    def run(self, studio: Studio) -> Iterator[Outcome]:
        """An outcome a picture, each as soon as it is known; the networks have been looked for."""
        left: dict[str, Given] = {}
        best: dict[str, _Attempt] = {}
        why: dict[str, str] = {}
        for name, given in self._named():
            if trouble := self._trouble(studio, given):
                yield Outcome(given, refused(trouble), None, ())
            else:
                left[name] = given
        for code in _codes(studio, self.model, left):
            for name, attempt in self._attempts(studio, left, code, why):
                if name not in best or attempt.verdict.rank < best[name].verdict.rank:
                    best[name] = attempt
                else:
                    attempt.path.unlink()
                if best[name].verdict.settled:
                    yield _outcome(studio, left.pop(name), best.pop(name))
        for name, given in left.items():
            if name in best:
                yield _outcome(studio, given, best[name])
            else:
                yield Outcome(given, refused(why.get(name) or UNANSWERED), None, ())

    def _named(self) -> Iterator[tuple[str, Given]]:
        """The pictures, and what each is called in a job."""
        return ((str(number), given) for number, given in enumerate(self.pictures))

    def _trouble(self, studio: Studio, given: Given) -> str:
        """Which of a picture's networks cannot be had."""
        try:
            commission.job(studio, "", given.made, None)
        except AtelierError as error:
            return str(error)
        return ""

    def _painter(self, studio: Studio, left: dict[str, Given], code: Code | None) -> Painter:
        jobs = [commission.job(studio, name, given.made, code) for name, given in left.items()]
        return commission.painter(studio, jobs, code)

    def _attempts(
        self, studio: Studio, left: dict[str, Given], code: Code | None, why: dict[str, str]
    ) -> Iterator[tuple[str, _Attempt]]:
        """What this code makes of the pictures that are left; `why` is told what it says where it makes nothing."""
        try:
            with self._begun if self._begun and not code else self._painter(studio, left, code) as painter:
                for answer in painter.answers(studio.say):
                    given, path = left[answer.name], commission.place(studio, answer.name, code)
                    if answer.pixels is None:
                        why.setdefault(answer.name, answer.refused or UNANSWERED)
                    else:
                        verdict = judge(given, answer, commission.painted(path))
                        yield answer.name, _Attempt(verdict, code, answer, path)
        except AtelierError as error:
            for name in left:
                why.setdefault(name, str(error))
            studio.say(f"{code or 'the present code'}: {error}")


def _outcome(studio: Studio, given: Given, attempt: _Attempt) -> Outcome:
    """Write what is to be written."""
    verdict = attempt.verdict
    written: list[Path] = []
    unwritten = ""
    if verdict.kind != "identical" or studio.shelf.wanted:
        made = (
            given.made if attempt.answer.pixels == given.named else commission.by(attempt.answer, given.made)
        )
        try:
            written.append(studio.shelf.write(given.path.stem, attempt.path, made, given.path))
        except AtelierError as error:
            unwritten = str(error)
    attempt.path.unlink()
    return Outcome(given, verdict, attempt.code, tuple(written), unwritten)


def _codes(studio: Studio, model: ModelFacts, left: dict[str, Given]) -> Iterator[Code | None]:
    """The present code, and earlier ones as long as there is something left to paint."""
    if not left:
        return
    yield None
    prints = any(given.made.print for given in left.values())
    try:
        found = past_code.earlier(
            studio.root, model.md5, ("generate", "upscale") if prints else ("generate",)
        )
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


def _not_tried(found: Earlier) -> Iterator[str]:
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

"""Paint the pictures of one model again, with the present code and then with earlier code, and judge the results.

A verdict is identical, within 1/255, different, edited (the file was changed after it was made), damaged (its pixels
cannot be decoded), or refused (it could not be painted again).
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atelier.errors import AtelierError
from atelier.pictures import Samples
from atelier.pictures.compare import PixelDifference, compare_pixels
from atelier.provenance.facts import Answer, PixelFacts, Provenance
from flows.repaint import past_code
from flows.repaint.job import NO_REASON, PaintingProcess, Workspace, load_pixels, painted_now
from flows.repaint.past_code import Code, Versions
from flows.repaint.picture import Picture

Kind = Literal["identical", "within 1/255", "different", "edited", "damaged", "refused"]

ROUNDING = 1.0  # of 255: the largest difference that other hardware or another torch may come to


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one picture. `words` follow the kind in a message.

    `final` is true if no other code could give a better result.
    """

    kind: Kind
    words: str
    final: bool
    difference: PixelDifference | None = None

    @property
    def reproduced(self) -> bool:
        return self.kind in ("identical", "within 1/255")

    @property
    def rank(self) -> tuple[bool, bool, float, int]:
        """Smaller is better."""
        largest, differing = (self.difference.largest, self.difference.differing) if self.difference else (256.0, 0)
        return (not self.final, not self.reproduced, largest, differing)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A picture's verdict, the code that painted it (None is the present code), and the files that were written.

    `write_error` says why a file that should have been written is missing.
    """

    picture: Picture
    verdict: Verdict
    code: Code | None = None
    written: tuple[Path, ...] = ()
    write_error: str = ""


@dataclass(slots=True)
class _Attempt:
    """One painting of a picture: the verdict on it, the code, its answer and its .npy file."""

    verdict: Verdict
    code: Code | None
    answer: Answer
    path: Path


class Session:
    """Pictures that one model painted, to be painted again in as few processes as possible."""

    def __init__(self, workspace: Workspace, pictures: Sequence[Picture]) -> None:
        self.workspace = workspace
        self.pictures = {str(number): picture for number, picture in enumerate(pictures)}  # by their jobs' names
        self.model = pictures[0].provenance.model
        self._present: PaintingProcess | None = None

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Start the present code's process early, because its imports take seconds; `run` inside the block uses it."""
        paintable = {name: picture for name, picture in self.pictures.items() if not self._refusal(picture)}
        if not paintable:
            yield
            return
        with self._start(paintable, None) as self._present:
            yield

    def run(self, with_past_code: bool = True) -> Iterator[Outcome]:
        """Paint the pictures and yield an outcome for each as soon as it is final.

        Tries the present code, then earlier versions from git while a picture is without a final verdict.
        """
        left: dict[str, Picture] = {}
        best: dict[str, _Attempt] = {}
        failures: dict[str, str] = {}
        for name, picture in self.pictures.items():
            if reason := self._refusal(picture):
                yield Outcome(picture, _refused(reason))
            else:
                left[name] = picture
        for code in self._codes(left, with_past_code):
            for name, attempt in self._attempts(left, code, failures):
                if name not in best or attempt.verdict.rank < best[name].verdict.rank:
                    best[name] = attempt
                else:
                    attempt.path.unlink()
                if best[name].verdict.final:
                    yield self._write(left.pop(name), best.pop(name))
        for name, picture in left.items():
            if name in best:
                yield self._write(picture, best[name])
            else:
                yield Outcome(picture, _refused(failures.get(name) or NO_REASON))

    def _refusal(self, picture: Picture) -> str:
        """Why no job can be made of a picture: which of its networks was not found. Empty if all were."""
        try:
            self.workspace.job("", picture.provenance, None)
        except AtelierError as error:
            return str(error)
        return ""

    def _start(self, pictures: dict[str, Picture], code: Code | None) -> PaintingProcess:
        jobs = [self.workspace.job(name, picture.provenance, code) for name, picture in pictures.items()]
        return self.workspace.start(jobs, code)

    def _codes(self, left: dict[str, Picture], with_past_code: bool) -> Iterator[Code | None]:
        """The present code (None), then earlier versions while pictures are `left`."""
        if not left:
            return
        yield None
        if not with_past_code:
            return
        prints = any(picture.provenance.print for picture in left.values())
        stages = ("generate", "upscale") if prints else ("generate",)
        try:
            versions = past_code.find_versions(self.workspace.root, self.model.md5, stages)
        except AtelierError as error:  # git is missing or fails: only the present code is tried
            self.workspace.log(str(error))
            return
        for code in versions.codes:
            if not left:
                return
            self.workspace.log(f"trying {code}")
            yield code
        if left:
            for sentence in _not_tried(versions):
                self.workspace.log(sentence)

    def _attempts(
        self, left: dict[str, Picture], code: Code | None, failures: dict[str, str]
    ) -> Iterator[tuple[str, _Attempt]]:
        """Paint the pictures that are `left` with one code; what cannot be painted is recorded in `failures`."""
        log = self.workspace.log
        try:
            with self._present if self._present and not code else self._start(left, code) as process:
                for answer in process.answers(log):
                    picture, path = left[answer.name], self.workspace.array_path(answer.name, code)
                    if answer.pixels is None:
                        failures.setdefault(answer.name, answer.refused or NO_REASON)
                    else:
                        verdict = judge(picture, answer, load_pixels(path))
                        yield answer.name, _Attempt(verdict, code, answer, path)
        except AtelierError as error:
            for name in left:
                failures.setdefault(name, str(error))
            log(f"{code or 'the present code'}: {error}")

    def _write(self, picture: Picture, attempt: _Attempt) -> Outcome:
        """Write the best painting of a picture, unless it is identical and the user named no output folder."""
        verdict, output = attempt.verdict, self.workspace.output
        written: tuple[Path, ...] = ()
        write_error = ""
        if verdict.kind != "identical" or output.keeps_all:
            same = attempt.answer.pixels == picture.recorded_pixels
            provenance = picture.provenance if same else painted_now(picture.provenance, attempt.answer)
            try:
                written = (output.write_picture(picture.path.stem, attempt.path, provenance, picture.path),)
            except AtelierError as error:
                write_error = str(error)
        attempt.path.unlink()
        return Outcome(picture, verdict, attempt.code, written, write_error)


def judge(picture: Picture, answer: Answer, painted: Samples) -> Verdict:
    """Compare the painted pixels with the file's, and both with the digest that the provenance records."""
    if answer.pixels == picture.recorded_pixels:
        return _judge_file(picture, painted)
    if picture.pixels is None:
        return Verdict("damaged", f"{picture.damage}; and {_neither(picture, answer)}", final=False)
    if picture.pixels == answer.pixels:
        words = "the pixels are what its recipe paints, but its provenance names others: that was edited"
        return Verdict("edited", words, final=True)
    if _shape(picture.pixels) != _shape(answer.pixels):
        words = f"its recipe paints {_size(answer.pixels)}, and the picture has {_size(picture.pixels)}"
        return Verdict("different", words, final=False)
    difference = compare_pixels(picture.bands(), painted)
    if picture.pixels != picture.recorded_pixels:
        words = (
            f"its pixels are not those that its provenance names ({_pixels_differing(difference)} from what is painted "
            f"now), and {_neither(picture, answer)}"
        )
        return Verdict("edited", words, False, difference)
    counted = f"{difference.differing:,} of {difference.values:,} values differ"
    versions = _versions(picture.provenance, answer)
    if difference.largest <= ROUNDING:
        return Verdict("within 1/255", f"{counted}{versions}", False, difference)
    step = _failing_step(picture, answer)
    words = f"{counted}, by up to {difference.largest:.4g} of 255, in {difference.box}{step}"
    return Verdict("different", f"{words}{versions}", False, difference)


def _judge_file(picture: Picture, painted: Samples) -> Verdict:
    """The verdict if the recipe paints the recorded pixels: any difference was made in the file afterwards."""
    if picture.pixels is None:
        return Verdict("damaged", picture.damage, final=True)
    if picture.pixels == picture.recorded_pixels:
        return Verdict("identical", "", final=True)
    if _shape(picture.pixels) != _shape(picture.recorded_pixels):
        sizes = f"it has {_size(picture.pixels)}, not {_size(picture.recorded_pixels)}"
        return Verdict("edited", f"edited after it was made: {sizes}", final=True)
    difference = compare_pixels(picture.bands(), painted)
    return Verdict("edited", f"edited after it was made: {_pixels_differing(difference)}", True, difference)


def _refused(reason: str) -> Verdict:
    return Verdict("refused", reason, final=False)


def _pixels_differing(difference: PixelDifference) -> str:
    return f"{difference.pixels:,} of {difference.values // 3:,} pixels differ, in {difference.box}"


def _neither(picture: Picture, answer: Answer) -> str:
    step = _failing_step(picture, answer)
    return f"its recipe paints other pixels than its provenance names{step}{_versions(picture.provenance, answer)}"


def _failing_step(picture: Picture, answer: Answer) -> str:
    """For a print: whether the artwork or only its enlargement is painted differently."""
    facts = picture.provenance.print
    if facts is None or answer.original is None:
        return ""
    if answer.original == facts.original:
        return "; the artwork under the print is identical, its enlargement is not"
    return "; already the artwork under the print differs"


def _versions(made: Provenance, answer: Answer) -> str:
    """Which software versions differ, as a possible reason."""
    software = made.print.upscale.software if made.print else made.software
    pairs = [
        ("Atelier", software.atelier, answer.software.atelier),
        ("torch", software.torch, answer.software.torch),
    ]
    differing = [f"{name} {then}, painted again with {now}" for name, then, now in pairs if then != now]
    if differing:
        return f"; made with {'; '.join(differing)}"
    return f"; torch is {answer.software.torch} as it was, so the hardware or the code is another"


def _shape(pixels: PixelFacts | None) -> tuple[int, int, int] | None:
    return (pixels.height, pixels.width, pixels.bits) if pixels else None


def _size(pixels: PixelFacts | None) -> str:
    return f"{pixels.width:,} × {pixels.height:,} px of {pixels.bits} bits" if pixels else "no pixels"


def _not_tried(versions: Versions) -> Iterator[str]:
    """Sentences about the versions of the code that were not tried."""
    if versions.untrusted:
        names = ", ".join(f"commit {commit}" for commit in versions.untrusted[:3])
        yield (
            f"other code for this model is in {names}, which only a remote's branch reaches, so it is not run; if you "
            f"trust it, `git branch trusted {versions.untrusted[0].id[:12]}`, then run the command again"
        )
    if versions.unable:
        yield f"{versions.unable} earlier versions of the code name this model but cannot paint pictures again"
    if versions.more:
        yield f"{versions.more} still earlier versions of the code were not tried"

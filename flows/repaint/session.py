"""Paint the pictures of one model again, with the present code and then with earlier code, or paint variations of them.

Variations are neighbours in latent space, the same picture on a larger canvas, or moved along directions: the recipe is
changed, and the present code paints all changed recipes in one process.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atelier.canvas.recipe import MAX_MOVES, MAX_VARIATIONS, Canvas, Move, Recipe, Variation
from atelier.errors import AtelierError
from atelier.pictures import Samples
from atelier.provenance.facts import Answer, Provenance
from flows.repaint.job import NO_REASON, Code, PaintingProcess, Versions, Workspace, find_versions, painted_now
from flows.repaint.picture import Picture, load_pixels
from flows.repaint.verdict import Outcome, Verdict, judge


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change, all at once: for example neighbours of the moved picture on the larger canvas.

    `neighbours` is how many to paint, `strength` in (0, 1] how far they are away, `canvas` the larger canvas.
    """

    neighbours: int = 0
    strength: float = 0.3
    canvas: Canvas | None = None
    moves: tuple[Move, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.neighbours or self.canvas or self.moves)


@dataclass(frozen=True, slots=True)
class Variations:
    """The files that were written of a picture's variations, and why some are missing."""

    picture: Picture
    written: tuple[Path, ...]
    error: str = ""


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
                yield Outcome(picture, Verdict("refused", reason))
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
                yield Outcome(picture, Verdict("refused", failures.get(name) or NO_REASON))

    def _refusal(self, picture: Picture) -> str:
        """Why no job can be made of a picture: which of its networks was not found. Empty if all were."""
        try:
            self.workspace.job("", picture.provenance, None)
        except AtelierError as error:
            return str(error)
        return ""

    def _start(self, pictures: Mapping[str, Picture], code: Code | None) -> PaintingProcess:
        jobs = [self.workspace.job(name, picture.provenance, code) for name, picture in pictures.items()]
        return PaintingProcess(self.workspace, jobs, code)

    def _codes(self, left: Mapping[str, Picture], with_past_code: bool) -> Iterator[Code | None]:
        """The present code (None), then earlier versions while pictures are `left`."""
        if not left:
            return
        yield None
        if not with_past_code:
            return
        prints = any(picture.provenance.print for picture in left.values())
        stages = ("generate", "upscale") if prints else ("generate",)
        try:
            versions = find_versions(self.workspace.root, self.model.md5, stages)
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
        self, left: Mapping[str, Picture], code: Code | None, failures: dict[str, str]
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


def _not_tried(versions: Versions) -> Iterator[str]:
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


def change_recipe(recipe: Recipe, changes: Changes) -> dict[str, Recipe]:
    """The changed recipes, each by what to append to the picture's name.

    Raises AtelierError if a recipe cannot express a change: growing twice, growing to a canvas that is not larger, or
    more moves or neighbours of neighbours than it can hold.
    """
    suffix = ""
    if changes.canvas is not None:
        rows, columns = changes.canvas
        recipe = _grow(recipe, changes.canvas)
        suffix += f"-{rows}x{columns}"
    if changes.moves:
        if (moves := len(recipe.moves) + len(changes.moves)) > MAX_MOVES:
            raise AtelierError(f"it would be moved {moves} times: at most {MAX_MOVES} are possible")
        recipe = recipe.model_copy(update={"moves": (*recipe.moves, *changes.moves)})
        suffix += "".join(f"-moved-{move.direction}-{move.amount:g}" for move in changes.moves)
    if not changes.neighbours:
        return {suffix: recipe}
    if (times := len(recipe.grown_varied) + len(recipe.variations)) > MAX_VARIATIONS:
        raise AtelierError(
            f"it is a neighbour of a neighbour, {times} times over: at most {MAX_VARIATIONS} are possible, "
            f"so ask for neighbours of an earlier one, or of picture {recipe.index} of seed {recipe.seed}"
        )
    if recipe.variation is not None:  # otherwise the key stays unset, because earlier code rejects it
        recipe = recipe.model_copy(update={"varied": recipe.variations})
    variations = (Variation(number=number, strength=changes.strength) for number in range(changes.neighbours))
    return {f"{suffix}-variation-{each.number}": recipe.model_copy(update={"variation": each}) for each in variations}


def _grow(recipe: Recipe, canvas: Canvas) -> Recipe:
    """The recipe on a larger canvas, with the present canvas in its middle."""
    if recipe.grown_from is not None:
        raise AtelierError(
            f"it was grown from a canvas of {list(recipe.grown_from)} itself: grow the picture that it was grown from"
        )
    if canvas[0] < recipe.canvas[0] or canvas[1] < recipe.canvas[1] or canvas == recipe.canvas:
        raise AtelierError(
            f"its canvas is {list(recipe.canvas)}, and {list(canvas)} is no larger: name more rows, columns, or both"
        )
    if recipe.walk and any(station.latent for station in recipe.walk.stations):
        raise AtelierError("it is of a walk through a projected picture, whose latent has one cell: it cannot be grown")
    grown: dict[str, Any] = {"canvas": canvas, "grown_from": recipe.canvas}
    if recipe.variation is not None:  # otherwise these keys stay unset, because earlier code rejects them
        grown |= {"grown_varied": recipe.variations, "varied": (), "variation": None}
    return recipe.model_copy(update=grown)


@dataclass(frozen=True, slots=True)
class _Variation:
    """A changed recipe as the provenance of an artwork without pixels, even if the picture is a print.

    `suffix` is appended to the picture's name. `last` marks a picture's last one.
    """

    picture: Picture
    suffix: str
    provenance: Provenance
    last: bool


def paint_variations(workspace: Workspace, pictures: Sequence[Picture], changes: Changes) -> Iterator[Variations]:
    """Paint the variations of every picture; yields one result for each."""
    jobs: dict[str, _Variation] = {}
    for number, picture in enumerate(pictures):
        try:
            recipes = change_recipe(picture.provenance.latent, changes)
        except AtelierError as error:
            yield Variations(picture, (), str(error))
            continue
        for place, (suffix, recipe) in enumerate(recipes.items()):
            artwork: dict[str, Any] = {"print": None, "pick": None, "pixels": None, "latent": recipe}
            provenance = picture.provenance.model_copy(update=artwork)
            jobs[f"{number}-{place}"] = _Variation(picture, suffix, provenance, place == len(recipes) - 1)
    left = {variation.picture.name: variation.picture for variation in jobs.values()}
    reason = NO_REASON
    try:
        for variations in _paint(workspace, jobs, changes) if jobs else ():
            del left[variations.picture.name]
            yield variations
    except AtelierError as error:
        reason = str(error)
    yield from (Variations(picture, (), reason) for picture in left.values())


def _paint(workspace: Workspace, jobs: Mapping[str, _Variation], changes: Changes) -> Iterator[Variations]:
    """Yield each picture's variations when the last of them is painted. Raises AtelierError if the process fails."""
    written: list[Path] = []
    shown: list[tuple[str, Samples]] = []
    failure = ""
    named = [workspace.job(name, variation.provenance, None) for name, variation in jobs.items()]
    with PaintingProcess(workspace, named, None) as process:
        for answer in process.answers(workspace.log):
            variation, path = jobs[answer.name], workspace.array_path(answer.name, None)
            picture, stem = variation.picture, variation.picture.path.stem
            if answer.pixels is None:
                failure = answer.refused or NO_REASON
            else:
                provenance = painted_now(variation.provenance, answer)
                try:
                    name = f"{stem}{variation.suffix}"
                    written.append(workspace.output.write_picture(name, path, provenance))
                except AtelierError as error:
                    failure = str(error)
                shown.append((variation.suffix.rpartition("-")[2], load_pixels(path)))
                path.unlink()  # the memory map stays readable
            if variation.last:
                if changes.neighbours and shown:
                    heading = f"{stem}, and neighbours of it at strength {changes.strength:g}"
                    own = [("the picture", np.concatenate([*picture.bands()]))] if picture.pixels else []
                    try:
                        written.append(workspace.output.write_sheet(f"{stem}-variations", heading, [*own, *shown]))
                    except AtelierError as error:
                        failure = str(error)
                yield Variations(picture, tuple(written), failure)
                written, shown, failure = [], [], ""

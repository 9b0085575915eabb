"""`python -m atelier.film.walk`: a walk through latent space as a film with a strip beside it, or as frames of it.

Every frame is painted alone, by its own recipe, as `atelier reproduce` would paint it; an enlarged copy is filmed.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from atelier.canvas.paint import paint, size_px
from atelier.canvas.recipe import Recipe, Station, Walk
from atelier.device import pick_deterministic_device, versions
from atelier.errors import AtelierError, run_for_exit_code
from atelier.film.encode import MAX_SIDE_PX, FilmFacts, format_of, write_film
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.pictures import Pixels
from atelier.pictures.sheets import Panel, thumbnail, write_panels
from atelier.progress import Progress
from atelier.provenance.facts import (
    ModelFacts,
    PixelFacts,
    Provenance,
    SoftwareFacts,
    read_pixels,
    read_provenance,
    write_png,
)

LAST = 2**31  # pictures of a seed
GAP_PX = 4  # between the walkers of a grid; even, as a film's sides are
GROUND = 16  # how dark it is there
STRIP, STRIP_ROW, STRIP_PX = 12, 6, 224  # frames on the strip, a row of it, the longer side of one


@dataclass(frozen=True)
class Walkers:
    """So many rows and columns of walkers, each with a generator's pictures of its own."""

    generator: nn.Module
    model: ModelFacts
    recipes: tuple[Recipe, ...]
    rows: int

    @property
    def frames(self) -> int:
        return _walk(self.recipes[0]).frames

    def provenance(self, walker: int, frame: int) -> Provenance:
        """What is known of a frame before it is painted."""
        return Provenance(
            model=self.model,
            latent=at_frame(self.recipes[walker], frame),
            software=SoftwareFacts(**versions()),
        )

    def picture(self, walker: int, frame: int, kept: Path | None = None) -> Pixels:
        """A frame as it is painted; where `kept` is named, it is taken from there, or put there as a PNG."""
        made = self.provenance(walker, frame)
        if kept is not None and (there := _read_again(kept, made)) is not None:
            return there
        picture = paint(self.generator, made.latent)
        if kept is not None:
            write_png(kept, picture, made)
        return picture


def walks_beside(recipe: Recipe, count: int) -> tuple[Recipe, ...]:
    """The recipes of `count` walkers: the given one, and others of the same seeds through other pictures.

    The second goes through pictures that lie further on by as many as the first's stations span, the third by twice
    as many, and so on: no picture is a station of two.
    """
    walk = _walk(recipe)
    indices = [station.index for station in walk.stations]
    span = max(indices) - min(indices) + 1
    if max(indices) + (count - 1) * span >= LAST:
        raise AtelierError(
            f"there are not {count} walks of picture {max(indices)}: start from an earlier one"
        )

    def further(on: int) -> Recipe:
        stations = tuple(Station(seed=s.seed, index=s.index + on) for s in walk.stations)
        other = walk.model_copy(update={"stations": stations})
        return recipe.model_copy(update={"walk": other, "index": stations[0].index})

    return tuple(further(walker * span) for walker in range(count))


def at_frame(recipe: Recipe, frame: int) -> Recipe:
    """The recipe of another frame of the same walk."""
    return recipe.model_copy(update={"walk": _walk(recipe).model_copy(update={"frame": frame})})


def enlarge(picture: Pixels, scale: float) -> Pixels:
    """The picture with even sides, enlarged smoothly where `scale` is above 1, never reduced."""
    height, width = (_even(side, scale) for side in picture.shape[:2])
    if picture.shape[:2] == (height, width):
        return picture
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _even(side_px: int, scale: float) -> int:
    """A side of an enlarged picture."""
    return 2 * round(side_px * max(scale, 1.0) / 2)


def tile(pictures: Sequence[Pixels], rows: int) -> Pixels:
    """Pictures of one size as one, row by row, with dark seams."""
    if len(pictures) == 1:
        return pictures[0]
    columns = len(pictures) // rows
    height, width, _ = pictures[0].shape
    whole = np.full(
        (rows * (height + GAP_PX) - GAP_PX, columns * (width + GAP_PX) - GAP_PX, 3), GROUND, np.uint8
    )
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + GAP_PX), place % columns * (width + GAP_PX)
        whole[top : top + height, left : left + width] = picture
    return whole


def write_walk(walkers: Walkers, path: Path, fps: int, side_px: int, kept: Path | None) -> Path:
    """Write the film and the strip beside it; frames go to the folder `kept`, or come from it. Returns the strip."""
    format_of(path)
    scale = _scale(walkers, side_px)
    shown = dict.fromkeys(_on_strip(walkers))
    with Progress("walk", walkers.frames * len(walkers.recipes), "pictures") as progress:

        def frames() -> Iterator[Pixels]:
            for number in range(walkers.frames):
                pictures = []
                for walker in range(len(walkers.recipes)):
                    file = kept and kept / named(f"{number:05d}.png", walker, walkers)
                    pictures.append(enlarge(walkers.picture(walker, number, file), scale))
                    progress.advance()
                frame = tile(pictures, walkers.rows)
                if number in shown:
                    shown[number] = thumbnail(frame, STRIP_PX)
                yield frame

        facts = FilmFacts(
            first=walkers.provenance(0, 0),
            walkers=(walkers.rows, len(walkers.recipes) // walkers.rows),
            fps=fps,
            side=side_px,
        )
        write_film(path, frames(), fps, facts.model_dump_json())
    panels = [Panel(f"{n / fps:.1f} s", (), picture) for n, picture in shown.items() if picture is not None]
    write_panels(strip := path.with_suffix(".png"), _heading(walkers), panels, STRIP_ROW)
    return strip


def named(name: str, walker: int, walkers: Walkers) -> str:
    """A file's name for one of them: walk.png where there is one, else walk-1.png and so on, row by row."""
    path = Path(name)
    return name if len(walkers.recipes) == 1 else f"{path.stem}-{walker + 1}{path.suffix}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do it and say what is where; 0, 1 with a sentence, 130 or 143 where it was stopped."""
    given = _given(arguments)
    return run_for_exit_code(
        lambda: _walked(given), "with --frames what is painted is kept, and the same command goes on"
    )


def _walked(given: argparse.Namespace) -> int:
    generator, header = load_generator(given.generator)
    device, _ = pick_deterministic_device(given.device)
    rows, columns = given.walkers
    walkers = Walkers(
        in_double_precision(generator, device),
        ModelFacts.of(given.generator, header),
        walks_beside(given.recipe, rows * columns),
        rows,
    )
    if given.frame is None:
        strip = write_walk(walkers, given.out, given.fps, given.side, given.frames)
        print(f"{given.out}, {walkers.frames:,} frames at {given.fps} a second; {strip} shows some")
        if given.frames:
            print(f"{given.frames} has every frame as it was painted, which `atelier reproduce` paints again")
        return 0
    if given.frame >= walkers.frames:
        raise AtelierError(f"--frame {given.frame} is none of {walkers.frames:,}, which are counted from 0")
    for walker in range(len(walkers.recipes)):
        file = given.out.with_name(named(given.out.name, walker, walkers))
        picture = paint(walkers.generator, walkers.provenance(walker, given.frame).latent)
        write_png(file, picture, walkers.provenance(walker, given.frame))
        print(file)
    return 0


def _read_again(path: Path, made: Provenance) -> Pixels | None:
    """The pixels of a PNG that is what `made` says, whole and unedited; else None."""
    try:
        facts, picture = read_provenance(path), read_pixels(path)
    except AtelierError:
        return None
    same = facts.model_copy(update={"pixels": None}) == made and PixelFacts.of(picture) == facts.pixels
    return picture.astype(np.uint8) if same else None


def _scale(walkers: Walkers, side_px: int) -> float:
    """How much pictures are enlarged, so that the film's longer side is about `side_px`.

    Raises AtelierError where the film, with its pictures' sides made even and the seams between them, is too large.
    """
    height, width = size_px(walkers.generator, walkers.recipes[0])
    rows, columns = walkers.rows, len(walkers.recipes) // walkers.rows
    scale = side_px / max(height * rows, width * columns)
    film_height = rows * (_even(height, scale) + GAP_PX) - GAP_PX
    film_width = columns * (_even(width, scale) + GAP_PX) - GAP_PX
    if max(film_height, film_width) > MAX_SIDE_PX:
        raise AtelierError(
            f"a film of {film_width:,} × {film_height:,} px is more than players follow, "
            f"{MAX_SIDE_PX:,} px a side: say a smaller --canvas, --grid or --side"
        )
    return scale


def _on_strip(walkers: Walkers) -> list[int]:
    """Frames at even times, the first and, unless it leads back to that, the last among them."""
    shown = min(STRIP, walkers.frames)
    if _walk(walkers.recipes[0]).loop:
        return [place * walkers.frames // shown for place in range(shown)]
    return [place * (walkers.frames - 1) // (shown - 1) for place in range(shown)]


def _heading(walkers: Walkers) -> str:
    walk = _walk(walkers.recipes[0])
    stations = [f"{s.seed}:{s.index}" if s.index else f"{s.seed}" for s in walk.stations]
    others = len(walkers.recipes) - 1
    words = f"From seed {' to '.join(stations)}{' and back' if walk.loop else ''}"
    return f"{words}, and {others} beside it" if others else words


def _walk(recipe: Recipe) -> Walk:
    if recipe.walk is None:
        raise ValueError("it is no walk's recipe")
    return recipe.walk


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.film.walk")
    parser.add_argument("generator", type=Path)
    parser.add_argument("recipe", type=Recipe.model_validate_json, help="of the first frame, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="a film, or with --frame a PNG")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--walkers", type=int, nargs=2, default=(1, 1), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--side", type=int, default=512, help="pixels of the film's longer side, at least")
    parser.add_argument("--frame", type=int, help="only this one, as a PNG")
    parser.add_argument("--frames", type=Path, help="a folder for all of them as PNGs")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

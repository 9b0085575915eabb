"""Film a walk through latent space, with a strip of frames beside the film; or paint single frames of it.

`atelier walk` runs this module as a process: `python -m atelier.film.walk`. Every frame is painted alone, from its own
recipe, as `atelier reproduce` would paint it; the film shows enlarged copies.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.canvas.artworks import labelled, load_painter, provenance_of
from atelier.canvas.paint import paint, size_px
from atelier.canvas.recipe import Recipe, Station, Walk
from atelier.device import pick_deterministic_device
from atelier.errors import AtelierError, run_for_exit_code
from atelier.film.encode import MAX_SIDE_PX, FilmFacts, format_of, write_film
from atelier.networks.latent_field import FieldGenerator
from atelier.pictures import Pixels
from atelier.pictures.sheets import Panel, thumbnail, write_panels
from atelier.progress import Progress
from atelier.provenance.facts import ModelFacts, PixelFacts, Provenance, read_pixels, read_provenance, write_png

MAX_INDEX = 2**31  # of a picture of a seed, exclusive
GAP_PX = 4  # between the walks of a grid; even, as the sides of a film have to be
GAP_LEVEL = 16  # grey level there, of 255
STRIP_FRAMES, STRIP_COLUMNS, STRIP_PICTURE_PX = 12, 6, 224  # the last is the longer side of one frame


@dataclass(frozen=True)
class Walkers:
    """A grid of walks in `rows` rows, one recipe each, painted by one generator."""

    generator: FieldGenerator
    model: ModelFacts
    recipes: tuple[Recipe, ...]
    rows: int

    @property
    def first(self) -> Walk:
        """The first walk; the others have as many frames and stations."""
        return _walk(self.recipes[0])

    @property
    def columns(self) -> int:
        return len(self.recipes) // self.rows

    def provenance(self, walker: int, frame: int) -> Provenance:
        """The provenance of one walk's frame, without its pixels' digest."""
        recipe = self.recipes[walker]
        walk = _walk(recipe).model_copy(update={"frame": frame})
        return provenance_of(self.generator, self.model, recipe.model_copy(update={"walk": walk}))

    def picture(self, walker: int, frame: int, file: Path | None = None) -> Pixels:
        """Paint one walk's frame into the PNG `file`, if given; read it if that has the same provenance already."""
        provenance = self.provenance(walker, frame)
        if file is not None and (there := _read_frame(file, provenance)) is not None:
            return there
        picture = paint(self.generator, provenance.latent)
        if file is not None:
            write_png(file, picture, provenance)
        return picture

    def file_name(self, name: str, walker: int) -> str:
        """The name of one walk's file: walk.png if there is only one, else walk-1.png and so on, row by row."""
        path = Path(name)
        return name if len(self.recipes) == 1 else f"{path.stem}-{walker + 1}{path.suffix}"


def main(argv: Sequence[str] | None = None) -> int:
    """Film the walk and print where it is. Returns the exit code: 1 after a message, 130 or 143 if stopped."""
    arguments = _parse(argv)
    hint = "with --frames what is painted is kept, and the same command goes on"
    return run_for_exit_code(lambda: _film_or_frame(arguments), hint)


def _film_or_frame(arguments: argparse.Namespace) -> int:
    device, _ = pick_deterministic_device(arguments.device)
    generator, model = load_painter(arguments.generator, device)
    rows, columns = arguments.walkers
    walks = walks_beside(labelled(generator, arguments.recipe), rows * columns)
    walkers = Walkers(generator, model, walks, rows)
    frame, frames = arguments.frame, walkers.first.frames
    if frame is None:
        strip = write_walk(walkers, arguments.out, arguments.fps, arguments.side, arguments.frames)
        print(f"{arguments.out}, {frames:,} frames at {arguments.fps} a second; {strip} shows some")
        if arguments.frames:
            print(f"{arguments.frames} has every frame as it was painted, which `atelier reproduce` paints again")
        return 0
    if frame >= frames:
        raise AtelierError(f"--frame {frame}: the film has {frames:,} frames, counted from 0")
    for walker in range(len(walkers.recipes)):
        file = arguments.out.with_name(walkers.file_name(arguments.out.name, walker))
        write_png(file, walkers.picture(walker, frame), walkers.provenance(walker, frame))
        print(file)
    return 0


def write_walk(walkers: Walkers, path: Path, fps: int, side_px: int, frames_folder: Path | None) -> Path:
    """Write the film, and a strip of some frames as a PNG beside it. Returns the strip's path.

    `side_px` is the film's longer side, at least. PNGs of all frames are written to `frames_folder`, or read from it.
    """
    format_of(path)
    scale, walk = _scale(walkers, side_px), walkers.first
    # the frames of the strip, at equal intervals: the first, and the last unless the walk is a loop
    count = min(STRIP_FRAMES, walk.frames)
    last, steps = (walk.frames, count) if walk.loop else (walk.frames - 1, count - 1)
    shown: dict[int, Pixels | None] = dict.fromkeys(place * last // steps for place in range(count))
    with Progress("walk", walk.frames * len(walkers.recipes), "pictures") as progress:

        def frames() -> Iterator[Pixels]:
            for number in range(walk.frames):
                pictures = []
                for walker in range(len(walkers.recipes)):
                    file = frames_folder and frames_folder / walkers.file_name(f"{number:05d}.png", walker)
                    pictures.append(enlarge(walkers.picture(walker, number, file), scale))
                    progress.advance()
                frame = tile(pictures, walkers.rows)
                if number in shown:
                    shown[number] = thumbnail(frame, STRIP_PICTURE_PX)
                yield frame

        grid = (walkers.rows, walkers.columns)
        facts = FilmFacts(first=walkers.provenance(0, 0), walkers=grid, fps=fps, side=side_px)
        write_film(path, frames(), fps, facts.model_dump_json())
    panels = [Panel(f"{n / fps:.1f} s", (), picture) for n, picture in shown.items() if picture is not None]
    stations = [
        "a projection" if s.latent else f"{s.seed}:{s.index}" if s.index else f"{s.seed}" for s in walk.stations
    ]
    others = f", and {len(walkers.recipes) - 1} beside it" if len(walkers.recipes) > 1 else ""
    heading = f"From seed {' to '.join(stations)}{' and back' if walk.loop else ''}{others}"
    write_panels(strip := path.with_suffix(".png"), heading, panels, STRIP_COLUMNS)
    return strip


def walks_beside(recipe: Recipe, count: int) -> tuple[Recipe, ...]:
    """The recipes of `count` walks, the given one first, through other pictures of its seeds with the same labels.

    None shares a station.
    """
    walk = _walk(recipe)
    indices = [station.index for station in walk.stations]
    span = max(indices) - min(indices) + 1
    if max(indices) + (count - 1) * span >= MAX_INDEX:
        raise AtelierError(f"pictures end at {MAX_INDEX - 1:,}, too early for {count} walks: start from a lower one")

    def shifted(by: int) -> Recipe:
        if not by:
            return recipe
        stations = tuple(Station(seed=s.seed, index=s.index + by, label=s.label) for s in walk.stations)
        other = walk.model_copy(update={"stations": stations})
        return recipe.model_copy(update={"walk": other, "index": stations[0].index})

    return tuple(shifted(walker * span) for walker in range(count))


def enlarge(picture: Pixels, scale: float) -> Pixels:
    """The picture (H, W, 3) with even sides, enlarged by Lanczos if `scale` is above 1; never reduced."""
    height, width = (_even(side, scale) for side in picture.shape[:2])
    if picture.shape[:2] == (height, width):
        return picture
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def tile(pictures: Sequence[Pixels], rows: int) -> Pixels:
    """Pictures of one size as one picture, row by row, with dark gaps."""
    if len(pictures) == 1:
        return pictures[0]
    columns = len(pictures) // rows
    height, width, _ = pictures[0].shape
    size = (rows * (height + GAP_PX) - GAP_PX, columns * (width + GAP_PX) - GAP_PX, 3)
    whole = np.full(size, GAP_LEVEL, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + GAP_PX), place % columns * (width + GAP_PX)
        whole[top : top + height, left : left + width] = picture
    return whole


def _even(side_px: int, scale: float) -> int:
    """An even side of an enlarged picture."""
    return 2 * round(side_px * max(scale, 1.0) / 2)


def _read_frame(path: Path, provenance: Provenance) -> Pixels | None:
    """The pixels of a PNG that has this provenance and is unedited; None for any other file, or none."""
    try:
        facts, picture = read_provenance(path), read_pixels(path)
    except AtelierError:
        return None
    same = facts.model_copy(update={"pixels": None}) == provenance and PixelFacts.of(picture) == facts.pixels
    return picture.astype(np.uint8) if same else None


def _scale(walkers: Walkers, side_px: int) -> float:
    """The factor that makes the film's longer side about `side_px`. Raises AtelierError if the film is too large."""
    height, width = size_px(walkers.generator, walkers.recipes[0])
    rows, columns = walkers.rows, walkers.columns
    scale = side_px / max(height * rows, width * columns)
    film_height = rows * (_even(height, scale) + GAP_PX) - GAP_PX
    film_width = columns * (_even(width, scale) + GAP_PX) - GAP_PX
    if max(film_height, film_width) > MAX_SIDE_PX:
        raise AtelierError(
            f"a film of {film_width:,} × {film_height:,} px is larger than players can show, "
            f"{MAX_SIDE_PX:,} px a side: use a smaller --canvas, --grid or --side"
        )
    return scale


def _walk(recipe: Recipe) -> Walk:
    if recipe.walk is None:
        raise ValueError("the recipe has no walk")
    return recipe.walk


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.film.walk")
    parser.add_argument("generator", type=Path)
    parser.add_argument("recipe", type=Recipe.model_validate_json, help="of the first frame, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="a film, or with --frame a PNG")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--walkers", type=int, nargs=2, default=(1, 1), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--side", type=int, default=512, help="pixels of the film's longer side, at least")
    parser.add_argument("--frame", type=int, help="write only this one, as a PNG")
    parser.add_argument("--frames", type=Path, help="a folder for all frames as PNGs")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

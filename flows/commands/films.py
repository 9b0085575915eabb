"""Commands that film walks through latent space, and draw the directions of it."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atelier.errors import AtelierError
from atelier.paths import GENERATOR, WALKS
from atelier.text import slug
from flows.commands.pictures import CanvasSize, Model, recipe_of, rows_by_columns, run_module, station_of
from flows.runtime import process, work_tree

if TYPE_CHECKING:
    from atelier.canvas.recipe import Station
    from atelier.provenance.facts import ModelFacts, SoftwareFacts

app = typer.Typer()

Frame = Annotated[int | None, typer.Option(min=0, help="write only this frame, as a PNG")]
Frames = Annotated[
    Path | None, typer.Option(help="a folder for every frame as a PNG; frames that exist are not painted again")
]


@app.command()
def walk(
    seeds: Annotated[
        str, typer.Option(help="the stations: seeds, 3,14,15; or 1:7 for picture 7 of seed 1; or artworks' files")
    ],
    seconds: Annotated[float, typer.Option(min=0.1, max=36_000, help="the length of the film")] = 12,
    fps: Annotated[int, typer.Option(min=1, max=240, help="frames a second")] = 30,
    loop: Annotated[bool, typer.Option("--loop", help="walk back to the first station")] = False,
    easing: Annotated[Literal["smooth", "linear"], typer.Option(help="smooth: slower near stations")] = "smooth",
    grain: Annotated[
        Literal["still", "moving"],
        typer.Option(help="the noise for details: still, the first station's; or moving, from each to the next"),
    ] = "still",
    grid: Annotated[
        str, typer.Option(help="walkers side by side, for example 2x3; the others start from later pictures")
    ] = "1x1",
    labels: Annotated[
        str | None, typer.Option(help="of a model with labels: one for each station, marine,landscape, or one for all")
    ] = None,
    canvas: CanvasSize = None,
    side: Annotated[int, typer.Option(min=16, max=8192, help="the film's longer side in pixels, at least")] = 512,
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option(help="a film, .mp4 or .webm, or with --frame a PNG; by default in .atelier/walks")
    ] = None,
    frame: Frame = None,
    frames: Frames = None,
) -> None:
    """Make a film that walks from picture to picture, and a strip of its frames.

    `--frame` writes a single frame, which `atelier reproduce` can paint again.
    """
    from atelier.canvas.recipe import MAX_FRAMES, MAX_STATIONS, Walk
    from atelier.film.encode import MAX_WALKERS

    here = work_tree.enter()
    generator = here / model if model else GENERATOR
    stops = [station_of(word.strip(), here, generator) for word in seeds.split(",")]
    if labels is not None:
        stops = _labelled(stops, labels)
    if not 2 <= len(stops) <= MAX_STATIONS:
        raise AtelierError(f"--seeds {seeds}: a walk has from 2 to {MAX_STATIONS} stations, 3,14,15")
    total = round(seconds * fps)
    if not 2 <= total <= MAX_FRAMES:
        raise AtelierError(f"{seconds:g} s at {fps} frames a second are {total:,}; a walk has 2 to {MAX_FRAMES:,}")
    # for example walk-3-14-15.mp4, walk-3-14-15-marine.mp4, or walk-3-1.7-00012.png for a frame
    words = [f"{s.seed}.{s.index}" if s.index else str(s.seed) for s in stops[:8]]
    words += [slug(name) for name in dict.fromkeys(str(s.label) for s in stops[:8] if s.label)]
    name = "-".join(("walk", *words, *([slug(generator.parent.name)] if model else [])))
    path = here / out if out else WALKS / (f"{name}.mp4" if frame is None else f"{name}-{frame:05d}.png")
    options = [f"--out={path}", f"--fps={fps}", f"--side={side}", *_frame_options(frame, frames, total, out, here)]
    recipe, device = recipe_of(stops, canvas, of_settings=model is None)
    course = Walk(stations=tuple(stops), frame=0, frames=total, loop=loop, easing=easing, grain=grain)
    recipe = recipe.model_copy(update={"walk": course, "latent": None})
    rows, columns = rows_by_columns(grid, "--grid")
    if rows * columns > MAX_WALKERS:
        raise AtelierError(f"--grid {grid}: at most {MAX_WALKERS} walkers are possible")
    options += [f"--device={device}", "--walkers", str(rows), str(columns)]
    sys.exit(run_module("atelier.film.walk", str(generator), recipe.model_dump_json(), *options))


@app.command()
def refilm(
    film: Annotated[Path, typer.Argument(help="a film that `atelier walk` made")],
    out: Annotated[
        Path | None, typer.Option(help="a film of the same kind, or with --frame a PNG; by default in .atelier/walks")
    ] = None,
    frame: Frame = None,
    frames: Frames = None,
) -> None:
    """Make a film again from the file alone, or one frame of it. Exit code 0 if all frames are the same, 1 if not."""
    from atelier.film.encode import read_facts

    here = work_tree.enter()
    original = here / film
    facts = read_facts(original)
    recipe = facts.first.latent
    assert recipe.walk is not None  # read_facts raises if there is none
    name = f"{film.stem}-again{film.suffix}" if frame is None else f"{film.stem}-{frame:05d}.png"
    path = here / out if out else WALKS / name
    options = _frame_options(frame, frames, recipe.walk.frames, out, here)
    if (frame is None and path.suffix != original.suffix) or (path.exists() and path.samefile(original)):
        raise AtelierError(f"--out {out or path}: name another file that ends in {original.suffix}, as {film} does")
    generator = _find_generator(film, facts.first.model)
    options += [f"--out={path}", f"--fps={facts.fps}", f"--side={facts.side}", "--walkers", *map(str, facts.walkers)]
    status = run_module("atelier.film.walk", str(generator), recipe.model_dump_json(), *options)
    sys.exit(status if status or frame is not None else _compare(film, original, path, facts.first.software))


@app.command()
def directions(
    seeds: Annotated[str, typer.Option(help="the pictures to move: 1:0,1:1, or artworks' files")] = "1:0,1:1",
    count: Annotated[int, typer.Option(min=1, max=64, help="the number of directions, the strongest first")] = 8,
    amount: Annotated[float, typer.Option(min=0.1, max=100, help="how far either way, in standard deviations")] = 3,
    canvas: CanvasSize = None,
    model: Model = None,
    out: Annotated[Path | None, typer.Option(help="a PNG; by default .atelier/walks/directions.png")] = None,
    save: Annotated[Path | None, typer.Option(help="a folder for each of the sheet's pictures as a PNG")] = None,
) -> None:
    """Draw a sheet of the directions of latent space along which pictures change most."""
    here = work_tree.enter()
    generator = here / model if model else GENERATOR
    moved = [station_of(word.strip(), here, generator) for word in seeds.split(",")]
    path = here / out if out else WALKS / "directions.png"
    if path.suffix.lower() != ".png":
        raise AtelierError(f"--out {out}: a sheet is a .png")
    recipes, devices = zip(*(recipe_of([station], canvas, model is None) for station in moved), strict=True)
    words = [str(generator), *(recipe.model_dump_json() for recipe in recipes), f"--out={path}", f"--count={count}"]
    words += [f"--amount={amount}", f"--device={devices[0]}", *([f"--save={here / save}"] if save else [])]
    sys.exit(run_module("atelier.film.sheets", "directions", *words))


def _labelled(stops: "list[Station]", labels: str) -> "list[Station]":
    """The stations with these labels, one for each or one for all; a single station is repeated for each label."""
    try:
        (names,) = csv.reader([labels], skipinitialspace=True)  # a name with a comma stands in quotation marks
    except (csv.Error, ValueError):  # a line break
        names = []
    names = [name.strip() for name in names]
    names = names * len(stops) if len(names) == 1 else names
    stops = stops * len(names) if len(stops) == 1 else stops
    if len(names) != len(stops) or not all(name.isprintable() and 0 < len(name) <= 200 for name in names):
        raise AtelierError(f"--labels {labels!r}: name one label for each of the {len(stops)} stations, or one for all")
    return [stop.model_copy(update={"label": name}) for stop, name in zip(stops, names, strict=True)]


def _frame_options(frame: int | None, frames: Path | None, total: int, out: Path | None, here: Path) -> list[str]:
    """The options of atelier.film.walk for --frame or --frames of a film with `total` frames."""
    if frame is not None and frame >= total:
        raise AtelierError(f"--frame {frame}: there are {total:,} frames, counted from 0")
    if frame is not None and out and out.suffix.lower() != ".png":
        raise AtelierError(f"--out {out}: a frame is a .png")
    if frame is not None and frames is not None:
        raise AtelierError("say either --frame N, for one frame, or --frames FOLDER, for all")
    return ([f"--frame={frame}"] if frame is not None else []) + ([f"--frames={here / frames}"] if frames else [])


def _find_generator(film: Path, model: "ModelFacts") -> Path:
    """Find the generator that a film's header names: in the work tree, DVC's cache or its remote."""
    from atelier.text import escaped
    from flows.records.history import Networks
    from flows.repaint.job import generator_key

    networks = Networks(Path.cwd(), process.print_error)
    networks.find([key := generator_key(model)])
    try:
        return networks.path(key)
    except AtelierError as error:
        raise AtelierError(f"{escaped(film)}: {error}") from None


def _compare(film: Path, original: Path, again: Path, made_by: "SoftwareFacts") -> int:
    """Print whether the two films have the same frames. Returns 0 if they do, else 1."""
    from atelier.film.encode import frames_sha256, read_facts
    from atelier.text import escaped

    if frames_sha256(original) == frames_sha256(again):
        print(f"{escaped(film)}: identical")
        return 0
    now = read_facts(again).first.software
    print(
        f"{escaped(film)}: different, though it is the same walk. Made by Atelier {made_by.atelier} with torch "
        f"{made_by.torch}, and again by {now.atelier} with {now.torch}; or the code, the encoder (PyAV) or the "
        "processor is another, or the film was edited"
    )
    return 1

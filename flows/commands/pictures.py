"""Commands that paint: pictures and films of any model, and pictures again from their files, as they are or changed."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atelier.errors import AtelierError
from atelier.paths import GENERATOR, PAINTED, PARAMS, WALKS
from flows.runtime import process, work_tree

if TYPE_CHECKING:
    from atelier.canvas.recipe import Move, Recipe, Station
    from atelier.provenance.facts import ModelFacts, SoftwareFacts

app = typer.Typer()

Model = Annotated[Path | None, typer.Option(help="a generator.safetensors; by default the present training's")]
Frame = Annotated[int | None, typer.Option(min=0, help="write only this frame, as a PNG")]
Frames = Annotated[
    Path | None, typer.Option(help="a folder for every frame as a PNG; frames that exist are not painted again")
]
CanvasSize = Annotated[str | None, typer.Option(help="rows x columns, for example 2x3; by default generate.canvas")]
Files = Annotated[list[Path], typer.Argument(help="artworks and prints: PNG files that Atelier made")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps; pictures are the same bytes on the cpu only")]
Json = Annotated[bool, typer.Option("--json", help="print a JSON object for each picture")]


@app.command()
def paint(
    model: Annotated[str, typer.Option("--from", help="base, or a generator.safetensors, or its folder")] = "base",
    count: Annotated[int, typer.Option(min=1, max=100_000, help="how many pictures")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="each seed gives other pictures")] = 1,
    canvas: CanvasSize = None,
    out: Annotated[Path | None, typer.Option(help="folder for the pictures; else one in .atelier/painted")] = None,
) -> None:
    """Paint pictures with a model, without data or training. `atelier reproduce` paints them again."""
    from atelier.canvas.recipe import Station
    from atelier.model_store import BASE_MODEL

    here = work_tree.enter()
    path = BASE_MODEL if model == "base" else here / model
    if path == BASE_MODEL and not path.is_dir():
        raise AtelierError(f"{path}, the base model, is missing: `git checkout -- {path}` brings it back")
    if out and (here / out).is_dir() and any((here / out).iterdir()):
        raise AtelierError(f"--out {out} holds files, which pictures might replace: name a new folder")
    generator = path / GENERATOR.name if path.is_dir() or path == BASE_MODEL else path
    folder = here / out if out else PAINTED / f"{'base' if model == 'base' else path.stem}-{seed}"
    recipe, device = _recipe(Station(seed=seed, index=0), canvas)
    options = (f"--count={count}", f"--out={folder}", f"--device={device}")
    sys.exit(_run("atelier.film.sheets", "paint", str(generator), recipe.model_dump_json(), *options))


@app.command()
def reproduce(
    files: Files,
    out: Annotated[
        Path | None, typer.Option(help="folder for all pictures; else those that differ are in .atelier/reproduced")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="print each picture's whole lineage")] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Paint pictures again from the provenance inside them, and compare every pixel.

    Exit code 0 if all are the same, 1 if not.
    """
    from flows.reproduce import Request, main

    sys.exit(main(Request(tuple(files), out, explain=explain, device=device, as_json=as_json)))


@app.command()
def vary(
    files: Files,
    count: Annotated[int, typer.Option(min=0, max=1000, help="how many neighbours of each in latent space")] = 0,
    strength: Annotated[float, typer.Option(min=0.001, max=1, help="how far away; 1 is an unrelated picture")] = 0.3,
    canvas: Annotated[str | None, typer.Option(help="the picture on a larger canvas, in rows x columns: 3x5")] = None,
    move: Annotated[
        list[str] | None, typer.Option(help="direction:amount, as `atelier directions` numbers directions: 2:1.5")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the pictures; else .atelier/reproduced")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Paint variations of pictures: neighbours in latent space, a larger canvas, or moved along directions.

    The present code paints, and first the picture itself, to show whether it still paints the same.
    """
    from flows.repaint.session import Changes
    from flows.reproduce import Request, main

    size = _rows_by_columns(canvas, "--canvas") if canvas else None
    changes = Changes(count, strength, size, tuple(map(_move, move or ())))
    if not changes:
        raise AtelierError("say what to change: --count 8, --canvas 3x5 or --move 2:1.5")
    sys.exit(main(Request(tuple(files), out, changes, device=device, as_json=as_json)))


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
    stops = [_station(word.strip(), here, generator) for word in seeds.split(",")]
    if not 2 <= len(stops) <= MAX_STATIONS:
        raise AtelierError(f"--seeds {seeds}: a walk has from 2 to {MAX_STATIONS} stations, 3,14,15")
    total = round(seconds * fps)
    if not 2 <= total <= MAX_FRAMES:
        raise AtelierError(f"{seconds:g} s at {fps} frames a second are {total:,}; a walk has 2 to {MAX_FRAMES:,}")
    # for example walk-3-14-15.mp4, or walk-3-1.7-00012.png for a frame
    name = "-".join(("walk", *(f"{s.seed}.{s.index}" if s.index else str(s.seed) for s in stops[:8])))
    path = here / out if out else WALKS / (f"{name}.mp4" if frame is None else f"{name}-{frame:05d}.png")
    options = [f"--out={path}", f"--fps={fps}", f"--side={side}", *_frame_options(frame, frames, total, out, here)]
    recipe, device = _recipe(stops[0], canvas)
    course = Walk(stations=tuple(stops), frame=0, frames=total, loop=loop, easing=easing, grain=grain)
    recipe = recipe.model_copy(update={"walk": course})
    rows, columns = _rows_by_columns(grid, "--grid")
    if rows * columns > MAX_WALKERS:
        raise AtelierError(f"--grid {grid}: at most {MAX_WALKERS} walkers are possible")
    options += [f"--device={device}", "--walkers", str(rows), str(columns)]
    sys.exit(_run("atelier.film.walk", str(generator), recipe.model_dump_json(), *options))


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
    status = _run("atelier.film.walk", str(generator), recipe.model_dump_json(), *options)
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
    moved = [_station(word.strip(), here, generator) for word in seeds.split(",")]
    path = here / out if out else WALKS / "directions.png"
    if path.suffix.lower() != ".png":
        raise AtelierError(f"--out {out}: a sheet is a .png")
    recipes, devices = zip(*(_recipe(station, canvas) for station in moved), strict=True)
    words = [str(generator), *(recipe.model_dump_json() for recipe in recipes), f"--out={path}", f"--count={count}"]
    words += [f"--amount={amount}", f"--device={devices[0]}", *([f"--save={here / save}"] if save else [])]
    sys.exit(_run("atelier.film.sheets", "directions", *words))


def _recipe(station: "Station", canvas: str | None) -> "tuple[Recipe, str]":
    """The recipe of a picture with the settings of params.yaml's `generate`, and that section's device."""
    from atelier.canvas.recipe import Recipe
    from atelier.settings.load import load_params

    generate = load_params(PARAMS).generate
    cells = _rows_by_columns(canvas, "--canvas") if canvas else None
    return Recipe.of(generate, station.seed, station.index, cells), generate.device


def _run(module: str, *words: str) -> int:
    """Run a module in a child process, because it imports torch. Returns its exit code."""
    return process.foreground([sys.executable, "-m", module, *words], work_tree.environment())


def _rows_by_columns(words: str, option: str) -> tuple[int, int]:
    """Parse `3x5` as 3 rows of 5."""
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", words)
    if match is None:
        raise AtelierError(f"{option} {words!r} is no size: say rows x columns, 3x5")
    return int(match[1]), int(match[2])


def _move(words: str) -> "Move":
    """Parse `2:1.5`."""
    from atelier.canvas.recipe import Move

    direction, _, amount = words.partition(":")
    try:
        return Move(direction=int(direction), amount=float(amount or 1))
    except ValueError:  # pydantic's ValidationError is one, too
        raise AtelierError(
            f"--move {words!r} is not a direction and an amount: say 2:1.5, with a direction from 0 on and an amount "
            "of up to 100 either way"
        ) from None


def _station(word: str, here: Path, model: Path) -> "Station":
    """Parse `3`, the first picture of seed 3; `1:7`, picture 7 of seed 1; or a file that `model` painted."""
    from atelier.canvas.recipe import Station

    if not word.lower().endswith(".png"):
        match = re.fullmatch(r"(\d{1,10})(?::(\d{1,10}))?", word)
        seed, index = (int(number or 0) for number in match.groups()) if match else (2**31, 0)
        if max(seed, index) < 2**31:
            return Station(seed=seed, index=index)
        raise AtelierError(
            f"{word!r} names no picture: say a seed, 3, or a picture of a seed, 3:7, with numbers below {2**31:,}, or "
            "a PNG that Atelier made"
        )
    from atelier.files import digest
    from atelier.provenance.facts import read_provenance

    path = here / word
    made = read_provenance(path)
    latent = made.latent
    if latent.walk or latent.variation or latent.grown_varied or latent.moves:
        raise AtelierError(
            f"{path} is a walk's frame, a variation or a moved picture, of which no walk is made: name a seed and a "
            "number, 3:7"
        )
    if made.model.sha256 != digest(model):
        raise AtelierError(f"{path} was painted by another model than {model}: name that one with --model")
    return Station(seed=latent.seed, index=latent.index)


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

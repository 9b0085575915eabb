"""`atelier paint`, `walk`, `refilm` and `directions`: pictures of any model, outside the pipeline."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atelier.errors import AtelierError
from flows.commands import reproduce
from flows.runtime import process, work_tree

if TYPE_CHECKING:
    from atelier.canvas.recipe import Recipe, Station
    from atelier.provenance.facts import ModelFacts, SoftwareFacts

GENERATOR = Path("data/model/generator.safetensors")
PLACE = Path(".atelier/walks")
PAINTED = Path(".atelier/painted")

Model = Annotated[Path | None, typer.Option(help="a generator.safetensors; else the present training's")]
Frame = Annotated[int | None, typer.Option(min=0, help="only this frame, as a PNG")]
Frames = Annotated[
    Path | None,
    typer.Option(help="a folder for every frame as a PNG; what is there is not painted again"),
]
CanvasSize = Annotated[str | None, typer.Option(help="rows x columns, 2x3; else generate.canvas")]


def add(app: typer.Typer) -> None:
    """The commands, into `atelier`."""
    app.command()(paint)
    app.command()(walk)
    app.command()(refilm)
    app.command()(directions)


def paint(
    model: Annotated[
        str, typer.Option("--from", help="base: the base model; or a generator.safetensors, or its folder")
    ] = "base",
    count: Annotated[int, typer.Option(min=1, max=100_000, help="how many pictures")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="another seed, other pictures")] = 1,
    canvas: CanvasSize = None,
    out: Annotated[
        Path | None, typer.Option(help="the folder for the pictures; else one in .atelier/painted")
    ] = None,
) -> None:
    """Paint pictures with a model as it is, without data or training; `atelier reproduce` paints them again."""
    from atelier.canvas.recipe import Station
    from atelier.model_store import BASE_MODEL

    here = Path.cwd()
    work_tree.enter()
    path = BASE_MODEL if model == "base" else here / model
    if path == BASE_MODEL and not path.is_dir():
        raise AtelierError(f"{path}, the base model, is missing: `git checkout -- {path}` brings it back")
    if out and (here / out).is_dir() and any((here / out).iterdir()):
        raise AtelierError(f"--out {out} holds files, which pictures might replace: name a new folder")
    generator = path / GENERATOR.name if path.is_dir() or path == BASE_MODEL else path
    recipe, device = _recipe(Station(seed=seed, index=0), canvas)
    folder = here / out if out else PAINTED / f"{'base' if model == 'base' else path.stem}-{seed}"
    command = [
        str(generator),
        recipe.model_dump_json(),
        f"--count={count}",
        f"--out={folder}",
        f"--device={device}",
    ]
    sys.exit(_painted("atelier.canvas.artworks", command))


def walk(
    seeds: Annotated[
        str, typer.Option(help="its stations: 3,14,15; or 1:7 for picture 7 of seed 1; or artworks' files")
    ],
    seconds: Annotated[float, typer.Option(min=0.1, max=36_000, help="how long")] = 12,
    fps: Annotated[int, typer.Option(min=1, max=240, help="frames a second")] = 30,
    loop: Annotated[bool, typer.Option("--loop", help="back to the first station, without an end")] = False,
    easing: Annotated[
        Literal["smooth", "linear"], typer.Option(help="smooth: slower near stations")
    ] = "smooth",
    grain: Annotated[
        Literal["still", "moving"],
        typer.Option(help="of the brush: still: the first station's | moving: each its own"),
    ] = "still",
    grid: Annotated[
        str, typer.Option(help="walkers side by side, 2x3: the others start from later pictures")
    ] = "1x1",
    canvas: CanvasSize = None,
    side: Annotated[
        int, typer.Option(min=16, max=8192, help="pixels of the film's longer side, at least")
    ] = 512,
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option(help="a film, .mp4 or .webm, or with --frame a PNG; else in .atelier/walks")
    ] = None,
    frame: Frame = None,
    frames: Frames = None,
) -> None:
    """From picture to picture: a film, a strip of it, and any frame of it again, which `atelier reproduce` knows."""
    from atelier.canvas.recipe import MAX_FRAMES, MAX_STATIONS, Walk
    from atelier.film.encode import MAX_WALKERS

    here = Path.cwd()
    work_tree.enter()
    generator = here / model if model else GENERATOR
    stops = reproduce.stations(seeds, here, generator)
    if not 2 <= len(stops) <= MAX_STATIONS:
        raise AtelierError(f"--seeds {seeds}: a walk has from 2 to {MAX_STATIONS} stations, 3,14,15")
    total = round(seconds * fps)
    if not 2 <= total <= MAX_FRAMES:
        raise AtelierError(
            f"{seconds:g} s at {fps} frames a second are {total:,}; a walk has 2 to {MAX_FRAMES:,}"
        )
    path = here / out if out else PLACE / _name(stops, frame)
    _check(frame, frames, total, out)
    recipe, device = _recipe(stops[0], canvas)
    course = Walk(stations=tuple(stops), frame=0, frames=total, loop=loop, easing=easing, grain=grain)
    recipe = recipe.model_copy(update={"walk": course})
    rows, columns = reproduce.rows_by_columns(grid, "--grid")
    if rows * columns > MAX_WALKERS:
        raise AtelierError(f"--grid {grid}: at most {MAX_WALKERS} walkers are told apart")
    command = [str(generator), recipe.model_dump_json(), f"--out={path}", f"--fps={fps}", f"--side={side}"]
    command += [f"--device={device}", "--walkers", str(rows), str(columns)]
    sys.exit(_walked(command, here, frame, frames))


def refilm(
    film: Annotated[Path, typer.Argument(help="a film that `atelier walk` made")],
    out: Annotated[
        Path | None,
        typer.Option(help="a film of the same kind, or with --frame a PNG; else in .atelier/walks"),
    ] = None,
    frame: Frame = None,
    frames: Frames = None,
) -> None:
    """A film again, from the film alone: 0 where all its frames are the same, 1 where not; or one of them."""
    from atelier.film.encode import read_facts

    here, given = Path.cwd(), Path.cwd() / film
    work_tree.enter()
    facts = read_facts(given)
    walk = facts.first.latent.walk
    assert walk is not None  # read_facts refuses it
    name = f"{film.stem}-again{film.suffix}" if frame is None else f"{film.stem}-{frame:05d}.png"
    path = here / out if out else PLACE / name
    _check(frame, frames, walk.frames, out)
    if (frame is None and path.suffix != given.suffix) or (path.exists() and path.samefile(given)):
        raise AtelierError(
            f"--out {out or path}: name another file that ends in {given.suffix}, as {film} does"
        )
    generator = _found(film, facts.first.model)
    command = [str(generator), facts.first.latent.model_dump_json(), f"--out={path}", f"--fps={facts.fps}"]
    command += [f"--side={facts.side}", "--walkers", *map(str, facts.walkers)]
    status = _walked(command, here, frame, frames)
    sys.exit(status if status or frame is not None else _compared(film, given, path, facts.first.software))


def directions(
    seeds: Annotated[
        str, typer.Option(help="the pictures that are moved: 1:0,1:1, or artworks' files")
    ] = "1:0,1:1",
    count: Annotated[int, typer.Option(min=1, max=64, help="how many directions, the strongest first")] = 8,
    amount: Annotated[
        float, typer.Option(min=0.1, max=100, help="how far either way, in standard deviations")
    ] = 3,
    canvas: CanvasSize = None,
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option(help="the sheet, a PNG; else .atelier/walks/directions.png")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="a folder for each of its pictures as a PNG")] = None,
) -> None:
    """A sheet of what can be turned: along which directions of latent space pictures change most, and how."""
    here = Path.cwd()
    work_tree.enter()
    generator = here / model if model else GENERATOR
    moved = reproduce.stations(seeds, here, generator)
    path = here / out if out else PLACE / "directions.png"
    if path.suffix.lower() != ".png":
        raise AtelierError(f"--out {out}: a sheet is a .png")
    asked = [_recipe(station, canvas) for station in moved]
    command = [str(generator), *(recipe.model_dump_json() for recipe, _ in asked), f"--out={path}"]
    command += [f"--count={count}", f"--amount={amount}", f"--device={asked[0][1]}"]
    command += [f"--save={here / save}"] if save else []
    sys.exit(_painted("atelier.film.directions_sheet", command))


def _recipe(station: "Station", canvas: str | None) -> "tuple[Recipe, str]":
    """A picture as params.yaml's `generate` has it, on another canvas where that is asked for; and the device."""
    from atelier.canvas.recipe import Recipe
    from atelier.settings.load import load_params

    asked = load_params(Path("params.yaml")).generate
    rows, columns = reproduce.rows_by_columns(canvas, "--canvas") if canvas else asked.canvas
    recipe = Recipe(
        seed=station.seed, index=station.index, canvas=(rows, columns), truncation=asked.truncation,
        layout=asked.layout, normalise=asked.normalise, seamless=asked.seamless,
    )  # fmt: skip
    return recipe, asked.device


def _check(frame: int | None, frames: Path | None, total: int, out: Path | None) -> None:
    if frame is not None and frame >= total:
        raise AtelierError(f"--frame {frame} is none of {total:,}, which are counted from 0")
    if frame is not None and out and out.suffix.lower() != ".png":
        raise AtelierError(f"--out {out}: a frame is a .png")
    if frame is not None and frames is not None:
        raise AtelierError("say --frame N, for one of them, or --frames FOLDER, for all")


def _walked(command: list[str], here: Path, frame: int | None, frames: Path | None) -> int:
    command += [f"--frame={frame}"] if frame is not None else []
    command += [f"--frames={here / frames}"] if frames else []
    return _painted("atelier.film.walk", command)


def _found(film: Path, model: "ModelFacts") -> Path:
    """The generator that a film names, wherever it is kept."""
    from atelier.pictures.untrusted import escaped
    from flows.records.networks import Networks
    from flows.repaint.job import wanted_generator

    networks = Networks(Path.cwd(), lambda sentence: print(sentence, file=sys.stderr))
    networks.find([wanted := wanted_generator(model)])
    try:
        return networks.path(wanted)
    except AtelierError as error:
        raise AtelierError(f"{escaped(film)}: {error}") from None


def _compared(film: Path, given: Path, again: Path, made_by: "SoftwareFacts") -> int:
    """Say whether the new film is the old one; 1 where not."""
    from atelier.film.encode import frames_sha256, read_facts
    from atelier.pictures.untrusted import escaped

    if frames_sha256(given) == frames_sha256(again):
        print(f"{escaped(film)}: identical")
        return 0
    now = read_facts(again).first.software
    print(
        f"{escaped(film)}: different, though it is the same walk. Made by Atelier {made_by.atelier} with torch "
        f"{made_by.torch}, and again by {now.atelier} with {now.torch}; or the code, the encoder (PyAV) or the "
        "processor is another, or the film was edited"
    )
    return 1


def _name(stops: "list[Station]", frame: int | None) -> str:
    """walk-3-14-15.mp4, walk-3-1.7-00012.png."""
    words = "-".join(f"{s.seed}.{s.index}" if s.index else str(s.seed) for s in stops[:8])
    return f"walk-{words}.mp4" if frame is None else f"walk-{words}-{frame:05d}.png"


def _painted(module: str, words: list[str]) -> int:
    """A process of its own, since it needs torch."""
    return process.foreground([sys.executable, "-m", module, *words], work_tree.environment())

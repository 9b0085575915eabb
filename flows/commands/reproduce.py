"""`atelier reproduce`: a past artwork again, from its PNG, as typed by a person.

Small things as a person spells them on a command line: a canvas, a grid, a picture of a seed.
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.errors import AtelierError

if TYPE_CHECKING:
    from atelier.canvas.recipe import Station


def rows_by_columns(words: str, option: str) -> tuple[int, int]:
    """`3x5` is 3 rows of 5. Raises AtelierError naming the option."""
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", words)
    if match is None:
        raise AtelierError(f"{option} {words!r} is no size: say rows x columns, 3x5")
    return int(match[1]), int(match[2])


def stations(words: str, here: Path, model: Path) -> "list[Station]":
    """`3,1:7,made/1-00007.png`: the first picture of seed 3, picture 7 of seed 1, and what that file says it is.

    Raises AtelierError for what is none of these, and for a file that `model` did not paint as it is.
    """
    return [_station(word.strip(), here, model) for word in words.split(",")]


def _station(word: str, here: Path, model: Path) -> "Station":
    from atelier.canvas.recipe import Station

    if word.lower().endswith(".png"):
        return _of_file(here / word, model)
    match = re.fullmatch(r"(\d{1,10})(?::(\d{1,10}))?", word)
    numbers = [int(number or 0) for number in match.groups()] if match else [2**31]
    if max(numbers) >= 2**31:
        raise AtelierError(
            f"{word!r} names no picture: say a seed, 3, or a picture of a seed, 3:7, with numbers below "
            f"{2**31:,}, or a PNG that Atelier made"
        )
    return Station(seed=numbers[0], index=numbers[1])


def _of_file(path: Path, model: Path) -> "Station":
    from atelier.canvas.recipe import Station
    from atelier.files import digest
    from atelier.provenance.facts import read_provenance

    made = read_provenance(path)
    latent = made.latent
    if latent.walk or latent.variation or latent.grown_varied or latent.moves:
        raise AtelierError(
            f"{path} is no picture as its seed gives it but a walk's frame, a variation or a moved one: name a seed "
            "and a number, 3:7"
        )
    if made.model.sha256 != digest(model):
        raise AtelierError(f"{path} was painted by another model than {model}: name that one with --model")
    return Station(seed=latent.seed, index=latent.index)


if TYPE_CHECKING:
    from atelier.canvas.recipe import Move


def add(app: typer.Typer) -> None:
    """The command, into `atelier`."""
    app.command()(reproduce)


def reproduce(
    files: Annotated[list[Path], typer.Argument(help="artworks and prints, PNGs that Atelier made")],
    out: Annotated[
        Path | None,
        typer.Option(help="folder for the pictures; else .atelier/reproduced, for what is not identical"),
    ] = None,
    variation: Annotated[
        int, typer.Option(min=0, max=1000, help="so many neighbours of each picture in latent space")
    ] = 0,
    strength: Annotated[
        float, typer.Option(min=0.001, max=1, help="how far away they are: 1 is another picture altogether")
    ] = 0.3,
    canvas: Annotated[
        str | None, typer.Option(help="the same on a larger field, rows x columns: 3x5")
    ] = None,
    move: Annotated[
        list[str] | None, typer.Option(help="along a direction, as `atelier directions` numbers them: 2:1.5")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="tell each picture's whole lineage")] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or mps; cpu is what pictures are made on")
    ] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="a JSON object a picture")] = False,
) -> None:
    """Paint pictures again from what they say of themselves, and hold them against it, pixel by pixel."""
    from flows import reproduce as flow
    from flows.repaint.picture import Changes

    changes = Changes(
        variation,
        strength,
        rows_by_columns(canvas, "--canvas") if canvas else None,
        tuple(map(_move, move or ())),
    )
    sys.exit(flow.main(flow.Wish(tuple(files), out, changes, explain, device, as_json)))


def _move(words: str) -> "Move":
    from pydantic import ValidationError

    from atelier.canvas.recipe import Move

    direction, _, amount = words.partition(":")
    try:
        return Move(direction=int(direction), amount=float(amount or 1))
    except (ValueError, ValidationError):
        raise AtelierError(
            f"--move {words!r} is no direction and amount: say 2:1.5, from 0 on and up to 100 either way"
        ) from None

"""`atelier reproduce` and `atelier vary`: paint pictures again from their PNG files, as they are or changed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.errors import AtelierError
from flows.commands.walk import rows_by_columns

if TYPE_CHECKING:
    from atelier.canvas.recipe import Move

app = typer.Typer()

Files = Annotated[list[Path], typer.Argument(help="artworks and prints: PNG files that Atelier made")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps; pictures are the same bytes on the cpu only")]
Json = Annotated[bool, typer.Option("--json", help="print a JSON object for each picture")]


@app.command()
def reproduce(
    files: Files,
    out: Annotated[
        Path | None,
        typer.Option(
            help="folder for all pictures; by default only those that differ are written, to .atelier/reproduced"
        ),
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
    count: Annotated[
        int, typer.Option(min=0, max=1000, help="how many neighbours of each picture in latent space")
    ] = 0,
    strength: Annotated[
        float, typer.Option(min=0.001, max=1, help="how far away they are; 1 is an unrelated picture")
    ] = 0.3,
    canvas: Annotated[str | None, typer.Option(help="the picture on a larger canvas, in rows x columns: 3x5")] = None,
    move: Annotated[
        list[str] | None,
        typer.Option(help="direction:amount, for example 2:1.5, as `atelier directions` numbers directions"),
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

    size = rows_by_columns(canvas, "--canvas") if canvas else None
    changes = Changes(count, strength, size, tuple(map(_move, move or ())))
    if not changes:
        raise AtelierError("say what to change: --count 8, --canvas 3x5 or --move 2:1.5")
    sys.exit(main(Request(tuple(files), out, changes, device=device, as_json=as_json)))


def _move(words: str) -> "Move":
    """Parse `2:1.5`. Raises AtelierError if it is not a direction and an amount."""
    from pydantic import ValidationError

    from atelier.canvas.recipe import Move

    direction, _, amount = words.partition(":")
    try:
        return Move(direction=int(direction), amount=float(amount or 1))
    except (ValueError, ValidationError):
        raise AtelierError(
            f"--move {words!r} is not a direction and an amount: say 2:1.5, with a direction from 0 on and an amount "
            "of up to 100 either way"
        ) from None

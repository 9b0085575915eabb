"""`atelier reproduce`: a past artwork again, from its PNG, as typed by a person."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.errors import AtelierError
from flows.commands import spelling

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
    from flows.repaint.relatives import Changes

    changes = Changes(
        variation,
        strength,
        spelling.rows_by_columns(canvas, "--canvas") if canvas else None,
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

"""What a flow tells: a stage's picture, and at its end one row a stage, for a terminal and for Prefect's page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.table import Table

PICTURE_BYTES = 60_000  # Prefect's page prints an address in full below what it shows
PICTURE_SIDES_PX = (768, 512, 384, 256, 128)
STYLES = {"Completed": "green", "Cached": "cyan", "Failed": "red", "Out of reach": "red", "Not run": "dim"}


@dataclass(frozen=True, slots=True)
class Row:
    """One stage's fate; `key` names its inputs, 12 hex of dvc.lock."""

    stage: str
    state: str
    seconds: float
    key: str


def picture_address(path: Path) -> str:
    """A picture of our own as the data: address of a small WebP: Prefect's page can reach no file.

    Raises OSError where it is gone or no picture.
    """
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    for side_px in PICTURE_SIDES_PX:
        image.thumbnail((side_px, side_px))
        file = io.BytesIO()
        image.save(file, "WEBP", quality=75)  # a third smaller than a JPEG
        if file.tell() <= PICTURE_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def terminal_table(rows: Sequence[Row]) -> Table:
    """For rich's console."""
    table = Table("stage", "state", "seconds", "key")
    table.columns[2].justify = "right"
    for row in rows:
        style = STYLES.get(row.state, "")
        table.add_row(row.stage, f"[{style}]{row.state}[/]", f"{row.seconds:.1f}", row.key)
    return table


def artifact_table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """For Prefect's table artifact."""
    return [
        {"stage": row.stage, "state": row.state, "seconds": f"{row.seconds:.1f}", "key": row.key}
        for row in rows
    ]


def summary(rows: Sequence[Row]) -> str:
    """`3 completed, 5 cached`"""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state.lower()}" for state in STYLES if state in states)

"""The table that ends a run of the pipeline: a row for each stage, for a terminal and for Prefect. Without Prefect."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

STYLES = {"Completed": "green", "Cached": "cyan", "Failed": "red", "Out of reach": "red", "Not run": "dim"}


@dataclass(frozen=True, slots=True)
class StageRow:
    """How a stage ended; `key` is a hash of its inputs in dvc.lock, 12 hexadecimal digits, or empty."""

    stage: str
    state: str
    seconds: float
    key: str


def print_table(rows: Sequence[StageRow]) -> None:
    """Print the rows to the terminal, with a colour for each state."""
    table = Table("stage", "state", "seconds", "key")
    table.columns[2].justify = "right"
    for row in rows:
        style = STYLES.get(row.state, "")
        table.add_row(row.stage, f"[{style}]{row.state}[/]", f"{row.seconds:.1f}", row.key)
    Console().print(table)


def artifact_table(rows: Sequence[StageRow]) -> list[dict[str, str]]:
    """Return the rows for Prefect's table artifact."""
    return [{"stage": row.stage, "state": row.state, "seconds": f"{row.seconds:.1f}", "key": row.key} for row in rows]


def summary(rows: Sequence[StageRow]) -> str:
    """Count the stages by state, for example `3 completed, 5 cached`."""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state.lower()}" for state in STYLES if state in states)

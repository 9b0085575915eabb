"""What a flow tells at its end: one row a stage, as a table for a terminal and for Prefect's page."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

STYLES = {"Completed": "green", "Cached": "cyan", "Failed": "red", "Not run": "dim"}


@dataclass(frozen=True, slots=True)
class Row:
    """One stage's fate; `key` names its inputs, 12 hex of dvc.lock."""

    stage: str
    state: str
    seconds: float
    key: str


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

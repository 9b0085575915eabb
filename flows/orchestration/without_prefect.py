"""What runs without Prefect, whose import takes seconds: the check for a configured server, and the table of stages.

If no server is configured, `atelier reproduce` and an `atelier run` with nothing to do work without Prefect.
`may_be_configured` reads the places from which Prefect takes its settings and errs towards True: then
flows.orchestration.server, which imports Prefect, finds the exact answer.
"""

import contextlib
import itertools
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROFILES_FILE = "profiles.toml"
DATABASE_VARIABLES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
SERVER_VARIABLES = ("PREFECT_API_URL", "PREFECT_PROFILE", *DATABASE_VARIABLES)
STYLES = {"Completed": "green", "Cached": "cyan", "Failed": "red", "Out of reach": "red", "Not run": "dim"}


@dataclass(frozen=True, slots=True)
class StageRow:
    """How a stage ended; `key` is a hash of its inputs in dvc.lock, 12 hexadecimal digits, or empty."""

    stage: str
    state: str
    seconds: float
    key: str

    @property
    def texts(self) -> dict[str, str]:
        """The row for Prefect's table artifact, by column."""
        return {"stage": self.stage, "state": self.state, "seconds": f"{self.seconds:.1f}", "key": self.key}


def print_table(rows: Sequence[StageRow]) -> None:
    """Print the rows to the terminal, with a colour for each state."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("stage", "state", Column("seconds", justify="right"), "key")
    for row in rows:
        state = f"[{STYLES.get(row.state, '')}]{row.state}[/]"
        table.add_row(*(row.texts | {"state": state}).values())
    Console().print(table)


def summary(rows: Sequence[StageRow]) -> str:
    """Count the stages by state, for example `3 completed, 5 cached`."""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state.lower()}" for state in STYLES if state in states)


def may_be_configured() -> bool:
    """Whether Prefect might find the URL of a server, or a lasting server runs with this studio's database.

    Call it in the studio's root, because Prefect reads files of the current directory.
    """
    if any(value for name, value in os.environ.items() if name.upper() in SERVER_VARIABLES) or _is_in_files():
        return True
    home = os.path.realpath(_home()) + os.sep  # where the server's database is by default
    return any(lasting_servers(lambda path: path.startswith(home)))


def lasting_servers(has_open: Callable[[str], bool] = bool) -> Iterator[psutil.Process]:
    """The processes of `prefect server start` with an open file that `has_open` accepts, except a flow's own server."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        started = any(pair == ("server", "start") for pair in itertools.pairwise(command))
        if started or "prefect.server.api.server:create_app" in command:  # which --background starts
            with contextlib.suppress(psutil.Error):  # it ended meanwhile, or belongs to another user
                lasts = not process.environ().get("PREFECT__SERVER_EPHEMERAL")
                if lasts and any(has_open(os.path.realpath(file.path)) for file in process.open_files()):
                    yield process


def _is_in_files() -> bool:
    dotenv = Path(".env")
    if dotenv.is_file() and "PREFECT_" in dotenv.read_text(errors="replace").upper():
        return True
    try:
        for settings in (_read_toml(Path("prefect.toml")), _pyproject()):
            database = settings.get("server", {}).get("database")
            if settings.get("api", {}).get("url") or settings.get("profiles_path") or database:
                return True
        path = os.environ.get("PREFECT_PROFILES_PATH")
        profiles = _read_toml(Path(path) if path else _home() / PROFILES_FILE)
        active = profiles.get("profiles", {}).get(profiles.get("active"), {})
        return bool(active.get("PREFECT_API_URL"))
    except (OSError, ValueError, AttributeError):  # Prefect says what is wrong with the file
        return True


def _home() -> Path:
    """Prefect's home: PREFECT_HOME, else `home` in pyproject.toml, else ~/.prefect."""
    return Path(os.environ.get("PREFECT_HOME") or _pyproject().get("home") or "~/.prefect").expanduser()


def _pyproject() -> dict[str, Any]:
    settings: dict[str, Any] = _read_toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {})
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text()) if path.is_file() else {}

"""Tell whether a Prefect server may be configured for this studio, without importing Prefect, which takes seconds.

If there is none, `atelier reproduce` and an `atelier run` with nothing to do work without Prefect. `may_be_configured`
reads the places from which Prefect takes its settings and errs towards True: flows.orchestration.server, which imports
Prefect, then finds the exact answer.
"""

import contextlib
import itertools
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

PROFILES_FILE = "profiles.toml"


def may_be_configured() -> bool:
    """Whether Prefect might find the URL of a server, or a lasting server runs with this studio's database.

    Call it in the studio's root, because Prefect reads files of the current directory.
    """
    return _is_in_environment() or _is_in_files() or any(map(_is_of_this_studio, lasting_servers()))


def lasting_servers() -> Iterator[psutil.Process]:
    """The processes of `prefect server start` that this user may inspect, except servers started for one flow."""
    for process in psutil.process_iter(["cmdline"]):
        if _is_server(process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile, or belongs to another user
                if not process.environ().get("PREFECT__SERVER_EPHEMERAL"):
                    yield process


def _is_in_environment() -> bool:
    database = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
    names = ("PREFECT_API_URL", "PREFECT_PROFILE", *database)
    return any(value for name, value in os.environ.items() if name.upper() in names)


def _is_in_files() -> bool:
    dotenv = Path(".env")
    if dotenv.is_file() and "PREFECT_" in dotenv.read_text(errors="replace").upper():
        return True
    try:
        pyproject = _read_toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {})
        for settings in (_read_toml(Path("prefect.toml")), pyproject):
            database = settings.get("server", {}).get("database")
            if settings.get("api", {}).get("url") or settings.get("profiles_path") or database:
                return True
        path = os.environ.get("PREFECT_PROFILES_PATH")
        profiles = _read_toml(Path(path) if path else _home() / PROFILES_FILE)
        active = profiles.get("profiles", {}).get(profiles.get("active"), {})
        return bool(active.get("PREFECT_API_URL"))
    except (OSError, ValueError, AttributeError):  # Prefect says what is wrong with the file
        return True


def _is_of_this_studio(server: psutil.Process) -> bool:
    """Whether a server has a file below Prefect's home open, where its database is by default."""
    home = os.path.realpath(_home()) + os.sep
    with contextlib.suppress(psutil.Error):  # it has ended
        return any(os.path.realpath(file.path).startswith(home) for file in server.open_files())
    return False


def _home() -> Path:
    """Prefect's home: PREFECT_HOME, else `home` in pyproject.toml, else ~/.prefect."""
    in_pyproject = _read_toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {}).get("home")
    return Path(os.environ.get("PREFECT_HOME") or in_pyproject or "~/.prefect").expanduser()


def _read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; empty if there is none."""
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def _is_server(command: list[str]) -> bool:
    """Whether a command line is `prefect server start`, or the process that it starts with --background."""
    started = any(pair == ("server", "start") for pair in itertools.pairwise(command))
    return started or "prefect.server.api.server:create_app" in command

"""Tell whether a Prefect server may be configured for this studio, without importing Prefect, which takes seconds.

Where none is, `atelier reproduce` works without Prefect. `may_be_configured` reads the places from which Prefect takes
its settings, and errs towards True: flows.orchestration.server, which imports Prefect, then finds the exact answer.
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
    """Whether Prefect might find the URL of a server, or a lasting server runs on this machine.

    Call it in the studio's root, because Prefect reads files of the current directory.
    """
    return _is_in_environment() or _is_in_files() or next(lasting_servers(), None) is not None


def lasting_servers() -> Iterator[psutil.Process]:
    """The processes of `prefect server start` that this user may inspect, except servers started for one flow."""
    for process in psutil.process_iter(["cmdline"]):
        if _is_server(process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile, or belongs to another user
                if not process.environ().get("PREFECT__SERVER_EPHEMERAL"):
                    yield process


def _is_in_environment() -> bool:
    names = ("PREFECT_API_URL", "PREFECT_PROFILE")
    return any(value for name, value in os.environ.items() if name.upper() in names)


def _is_in_files() -> bool:
    dotenv = Path(".env")
    if dotenv.is_file() and "PREFECT_" in dotenv.read_text(errors="replace").upper():
        return True
    try:
        pyproject = _read_toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {})
        for settings in (_read_toml(Path("prefect.toml")), pyproject):
            if settings.get("api", {}).get("url") or settings.get("profiles_path"):
                return True
        profiles = _read_toml(_profiles_path())
        active = profiles.get("profiles", {}).get(profiles.get("active"), {})
        return bool(active.get("PREFECT_API_URL"))
    except (OSError, ValueError, AttributeError):  # Prefect says what is wrong with the file
        return True


def _profiles_path() -> Path:
    if path := os.environ.get("PREFECT_PROFILES_PATH"):
        return Path(path)
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect") / PROFILES_FILE


def _read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; empty if there is none."""
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def _is_server(command: list[str]) -> bool:
    """Whether a command line is `prefect server start`, or the process that it starts with --background."""
    started = any(pair == ("server", "start") for pair in itertools.pairwise(command))
    return started or "prefect.server.api.server:create_app" in command

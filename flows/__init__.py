"""Prefect flows over DVC and git, and the `atelier` command that starts them. Imports no torch."""

import sys
from pathlib import Path

import atelier  # noqa: F401  (first of all: it says which systems it runs on)


def _is_this_package(entry: str) -> bool:
    folder = Path(entry).resolve()
    return folder.name == __name__ and (folder / "__init__.py").is_file()


# `python flows/studio.py`, and Prefect with a file as entrypoint, put this folder on the path, from which our modules
# would be imported in place of packages of the same names
sys.path[:] = [entry for entry in sys.path if not _is_this_package(entry)]

"""The command `atelier clean`: drop arrived pictures that no recent catalog names."""

import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from flows.runtime import work_tree


def add(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command()
    def clean(
        days: Annotated[
            int | None,
            typer.Option(min=0, help="keep what a download's catalog named within so many days; else 30"),
        ] = None,
        yes: Annotated[
            bool, typer.Option("--yes", help="drop it; without this, only say what would go")
        ] = False,
    ) -> None:
        """Drop downloaded pictures of .atelier/images that no recent catalog names (other genres, sizes, sources)."""
        from atelier.download import arrivals
        from atelier.download.report import size_of
        from atelier.errors import AtelierError

        work_tree.enter()
        directory = Path(".atelier/images")
        try:
            since = arrivals.since(directory, arrivals.RECENT_DAYS if days is None else days)
            kept = arrivals.survey(directory, since)
            unnamed = [file for file in kept if file.unnamed_bytes or file.unnamed_works]
            for file in unnamed:
                works = f"{file.unnamed_works:,} of {file.works:,} works, " if file.works else ""
                print(f"{file.path}: {works}{size_of(file.unnamed_bytes) or '0 B'}")
            total = size_of(sum(file.unnamed_bytes for file in unnamed)) or "0 B"
            if not unnamed:
                print(f"nothing to drop: a catalog since {since} names all that is kept in {directory}")
            elif yes:
                arrivals.drop(directory, since)
                print(f"dropped {total} that no catalog since {since} names")
            else:
                print(f"{total} that no catalog since {since} names; `atelier clean --yes` drops it")
        except sqlite3.Error as error:
            raise AtelierError(f"{directory}: {error}: is it yours to read and write?") from None

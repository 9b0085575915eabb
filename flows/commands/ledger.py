"""`atelier ledger`: list all models with the number of their pictures, or tell which picture a file is."""

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.errors import AtelierError, counted, run_for_exit_code
from flows.runtime import work_tree

if TYPE_CHECKING:
    from flows.records.history import Commit
    from flows.records.ledger import Ledger, RecordedModel, RecordedPicture

app = typer.Typer()

SHOWN_COMMITS = 3


@app.command()
def ledger(
    files: Annotated[
        list[Path] | None, typer.Argument(help="picture files to look up; without any, all models are listed")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="ask the remote once more for what it lacked")] = False,
) -> None:
    """List every model with its pictures, and the commits and tags that name it; or tell which picture a FILE is."""
    here = Path.cwd()

    def work() -> int:
        from atelier.text import escaped
        from flows.records.ledger import opened

        work_tree.enter()
        with opened(lambda text: print(text, file=sys.stderr), again=again) as book:
            if not files:
                return _print_models(book)
            return _print_files(book, {escaped(file): here / file for file in files})

    sys.exit(run_for_exit_code(work, "what has been read is kept"))


def _print_models(book: "Ledger") -> int:
    from rich.console import Console
    from rich.table import Table

    models = book.models()
    if not models:
        print("no commit and no dvc.lock names a model yet: `dvc repro` makes one, and `git commit` lets it be found")
        return 0
    table = Table("model", "named by", "commits", "newest", "artworks", "prints", box=None)
    for column in (2, 4, 5):
        table.columns[column].justify = "right"
    for model in models:
        more = "+" if model.lacking else ""
        table.add_row(
            model.md5[:12], ", ".join(_names(model)), f"{len(model.commits):,}",
            _date(model.commits[0]) if model.commits else "not committed",
            f"{model.artworks:,}{more}", f"{model.prints:,}{more}",
        )  # fmt: skip
    Console(soft_wrap=True).print(table, markup=False)
    if lacking := book.lacking():
        print(
            f"{counted(lacking, 'folder')} of pictures (+) not complete in DVC's cache or its remote: "
            "`atelier ledger --again` asks the remote once more"
        )
    return 0


def _print_files(book: "Ledger", files: dict[str, Path]) -> int:
    """Print which picture each file is. Returns 1 if one is unknown or no picture, else 0."""
    known = True
    for name, path in files.items():
        try:
            known = _print_file(book, name, path) and known
        except AtelierError as error:
            print(error, file=sys.stderr)
            known = False
    return 0 if known else 1


def _print_file(book: "Ledger", name: str, path: Path) -> bool:
    from atelier.pictures.compare import pixels_sha256
    from atelier.pictures.untrusted import open_regular

    with open_regular(path, "name a picture") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    pictures, how = book.of_file(md5), "as it was made"
    if not pictures:
        pictures, how = (
            book.of_pixels(pixels_sha256(path)),
            "its pixels, in a file that another program saved",
        )
    if not pictures:
        print(f"{name}: unknown; no commit, experiment or work tree here names a picture with its pixels")
        return False
    print(f"{name}: {how}")
    for picture in pictures:
        for line in _lines(picture):
            print(f"  {line}")
    return True


def _lines(picture: "RecordedPicture") -> list[str]:
    """What is recorded of a picture: its recipe, its model, and the newest commits that name it."""
    from atelier.provenance import facts
    from atelier.text import escaped

    made = picture.provenance
    names = _names(picture)
    enlarged = f", as a print ×{made.print.upscale.scale}" if made.print else ""
    lines = [
        f"{escaped(picture.path)}: {facts.describe_recipe(made.latent)}{enlarged}",
        f"by the model {made.model.md5[:12]} ({escaped(made.model.arch)}, {made.model.resolution} px)"
        + (f", named by {', '.join(names)}" if names else ""),
    ]
    lines += [str(commit) for commit in picture.commits[:SHOWN_COMMITS]]
    if (more := len(picture.commits) - SHOWN_COMMITS) > 0:
        lines.append(f"and {counted(more, 'commit')} before")
    return lines


def _names(recorded: "RecordedModel | RecordedPicture") -> list[str]:
    """Names for a model or picture: the work tree, champion versions, tags, experiments."""
    tags = [tag for commit in recorded.commits for tag in commit.tags]
    experiments = [f"experiment {name}" for commit in recorded.commits for name in commit.experiments]
    versions = [f"champion {version}" for version in getattr(recorded, "versions", ())]
    own = ["the work tree"] if recorded.in_work_tree else []
    return list(dict.fromkeys([*own, *versions, *tags, *experiments]))


def _date(commit: "Commit") -> str:
    return f"{datetime.fromtimestamp(commit.date_s, UTC):%Y-%m-%d}"

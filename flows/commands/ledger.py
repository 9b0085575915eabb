"""`atelier ledger`: all models with what they painted, or what a picture is, whoever saved it last."""

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.settings.messages import counted
from flows.runtime import process, work_tree

if TYPE_CHECKING:
    from flows.records.history import Commit
    from flows.records.ledger import Ledger, Model, Picture

SHOWN_COMMITS = 3


def add(app: typer.Typer) -> None:
    """The command `ledger`."""
    app.command()(ledger)


def ledger(
    files: Annotated[
        list[Path] | None, typer.Argument(help="pictures to be named; all models where there is none")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="ask the remote once more for what it did not have")
    ] = False,
) -> None:
    """Which pictures were ever made, by which model, and which commits and tags name it; of FILE, what it is."""
    here = Path.cwd()

    def work() -> int:
        from atelier.pictures.untrusted import escaped
        from flows.records.ledger import opened

        work_tree.enter()
        with opened(lambda text: print(text, file=sys.stderr), again=again) as book:
            return (
                _tell_files(book, {escaped(file): here / file for file in files})
                if files
                else _tell_models(book)
            )

    sys.exit(process.run_for_exit_code(work, "what has been read is kept"))


def _tell_models(book: "Ledger") -> int:
    from rich.console import Console
    from rich.table import Table

    models = book.models()
    if not models:
        print(
            "no commit and no dvc.lock names a model yet: `dvc repro` makes one, and `git commit` lets it be found"
        )
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
            f"not whole in DVC's cache, nor in its remote: {counted(lacking, 'folder')} of pictures (+): "
            "`atelier ledger --again` asks once more"
        )
    return 0


def _tell_files(book: "Ledger", files: dict[str, Path]) -> int:
    """What each is; 1 where one is unknown or no picture."""
    from atelier.errors import AtelierError

    known = True
    for name, path in files.items():
        try:
            known = _tell_file(book, name, path) and known
        except AtelierError as error:
            print(error, file=sys.stderr)
            known = False
    return 0 if known else 1


def _tell_file(book: "Ledger", name: str, path: Path) -> bool:
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


def _lines(picture: "Picture") -> list[str]:
    from atelier.pictures.untrusted import escaped
    from atelier.provenance import facts

    made = picture.provenance
    names = [*_names(picture)]
    lines = [
        f"{escaped(picture.path)}: {facts.describe_picture(made)}",
        f"by the model {made.model.md5[:12]} ({escaped(made.model.arch)}, {made.model.resolution} px)"
        + (f", named by {', '.join(names)}" if names else ""),
    ]
    lines += [str(commit) for commit in picture.commits[:SHOWN_COMMITS]]
    if (more := len(picture.commits) - SHOWN_COMMITS) > 0:
        lines.append(f"and {counted(more, 'commit')} before")
    return lines


def _names(named: "Model | Picture") -> list[str]:
    """What a person calls those who name it: the work tree, versions, tags, experiments."""
    tags = [tag for commit in named.commits for tag in commit.tags]
    experiments = [f"experiment {name}" for commit in named.commits for name in commit.experiments]
    versions = [f"champion {version}" for version in getattr(named, "versions", ())]
    own = ["the work tree"] if named.in_work_tree else []
    return list(dict.fromkeys([*own, *versions, *tags, *experiments]))


def _date(commit: "Commit") -> str:
    return f"{datetime.fromtimestamp(commit.date_s, UTC):%Y-%m-%d}"

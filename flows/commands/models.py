"""Commands about models: import, compare, export, publish, the settings that train one, and a list of all.

The list, `atelier ledger`, has the models' pictures, and says which picture a file is.
"""

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from atelier.errors import AtelierError, counted, run_for_exit_code
from atelier.paths import EXPLORER, EXPORTED, GENERATOR, PARAMS
from flows.runtime import process, work_tree

if TYPE_CHECKING:
    from flows.records.ledger import Ledger, RecordedModel, RecordedPicture

app = typer.Typer()

SHOWN_COMMITS = 3


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="a generator: .t7 of art-DCGAN, .pth of pytorch/examples, .pkl of R3GAN, or a model of Atelier's"
        ),
    ],
    discriminator: Annotated[Path | None, typer.Option(help="file of its discriminator, to train against")] = None,
    name: Annotated[str | None, typer.Option(help="name of the model; by default that of the file")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="to import weights of R3GAN, whose licence is shown without it")
    ] = False,
) -> None:
    """Convert a DCGAN or an R3GAN, or copy a model of Atelier's, into models/, so that training can start from it."""
    here = work_tree.enter()
    command = [sys.executable, "-m", "atelier.importers", str(here / file)]
    command += ["--discriminator", str(here / discriminator)] if discriminator else []
    command += [f"--name={name}"] if name is not None else []
    command += ["--accept-licence"] if accept_licence else []
    sys.exit(process.foreground(command, work_tree.environment()))


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="name of a preset; without one, all presets are listed")] = None,
) -> None:
    """Write settings for a machine and a picture size into params.yaml; comments and other keys stay."""
    from atelier.settings import edit

    if name is None:
        table = Table("preset", "for", box=None)
        for known, described in edit.PRESETS.items():
            table.add_row(known, described["purpose"])
        Console().print(table, markup=False)
        return
    work_tree.enter()
    changes = edit.apply_preset(PARAMS, name)
    for change in changes:
        print(f"{change.key}: {edit.format_value(change.before)} -> {edit.format_value(change.after)}")
    unchanged = f"params.yaml has the settings of {name} already"
    print("`dvc repro` runs the stages that this changes" if changes else unchanged)


@app.command()
def compare(
    champion: Annotated[Path, typer.Argument(help="a generator.safetensors, for example of an earlier training")],
    challenger: Annotated[Path | None, typer.Argument(help="another one; else that of the current training")] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG to write: pictures of both from the same seeds")] = None,
) -> None:
    """Compare two models on held-out paintings: which is better, and whether by more than chance."""
    from atelier.settings.load import load_params
    from flows.night.report import compare_command

    here = work_tree.enter()
    second = here / challenger if challenger else GENERATOR
    picture = here / sheet if sheet else None
    command = compare_command(here / champion, second, load_params(PARAMS), sheet=picture)
    sys.exit(process.foreground(command, work_tree.environment()))


@app.command()
def export(
    generator: Annotated[Path | None, typer.Argument(help="a generator.safetensors; else that of the studio")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="a file for ONNX runtimes")] = False,
    html: Annotated[bool, typer.Option("--html", help="a page in which the model runs in a browser")] = False,
    to: Annotated[
        Path | None, typer.Option(help="file to write; else .atelier/export/generator.onnx or data/page/explore.html")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="pictures that ONNX renders at once; else any")] = None,
) -> None:
    """Convert a generator for other programs: an ONNX file, or one HTML file to explore it in."""
    here = work_tree.enter()
    if onnx == html or (batch and html):
        raise AtelierError("say either --onnx, perhaps with --batch, or --html")
    target = here / to if to else EXPORTED if onnx else EXPLORER
    command = [sys.executable, "-m", "atelier.export", "onnx" if onnx else "html"]
    command += [str(here / generator if generator else GENERATOR), str(target)]
    command += [f"--batch={batch}"] if batch else []
    sys.exit(process.foreground(command, work_tree.environment()))


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="a folder that does not exist yet")],
    license: Annotated[str, typer.Option(help="the model's licence, as the Hugging Face Hub names it")] = "other",
    i_have_the_rights: Annotated[
        bool,
        typer.Option(
            "--i-have-the-rights", help="to publish a model of works, or from imported weights, that may not be free"
        ),
    ] = False,
) -> None:
    """Make a folder for a static host or the Hugging Face Hub: model, model card, page and pictures. Sends nothing."""
    here = work_tree.enter()
    command = [sys.executable, "-m", "atelier.export", "publish", str(here / folder), f"--license={license}"]
    command += ["--has-rights"] if i_have_the_rights else []
    sys.exit(process.foreground(command, work_tree.environment()))


@app.command()
def ledger(
    files: Annotated[list[Path] | None, typer.Argument(help="pictures to look up; else models are listed")] = None,
    again: Annotated[bool, typer.Option("--again", help="ask the remote once more for what it lacked")] = False,
) -> None:
    """List every model with its pictures, and the commits and tags that name it; or tell which picture a FILE is."""

    def work() -> int:
        from flows.records.ledger import opened

        here = work_tree.enter()
        with opened(process.print_error, again=again) as book:
            if not files:
                _print_models(book)
                return 0
            known = [_print_file(book, file, here) for file in files]
            return 0 if all(known) else 1

    sys.exit(run_for_exit_code(work, "what has been read is kept"))


def _print_models(book: "Ledger") -> None:
    models = book.models()
    if not models:
        print("no commit and no dvc.lock names a model yet: `dvc repro` makes one, and `git commit` lets it be found")
        return
    commits, artworks, prints = (Column(name, justify="right") for name in ("commits", "artworks", "prints"))
    table = Table("model", "named by", commits, "newest", artworks, prints, box=None)
    for model in models:
        more = "+" if model.lacking else ""
        newest = "not committed"
        if model.commits:
            newest = f"{datetime.fromtimestamp(model.commits[0].date_s, UTC):%Y-%m-%d}"
        table.add_row(
            model.md5[:12], ", ".join(_names(model)), f"{len(model.commits):,}", newest,
            f"{model.artworks:,}{more}", f"{model.prints:,}{more}",
        )  # fmt: skip
    Console(soft_wrap=True).print(table, markup=False)
    if lacking := book.lacking():
        print(
            f"{counted(lacking, 'folder')} of pictures (+) not complete in DVC's cache or its remote: "
            "`atelier ledger --again` asks the remote once more"
        )


def _print_file(book: "Ledger", file: Path, here: Path) -> bool:
    """Print which pictures a file may be, each with its recipe, model and newest commits. Returns whether it is any."""
    from atelier.pictures.compare import pixels_sha256
    from atelier.provenance import facts
    from atelier.text import escaped, open_regular

    name, path = escaped(file), here / file
    try:
        with open_regular(path, "name a picture") as opened:
            pictures, how = book.of_file(hashlib.file_digest(opened, "md5").hexdigest()), "as it was made"
        if not pictures:
            pictures, how = book.of_pixels(pixels_sha256(path)), "its pixels, in a file that another program saved"
    except AtelierError as error:
        process.print_error(error)
        return False
    if not pictures:
        print(f"{name}: unknown; no commit, experiment or work tree here names a picture with its pixels")
        return False
    print(f"{name}: {how}")
    for picture in pictures:
        made, model, names = picture.provenance, picture.provenance.model, ", ".join(_names(picture))
        enlarged = f", as a print ×{made.print.upscale.scale}" if made.print else ""
        print(f"  {escaped(picture.path)}: {facts.describe_recipe(made.latent)}{enlarged}")
        named_by = f", named by {names}" if names else ""
        print(f"  by the model {model.md5[:12]} ({escaped(model.arch)}, {model.resolution} px){named_by}")
        for commit in picture.commits[:SHOWN_COMMITS]:
            print(f"  {commit}")
        if (more := len(picture.commits) - SHOWN_COMMITS) > 0:
            print(f"  and {counted(more, 'commit')} before")
    return True


def _names(recorded: "RecordedModel | RecordedPicture") -> list[str]:
    """Names for a model or picture: the work tree, champion versions, tags, experiments."""
    tags = [tag for commit in recorded.commits for tag in commit.tags]
    experiments = [f"experiment {name}" for commit in recorded.commits for name in commit.experiments]
    versions = [f"champion {version}" for version in getattr(recorded, "versions", ())]
    own = ["the work tree"] if recorded.in_work_tree else []
    return list(dict.fromkeys([*own, *versions, *tags, *experiments]))

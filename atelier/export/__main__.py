"""Export a generator, or publish a studio's model, as `atelier export` and `atelier publish` do.

`python -m atelier.export onnx GENERATOR TO`, `… html GENERATOR TO`, `… publish TO`. The folder that `publish` makes is
for a static host or the Hugging Face Hub: model, model card, page and pictures. Nothing is sent anywhere. Paintings of
the data set are shown only if all of them are in the public domain.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from atelier import __version__
from atelier.data.catalog import catalog_frame, read_catalog, read_downloads
from atelier.errors import AtelierError, counted, run_for_exit_code
from atelier.export.onnx_file import convert, export
from atelier.files import digest, replacing_directory, write_bytes
from atelier.networks import load_generator
from atelier.page.explorer import write_explorer
from atelier.page.index import facts_of_run, write_page
from atelier.page.parts import WEB
from atelier.paths import ARTWORKS, CATALOG, DOWNLOADS, GENERATOR, METRICS, MODEL, PRINTS
from atelier.pictures import size_in_words
from atelier.provenance.facts import read_provenance
from atelier.text import escape_csv_cell

LISTED = ["id", "title", "artist", "year_text", "genre", "style", "rights", "page_url"]  # columns of works.csv
FREE = "public-domain"
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")  # an identifier of the Hub, for example cc-by-4.0
REDIRECT = '<!doctype html><meta charset="utf-8"><title>Atelier</title><meta http-equiv="refresh" content="0; url={0}">'
MARKDOWN = str.maketrans({character: f"\\{character}" for character in r"\`*_[]<>|#"})


def main() -> int:
    """Parse the arguments, export, and print a sentence about the result. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m atelier.export", description=(__doc__ or "").splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("onnx", "html"):
        command = kinds.add_parser(kind)
        command.add_argument("generator", type=Path)
        command.add_argument("to", type=Path)
        if kind == "onnx":
            command.add_argument("--batch", type=int)
    command = kinds.add_parser("publish")
    command.add_argument("to", type=Path)
    command.add_argument("--license", default="other")
    command.add_argument("--has-rights", action="store_true")
    arguments = parser.parse_args()
    match arguments.kind:
        case "onnx":
            print(export(arguments.generator, arguments.to, arguments.batch))
        case "html":
            print(write_explorer(arguments.generator, arguments.to))
        case "publish":
            print(publish(arguments.to, arguments.license, arguments.has_rights))
    return 0


def publish(to: Path, license: str = "other", has_rights: bool = False) -> str:
    """Write the folder `to`, new or empty, from the outputs of the stages in the working directory.

    Returns a sentence about it. Raises AtelierError if the outputs are of different models, and, unless `has_rights`
    says that the user may publish the model, if works were downloaded that are not in the public domain, or if the
    model was trained from imported weights under a licence that had to be accepted.
    """
    if not LICENSE.fullmatch(license):
        raise AtelierError(f"--license holds {license!r}; it may hold a licence's identifier like cc0-1.0, or other")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise AtelierError(f"{to} exists and is not empty: name another folder, or remove it")
    arrived = {record.id for record in read_downloads(DOWNLOADS) if record.status == "ok"}
    works = [work for work in read_catalog(CATALOG) if work.id in arrived]
    others = sum(work.rights != FREE for work in works)
    if others and not has_rights:
        raise AtelierError(
            f"{counted(others, 'work')} of {len(works):,} that the model was trained on are not known to be in the "
            "public domain: train on scrape.wikiart.rights: public-domain, or say --i-have-the-rights if you have them"
        )
    licence = _licence_of_weights(json.loads((MODEL / "model.json").read_bytes()))
    if licence and not has_rights:
        raise AtelierError(
            f"the model was trained from imported weights, whose licence is: {licence}. If it allows you to publish "
            "what is derived from them, say --i-have-the-rights"
        )
    generator, header = load_generator(GENERATOR)
    _refuse_of_another_model(sha256 := digest(GENERATOR))
    facts = facts_of_run()
    height, width = generator.size_px
    table = catalog_frame(works)[LISTED].map(escape_csv_cell).to_csv(index=False, lineterminator="\n")
    environment = Environment(
        loader=FileSystemLoader(WEB), undefined=StrictUndefined, trim_blocks=True, autoescape=False,
        finalize=lambda value: value.translate(MARKDOWN) if isinstance(value, str) else value,
    )  # fmt: skip
    card = environment.get_template("card.md").render(
        **facts,
        arch=header["arch"],
        height=height,
        width=width,
        size=size_in_words(height, width),
        inputs=generator.inputs,
        labels=generator.labels.names if generator.labels else (),
        nz=generator.nz,
        license=license,
        paintings=not others,
        rights_claimed=bool(others),
        sha256=sha256,
        version=__version__,
        weights=sum(weight.numel() for weight in generator.parameters()),
    )
    with replacing_directory(to) as folder:
        for path in (*sorted(MODEL.glob("*.safetensors")), MODEL / "model.json"):
            shutil.copyfile(path, folder / path.name)
        for directory in (ARTWORKS, PRINTS):
            if directory.is_dir():
                shutil.copytree(directory, folder / directory.name, ignore=shutil.ignore_patterns(".gitignore"))
        write_bytes(folder / "generator.onnx", convert(GENERATOR))
        write_bytes(folder / "works.csv", table.encode())
        write_bytes(folder / "README.md", card.encode())
        write_bytes(folder / "index.html", REDIRECT.format("page/index.html").encode())
        (folder / "page").mkdir()
        write_explorer(GENERATOR, folder / "page" / "explore.html")
        write_page(folder / "page", paintings=not others, times=False)
    return f"{to}: model, card, page and {counted(len(works), 'listed work')}; look at {to}/index.html, then upload it"


def _refuse_of_another_model(sha256: str) -> None:
    """Raise AtelierError if metrics, artworks or prints are not those of the generator with this digest."""
    judged = json.loads(METRICS.read_bytes()).get("compared", {}) if METRICS.is_file() else {"generator_sha256": sha256}
    others = [] if judged.get("generator_sha256") == sha256 else [METRICS]
    for folder in (ARTWORKS, PRINTS):
        pictures = [*sorted(folder.glob("*.png")), *sorted(folder.glob("*.tif"))]
        others += [path for path in pictures if read_provenance(path).model.sha256 != sha256][:1]
    if others:
        named = ", ".join(path.as_posix() for path in others)
        raise AtelierError(f"made by another model than {MODEL}: {named}: run `dvc repro`, which makes it again")


def _licence_of_weights(facts: dict[str, Any]) -> str | None:
    """The licence that was accepted for the weights that a model, or one that it started from, was imported from."""
    if licence := facts.get("licence"):
        return str(licence["name"])
    parts = (value for value in facts.values() if isinstance(value, dict))
    return next(filter(None, map(_licence_of_weights, parts)), None)


if __name__ == "__main__":
    sys.exit(run_for_exit_code(main, ""))

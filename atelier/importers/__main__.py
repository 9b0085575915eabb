"""`python -m atelier.imports`: what `atelier import` runs, in a process of its own because it needs PyTorch."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from atelier.ending import with_words
from atelier.importers.models import import_model
from atelier.model_store import DISCRIMINATOR, GENERATOR
from atelier.networks import read_model


def main(arguments: Sequence[str] | None = None) -> None:
    """Import one model and say what it is and how to use it; 1 with a sentence for a mistake."""
    parser = argparse.ArgumentParser(prog="atelier.imports")
    parser.add_argument("file", type=Path)
    parser.add_argument("--discriminator", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--folder", type=Path, default=Path("models"))
    given = parser.parse_args(arguments)
    if status := with_words(lambda: _imported(given), ""):
        sys.exit(status)


def _imported(given: argparse.Namespace) -> int:
    path = import_model(given.file, given.discriminator, given.folder, given.name)
    header, _ = read_model(path / GENERATOR)
    settings = ", ".join(f"{key}: {value}" for key, value in sorted(header["settings"].items()))
    pair = "with its discriminator" if (path / DISCRIMINATOR).is_file() else "without a discriminator"
    print(f"{path}: {header['arch']} of {header['resolution']} px, {pair}")
    print("To train on from it (with kimg: 0, to paint with it as it is), set in params.yaml")
    print(f"  augment.resolution: {header['resolution']}")
    print(f"  train.init_from: {path}")
    print(f"  train.arch: {header['arch']}")
    print(f"  train.{header['arch']}: {{{settings}}}")
    return 0


if __name__ == "__main__":
    main()

"""Small things as a person spells them on a command line: a canvas, a grid, a picture of a seed."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import AtelierError

if TYPE_CHECKING:
    from atelier.canvas.recipe import Station


def rows_by_columns(words: str, option: str) -> tuple[int, int]:
    """`3x5` is 3 rows of 5. Raises AtelierError naming the option."""
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", words)
    if match is None:
        raise AtelierError(f"{option} {words!r} is no size: say rows x columns, 3x5")
    return int(match[1]), int(match[2])


def stations(words: str, here: Path, model: Path) -> "list[Station]":
    """`3,1:7,made/1-00007.png`: the first picture of seed 3, picture 7 of seed 1, and what that file says it is.

    Raises AtelierError for what is none of these, and for a file that `model` did not paint as it is.
    """
    return [_station(word.strip(), here, model) for word in words.split(",")]


def _station(word: str, here: Path, model: Path) -> "Station":
    from atelier.canvas.recipe import Station

    if word.lower().endswith(".png"):
        return _of_file(here / word, model)
    match = re.fullmatch(r"(\d{1,10})(?::(\d{1,10}))?", word)
    numbers = [int(number or 0) for number in match.groups()] if match else [2**31]
    if max(numbers) >= 2**31:
        raise AtelierError(
            f"{word!r} names no picture: say a seed, 3, or a picture of a seed, 3:7, with numbers below "
            f"{2**31:,}, or a PNG that Atelier made"
        )
    return Station(seed=numbers[0], index=numbers[1])


def _of_file(path: Path, model: Path) -> "Station":
    from atelier.canvas.recipe import Station
    from atelier.files import digest
    from atelier.provenance.facts import read

    made = read(path)
    latent = made.latent
    if latent.walk or latent.variation or latent.grown_varied or latent.moves:
        raise AtelierError(
            f"{path} is no picture as its seed gives it but a walk's frame, a variation or a moved one: name a seed "
            "and a number, 3:7"
        )
    if made.model.sha256 != digest(model):
        raise AtelierError(f"{path} was painted by another model than {model}: name that one with --model")
    return Station(seed=latent.seed, index=latent.index)

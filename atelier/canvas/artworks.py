"""Paint several pictures into a folder (`atelier paint` runs this module as a process), and pick the best of several.

The best are those with the highest score of the discriminator that the generator was trained against. Candidates come
in groups, so that a larger count keeps the pictures that a smaller one picked.
"""

import argparse
import heapq
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from atelier.canvas.murals import is_mural
from atelier.canvas.paint import load_painter, provenance_of, size_px, write_artworks
from atelier.canvas.recipe import Recipe
from atelier.device import pick_deterministic_device
from atelier.errors import AtelierError, counted, run_for_exit_code
from atelier.networks import load_discriminator
from atelier.networks.latent_field import in_double_precision
from atelier.pictures import Pixels
from atelier.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """Paint pictures and print where they are. Returns the exit code: 1 after a message for a user's mistake."""
    arguments = _parse(argv)
    return run_for_exit_code(lambda: _paint_all(arguments), "")


def _paint_all(arguments: argparse.Namespace) -> int:
    device, _ = pick_deterministic_device(arguments.device)
    generator, model = load_painter(arguments.generator, device)
    height, width = size_px(generator, arguments.recipe)
    if is_mural(height, width):
        raise AtelierError(
            f"a picture of {width:,} × {height:,} px is a mural, which stage generate paints: name a smaller --canvas, "
            f"or set generate.canvas and train.init_from in params.yaml and run `dvc repro generate`"
        )
    pictures = (
        provenance_of(model, arguments.recipe.model_copy(update={"index": index})) for index in range(arguments.count)
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    sheet = arguments.out / "contact_sheet.png"
    with Progress("paint", arguments.count, "pictures") as progress:
        write_artworks(generator, pictures, arguments.out, sheet, progress)
    pictures_made = f"{counted(arguments.count, 'picture')} of {width:,} × {height:,} px"
    print(f"{pictures_made} in {arguments.out}, together in {sheet}")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.canvas.artworks")
    parser.add_argument("generator", type=Path)
    parser.add_argument("recipe", type=Recipe.model_validate_json, help="of the first picture, as JSON")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Pick:
    """The best `keep` of every `of` candidates."""

    keep: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the form of params.yaml, for example "1 of 4"."""
        keep, of = text.split(" of ")
        return cls(int(keep), int(of))


def best_of(pick: Pick, count: int, score: Callable[[int], float]) -> Iterator[int]:
    """The indices of the `count` best candidates: the best of 0 to of − 1, then the best of the next `of`, and so on.

    Within a group the best comes first; of equal scores, the first.
    """
    groups = (range(start, start + pick.of) for start in itertools.count(0, pick.of))
    best = (heapq.nlargest(pick.keep, group, key=score) for group in groups)
    return itertools.islice(itertools.chain.from_iterable(best), count)


class Judge:
    """A discriminator that scores one picture at a time, in double precision: the same scores on every machine.

    Its batch norms use their running statistics, of real and generated pictures alike.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        """Load the discriminator. Raises AtelierError if the file is absent, damaged, or not one of Atelier's."""
        discriminator, header = load_discriminator(path)
        self.resolution = header["resolution"]
        self._discriminator = in_double_precision(discriminator, device)

    @torch.inference_mode()
    def score(self, picture: Pixels) -> float:
        """The logit of a picture (H, W, 3) of the discriminator's resolution; higher is more like a painting.

        Raises AtelierError for another size, and where the discriminator returns NaN.
        """
        if picture.shape != (self.resolution, self.resolution, 3):
            height, width, _ = picture.shape
            raise AtelierError(
                f"the discriminator judges pictures of {self.resolution} × {self.resolution} px, these have "
                f"{width} × {height}: set generate.pick to null"
            )
        weight = next(self._discriminator.parameters())
        image = torch.tensor(picture, device=weight.device, dtype=weight.dtype).permute(2, 0, 1)[None]
        logit = float(self._discriminator(image / 127.5 - 1))
        if not np.isfinite(logit):
            raise AtelierError(
                "the discriminator answers NaN: its training diverged; set generate.pick to null, or lower train.lr "
                "and `dvc repro train`"
            )
        return logit


if __name__ == "__main__":
    sys.exit(main())

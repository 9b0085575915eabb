"""Paint pictures into a folder: for stage generate, and for `atelier paint`, which runs this module as a process.

Of so many candidates the best, by the score of the discriminator that the generator was trained against.

Candidates are taken in groups, so that asking for more pictures later keeps those that were picked before.
"""

import argparse
import heapq
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from atelier.canvas.murals import is_mural
from atelier.canvas.paint import paint, size_px
from atelier.canvas.recipe import Recipe
from atelier.device import pick_deterministic_device, versions
from atelier.errors import AtelierError, run_for_exit_code
from atelier.networks import load_discriminator, load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.pictures import Pixels
from atelier.pictures.sheets import thumbnail, write_sheet
from atelier.progress import Progress
from atelier.provenance.facts import ModelFacts, Provenance, SoftwareFacts, write_png
from atelier.settings.messages import counted

SHEET_PICTURES = 64  # pictures on the contact sheet, at most

SHEET_PICTURE_PX = 256  # longer side there, at most


def write_artworks(
    generator: nn.Module, pictures: Iterable[Provenance], directory: Path, sheet: Path, progress: Progress
) -> None:
    """Paint each picture into `directory` as `<seed>-<index>.png`, and the first 64 onto one contact sheet."""
    shown: list[Pixels] = []
    for each in pictures:
        picture = paint(generator, each.latent)
        write_png(directory / f"{artwork_name(each)}.png", picture, each)
        if len(shown) < SHEET_PICTURES:
            shown.append(thumbnail(picture, SHEET_PICTURE_PX))
        progress.advance()
    write_sheet(sheet, np.stack(shown))
    progress.show_picture(sheet)


def artwork_name(made: Provenance) -> str:
    """A picture's file name without its ending."""
    return f"{made.latent.seed}-{made.latent.index:05d}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Paint and print where the pictures are; the exit code, 1 with a sentence for a user's mistake."""
    given = _given(arguments)
    return run_for_exit_code(lambda: _painted(given), "")


def _painted(given: argparse.Namespace) -> int:
    generator, header = load_generator(given.generator)
    device, _ = pick_deterministic_device(given.device)
    generator, model = in_double_precision(generator, device), ModelFacts.of(given.generator, header)
    height, width = size_px(generator, given.recipe)
    if is_mural(height, width):
        raise AtelierError(
            f"a picture of {width:,} × {height:,} px is a mural, which stage generate paints: name a smaller --canvas, "
            f"or set generate.canvas and train.init_from in params.yaml and run `dvc repro generate`"
        )
    pictures = (
        Provenance(
            model=model,
            latent=given.recipe.model_copy(update={"index": index}),
            software=SoftwareFacts(**versions()),
        )
        for index in range(given.count)
    )
    given.out.mkdir(parents=True, exist_ok=True)
    sheet = given.out / "contact_sheet.png"
    with Progress("paint", given.count, "pictures") as progress:
        write_artworks(generator, pictures, given.out, sheet, progress)
    print(
        f"{counted(given.count, 'picture')} of {width:,} × {height:,} px in {given.out}, together in {sheet}"
    )
    return 0


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.canvas.artworks")
    parser.add_argument("generator", type=Path)
    parser.add_argument("recipe", type=Recipe.model_validate_json, help="of the first picture, as JSON")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


@dataclass(frozen=True)
class Pick:
    """The best `keep` of every `of` candidates."""

    keep: int
    of: int

    @classmethod
    def read(cls, words: str) -> Self:
        """As params.yaml has it: "1 of 4"."""
        keep, of = words.split(" of ")
        return cls(int(keep), int(of))


def best_of(pick: Pick, count: int, score: Callable[[int], float]) -> Iterator[int]:
    """The indices of `count` candidates: of 0 … of − 1 the best, of the next `of` the best, and so on.

    They come group by group, the best of each first; of two that score alike the first.
    """
    groups = (range(start, start + pick.of) for start in itertools.count(0, pick.of))
    best = (heapq.nlargest(pick.keep, group, key=score) for group in groups)
    return itertools.islice(itertools.chain.from_iterable(best), count)


class Judge:
    """A discriminator that looks at one picture at a time, as `canvas.exact` has it: the same scores everywhere.

    Its batch norms use what training has shown them, of paintings and of generated pictures alike.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        """Raises AtelierError where the file is absent, damaged, or not one of ours."""
        discriminator, header = load_discriminator(path)
        self.resolution = header["resolution"]
        self._discriminator = in_double_precision(discriminator, device)

    @torch.inference_mode()
    def score(self, picture: Pixels) -> float:
        """How much it takes a picture (H, W, 3) of its resolution for a painting, as a logit."""
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

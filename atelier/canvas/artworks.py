"""Artworks: pictures with the provenance that they are painted from, written as PNGs, and the best of several.

The best are those with the highest score of the discriminator that the generator was trained against. Candidates come
in groups, so that a larger count keeps the pictures that a smaller one picked.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from atelier.canvas.latents import label_weights
from atelier.canvas.paint import paint
from atelier.canvas.recipe import Label, Recipe
from atelier.device import versions
from atelier.errors import AtelierError
from atelier.networks import load_discriminator, load_generator, size_of
from atelier.networks.labels import NONE, Labels
from atelier.networks.latent_field import FieldGenerator, in_double_precision, precision_of
from atelier.pictures import Pixels
from atelier.pictures.sheets import thumbnail, write_sheet
from atelier.progress import Progress
from atelier.provenance.facts import ModelFacts, PickFacts, Provenance, SoftwareFacts, write_png

SHEET_PICTURES = 64  # on a contact sheet, at most
SHEET_PICTURE_PX = 256  # longer side of one there, at most


def load_painter(path: Path, device: torch.device) -> tuple[FieldGenerator, ModelFacts]:
    """Load a generator, to paint with, and what a provenance stores of it. Raises as `load_generator`."""
    generator, header = load_generator(path)
    return in_double_precision(generator, device), ModelFacts.of(path, header)


def provenance_of(
    generator: FieldGenerator, model: ModelFacts, recipe: Recipe, pick: PickFacts | None = None
) -> Provenance:
    """The provenance of a picture that `generator` paints now; its pixels' digest is added when it is written."""
    software = SoftwareFacts(**versions(), precision=precision_of(generator))
    return Provenance(model=model, latent=recipe, software=software, pick=pick)


def labelled(generator: FieldGenerator, recipe: Recipe) -> Recipe:
    """The recipe with a label for every picture that has none: drawn as often as in the training set.

    It is the recipe itself if the generator has no labels. Raises AtelierError for a label that it does not have.
    """
    labels = generator.labels
    if labels is None:
        recipe = recipe.model_copy(update={"label": None}) if recipe.label == NONE else recipe
    elif recipe.walk:
        stations = tuple(
            station.model_copy(
                update={"label": station.label or recipe.label or labels.draw(station.seed, station.index)}
            )
            for station in recipe.walk.stations
        )
        walk = recipe.walk.model_copy(update={"stations": stations})
        recipe = recipe.model_copy(update={"walk": walk, "label": None})
    else:
        recipe = recipe.model_copy(update={"label": recipe.label or labels.draw(recipe.seed, recipe.index)})
    label_weights(generator, recipe)  # raises for a label that the generator does not have
    return recipe


def write_artworks(
    generator: FieldGenerator, pictures: Iterable[Provenance], directory: Path, sheet: Path, progress: Progress
) -> None:
    """Paint each picture into `directory` as `<seed>-<index>.png`, and the first 64 onto one contact sheet."""
    shown: list[Pixels] = []
    for provenance in pictures:
        picture = paint(generator, provenance.latent)
        write_png(directory / f"{artwork_name(provenance)}.png", picture, provenance)
        if len(shown) < SHEET_PICTURES:
            shown.append(thumbnail(picture, SHEET_PICTURE_PX))
        progress.advance()
    write_sheet(sheet, np.stack(shown))
    progress.show_picture(sheet)


def artwork_name(provenance: Provenance) -> str:
    """A picture's file name without its extension: seed and index, for example "7-00012"."""
    return f"{provenance.latent.seed}-{provenance.latent.index:05d}"


def best_of(keep: int, of: int, count: int, score: Callable[[int], float]) -> Iterator[int]:
    """The indices of the `count` best: the best `keep` of every `of`, in order of score, of equal ones the first."""
    groups = (range(start, start + of) for start in itertools.count(0, of))
    best = (heapq.nlargest(keep, group, key=score) for group in groups)
    return itertools.islice(itertools.chain.from_iterable(best), count)


class Judge:
    """A discriminator that scores one picture at a time, in double precision: the same scores on every machine.

    Its batch norms use their running statistics, of real and generated pictures alike. Raises AtelierError if the file
    is absent, damaged, or not one of Atelier's.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        discriminator, header = load_discriminator(path)
        self.height, self.width = size_of(header)
        self._labels = Labels.from_settings(header["settings"])
        self._discriminator = in_double_precision(discriminator, device)

    @torch.inference_mode()
    def score(self, picture: Pixels, label: Label | None = None) -> float:
        """The logit of a picture (H, W, 3) with a label, higher for paintings.

        Raises AtelierError for another size, a label that the discriminator does not have, and for NaN.
        """
        if picture.shape != (self.height, self.width, 3):
            height, width, _ = picture.shape
            raise AtelierError(
                f"the discriminator judges pictures of {self.width} × {self.height} px, these have "
                f"{width} × {height}: set generate.pick to null"
            )
        weight = next(self._discriminator.parameters())
        image = torch.tensor(picture, device=weight.device, dtype=weight.dtype).permute(2, 0, 1)[None]
        weights = [self._labels.weights(label)[None].to(image)] if self._labels else []
        logit = float(self._discriminator(image / 127.5 - 1, *weights).mean())  # one over features has several
        if not np.isfinite(logit):
            raise AtelierError(
                "the discriminator returns NaN: its training diverged; set generate.pick to null, or lower train.lr "
                "and `dvc repro train`"
            )
        return logit

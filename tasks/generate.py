"""Stage generate: paint artworks (data/artworks) and a contact sheet (data/contact_sheet.png).

Every picture carries the recipe that it was painted from.
"""

import shutil
from collections.abc import Iterable

import numpy as np
import torch

from atelier.canvas import artworks
from atelier.canvas.artworks import Judge
from atelier.canvas.murals import STATISTICS_FILE, check_disk_space, folder_name, is_mural, make_mural
from atelier.canvas.paint import Painting, paint, size_px
from atelier.canvas.recipe import Recipe
from atelier.device import deterministic_device
from atelier.errors import counted
from atelier.files import digest, link_or_copy, replacing_directory
from atelier.networks.latent_field import FieldGenerator, precision_of
from atelier.paths import ARTWORKS, CONTACT_SHEET, DISCRIMINATOR, GENERATOR
from atelier.pictures import Pixels
from atelier.pictures.sheets import thumbnail, write_sheet
from atelier.pictures.tiff import preview
from atelier.provenance.facts import PickFacts, Provenance
from atelier.settings.schema import Generate
from atelier.text import printable
from tasks.stage import Stage, main
from tasks.states import facts_of, key_of


def run(stage: Stage) -> str:
    """Paint with data/model, as the section `generate` of params.yaml says."""
    params = stage.params.generate
    device = deterministic_device(stage.name, params.device)
    generator, model = artworks.load_painter(GENERATOR, device)
    indices, pick = _indices(params, generator, device)
    recipes = (_recipe(params, generator, index) for index in indices)
    pictures = (artworks.provenance_of(generator, model, recipe, pick) for recipe in recipes)
    if precision_of(generator) == "float32":
        print("generate: in float32, since float64 is slow here; other devices paint about one value of a million else")
    height, width = size_px(generator, _recipe(params, generator, 0))
    if is_mural(height, width):
        return _write_murals(stage, generator, [*pictures], height, width)
    with stage.progress(params.count, "artworks") as progress, replacing_directory(ARTWORKS) as directory:
        artworks.write_artworks(generator, pictures, directory, CONTACT_SHEET, progress)
    label = f", label {printable(params.label)}" if params.label else ""
    return f"{counted(params.count, 'artwork')} of {width:,} × {height:,} px, seed {params.seed}{label}"


def _recipe(params: Generate, generator: FieldGenerator, index: int) -> Recipe:
    return artworks.labelled(generator, Recipe.of(params, params.seed, index))


def _indices(
    params: Generate, generator: FieldGenerator, device: torch.device
) -> tuple[Iterable[int], PickFacts | None]:
    """The indices of the pictures to write, in order, and what the provenance says of their choice."""
    if params.pick is None:
        return range(params.count), None
    judge = Judge(DISCRIMINATOR, device)
    keep, of = map(int, params.pick.split(" of "))

    def score(index: int) -> float:
        recipe = _recipe(params, generator, index)
        return judge.score(paint(generator, recipe), recipe.label)

    facts = PickFacts(keep=keep, of=of, discriminator_sha256=digest(DISCRIMINATOR))
    return artworks.best_of(keep, of, params.count, score), facts


def _write_murals(stage: Stage, generator: FieldGenerator, pictures: list[Provenance], height: int, width: int) -> str:
    """Paint pictures that are too large for PNGs as TIFFs, which stay in the stage's state until all are finished."""
    code = key_of(facts_of(stage, {"device": next(generator.parameters()).device.type}))
    folders = {stage.state / folder_name(picture, code): picture for picture in pictures}
    for stale in {*stage.state.iterdir()} - {*folders}:
        shutil.rmtree(stale)
    check_disk_space(stage.state, height, width, len(pictures))
    shown: list[Pixels] = []
    with stage.progress(round(len(pictures) * height * width / 1e6, 3), "Mpx") as progress:
        finished = {}
        for number, (folder, picture) in enumerate(folders.items(), 1):
            note = f"mural {number:,} of {len(pictures):,}"

            def on_statistics(share: float, note: str = note) -> None:
                progress.advance(0, f"{note}, statistics {share:.0%}")  # the bar does not move meanwhile

            painting = Painting(generator, picture.latent, on_statistics, folder / STATISTICS_FILE)
            tif = make_mural(painting, picture, folder, progress, note)
            finished[f"{artworks.artwork_name(picture)}.tif"] = tif
            if len(shown) < artworks.SHEET_PICTURES:
                shown.append(thumbnail(preview(tif, artworks.SHEET_PICTURE_PX), artworks.SHEET_PICTURE_PX))
        with replacing_directory(ARTWORKS) as directory:
            for name, tif in finished.items():
                link_or_copy(tif, directory / name)
            write_sheet(CONTACT_SHEET, np.stack(shown))
        progress.show_picture(CONTACT_SHEET)
    stage.refuse_changed()
    shutil.rmtree(stage.state)
    return f"{counted(len(pictures), 'mural')} of {width:,} × {height:,} px, seed {pictures[0].latent.seed}"


if __name__ == "__main__":
    main("generate", run)

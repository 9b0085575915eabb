"""Stage generate: new artworks, each carrying the recipe that made it; data/artworks, data/contact_sheet.png."""

import shutil
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from atelier.canvas.artworks import (
    SHEET_PICTURE_PX,
    SHEET_PICTURES,
    Judge,
    Pick,
    artwork_name,
    best_of,
    write_artworks,
)
from atelier.canvas.murals import STATISTICS_FILE, check_disk_space, folder_name, is_mural, make_mural
from atelier.canvas.paint import Painting, paint, size_px
from atelier.canvas.recipe import Recipe
from atelier.device import versions
from atelier.files import digest, link_or_copy, replacing_directory
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.pictures import Pixels
from atelier.pictures.sheets import thumbnail, write_sheet
from atelier.pictures.tiff import preview
from atelier.progress import Progress
from atelier.provenance.facts import ModelFacts, PickFacts, Provenance, SoftwareFacts
from atelier.settings.messages import counted
from atelier.settings.schema import Generate
from tasks.stage import DATA, Stage, main
from tasks.states import facts_of, key_of
from tasks.trainer import deterministic_device

ARTWORKS = DATA / "artworks"
GENERATOR = DATA / "model" / "generator.safetensors"
DISCRIMINATOR = DATA / "model" / "discriminator.safetensors"  # asked where pictures are picked


def run(stage: Stage) -> str:
    """params `generate`; data/model/{generator,discriminator}.safetensors → data/artworks, data/contact_sheet.png."""
    params = stage.params.generate
    device = deterministic_device(stage.name, params.device)
    generator, header = load_generator(GENERATOR)
    generator = in_double_precision(generator, device)
    indices = _indices(params, generator, device)  # says so where there is no discriminator to pick by
    model, pick = ModelFacts.of(GENERATOR, header), pick_facts(params)
    made = (provenance(params, index, model, pick) for index in indices)
    height, width = size_px(generator, recipe(params, 0))
    if is_mural(height, width):
        return murals(stage, generator, [*made], height, width)
    with (
        stage.progress(params.count, "artworks") as progress,
        replacing_directory(ARTWORKS) as directory,
    ):
        write_artworks(generator, made, directory, DATA / "contact_sheet.png", progress)
    return f"{counted(params.count, 'artwork')} of {width:,} × {height:,} px, seed {params.seed}"


def murals(stage: Stage, generator: nn.Module, made: list[Provenance], height: int, width: int) -> str:
    """The same of pictures too large for PNGs: TIFFs, each kept in the stage's state until all are made."""
    code = key_of(facts_of(stage, {"device": next(generator.parameters()).device.type}))
    folders = {stage.state / folder_name(each, code): each for each in made}
    for stale in {*stage.state.iterdir()} - {*folders}:
        shutil.rmtree(stale)
    check_disk_space(stage.state, height, width, len(made))
    shown: list[Pixels] = []
    with stage.progress(round(len(made) * height * width / 1e6, 3), "Mpx") as progress:
        finished = {}
        for number, (folder, each) in enumerate(folders.items(), 1):
            note = f"mural {number:,} of {len(made):,}"
            painting = Painting(generator, each.latent, _told(progress, note), folder / STATISTICS_FILE)
            tif = make_mural(painting, each, folder, progress, note)
            finished[f"{artwork_name(each)}.tif"] = tif
            if len(shown) < SHEET_PICTURES:
                shown.append(thumbnail(preview(tif, SHEET_PICTURE_PX), SHEET_PICTURE_PX))
        with replacing_directory(ARTWORKS) as directory:
            for to, tif in finished.items():
                link_or_copy(tif, directory / to)
            write_sheet(DATA / "contact_sheet.png", np.stack(shown))
        progress.show_picture(DATA / "contact_sheet.png")
    stage.refuse_changed()
    shutil.rmtree(stage.state)
    return f"{counted(len(made), 'mural')} of {width:,} × {height:,} px, seed {made[0].latent.seed}"


def provenance(params: Generate, index: int, model: ModelFacts, pick: PickFacts | None = None) -> Provenance:
    """What is known of picture `index` before it is painted."""
    return Provenance(
        model=model,
        latent=recipe(params, index),
        software=SoftwareFacts(**versions()),
        pick=pick,
    )


def recipe(params: Generate, index: int) -> Recipe:
    """What params.yaml makes of picture `index`."""
    rows, columns = params.canvas
    return Recipe(
        seed=params.seed,
        index=index,
        canvas=(rows, columns),
        truncation=params.truncation,
        layout=params.layout,
        normalise=params.normalise,
        seamless=params.seamless,
    )


def pick_facts(params: Generate) -> PickFacts | None:
    """How pictures were chosen, where they were."""
    if params.pick is None:
        return None
    pick = Pick.read(params.pick)
    return PickFacts(keep=pick.keep, of=pick.of, discriminator_sha256=digest(DISCRIMINATOR))


def _told(progress: Progress, note: str) -> Callable[[float], None]:
    """How far a canvas's own statistics are, beside the bar, which stands still for them."""
    return lambda share: progress.advance(0, f"{note}, statistics {share:.0%}")


def _indices(params: Generate, generator: nn.Module, device: torch.device) -> Iterable[int]:
    """Which pictures of the seed are made: all from 0 on, or of each group the best."""
    if params.pick is None:
        return range(params.count)
    judge = Judge(DISCRIMINATOR, device)

    def score(index: int) -> float:
        return judge.score(paint(generator, recipe(params, index)))

    return best_of(Pick.read(params.pick), params.count, score)


if __name__ == "__main__":
    main("generate", run)

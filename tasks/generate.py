"""Stage generate: new artworks, each carrying the recipe that made it; data/artworks, data/contact_sheet.png."""

from typing import Any

import numpy as np
import torch

from atelier import __version__
from atelier.canvas import exact
from atelier.files import digest, replacing_directory
from atelier.networks import load_generator
from atelier.painting import paint
from atelier.params import Generate
from atelier.provenance import ModelFacts, Provenance, SoftwareFacts, write_png
from atelier.recipe import Recipe
from atelier.sheets import thumbnail, write_sheet
from tasks.stage import DATA, Stage, main
from tasks.trainer import deterministic_device

GENERATOR = DATA / "model" / "generator.safetensors"
SHOWN = 64  # artworks on the contact sheet
SHOWN_PX = 256  # longer side there, at most


def run(stage: Stage) -> str:
    """params `generate`; data/model/generator.safetensors → data/artworks, data/contact_sheet.png."""
    params = stage.params.generate
    device = deterministic_device(stage.name, params.device)
    generator, header = load_generator(GENERATOR)
    generator = exact(generator, device)
    facts = model_facts(header)
    shown = []
    with (
        stage.progress(params.count, "artworks") as progress,
        replacing_directory(DATA / "artworks") as directory,
    ):
        for index in range(params.count):
            made = provenance(params, index, facts)
            picture = paint(generator, made.latent)
            write_png(directory / f"{params.seed}-{index:05d}.png", picture, made)
            if index < SHOWN:
                shown.append(thumbnail(picture, SHOWN_PX))
            progress.advance()
        write_sheet(DATA / "contact_sheet.png", np.stack(shown))
        progress.shows(DATA / "contact_sheet.png")
    height, width, _ = picture.shape
    return f"{params.count:,} artworks of {width:,} × {height:,} px, seed {params.seed}"


def provenance(params: Generate, index: int, model: ModelFacts) -> Provenance:
    """What is known of picture `index` before it is painted."""
    rows, columns = params.canvas
    return Provenance(
        model=model,
        latent=Recipe(
            seed=params.seed,
            index=index,
            canvas=(rows, columns),
            truncation=params.truncation,
            layout=params.layout,
            normalise=params.normalise,
            seamless=params.seamless,
        ),
        software=SoftwareFacts(atelier=__version__, torch=torch.__version__),
    )


def model_facts(header: dict[str, Any]) -> ModelFacts:
    """The generator's file and how it is built."""
    return ModelFacts(
        md5=digest(GENERATOR, "md5"),
        sha256=digest(GENERATOR, "sha256"),
        arch=header["arch"],
        resolution=header["resolution"],
        settings=header["settings"],
    )


if __name__ == "__main__":
    main("generate", run)

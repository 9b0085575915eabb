"""Stage upscale: a print of each artwork, with its provenance, in data/prints."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from atelier.device import deterministic_device
from atelier.errors import AtelierError, counted
from atelier.files import link_or_copy, replacing_directory
from atelier.images.verify import read_rgb
from atelier.paths import ARTWORKS, PRINTS, UPSCALER
from atelier.provenance.facts import PixelFacts, canonical_json, provenance_of_print, read_provenance, write_png
from atelier.settings.schema import Upscale
from atelier.upscaling.prints import new_printer, print_dpi, resolution_warning
from tasks import states
from tasks.stage import Stage, main


def run(stage: Stage) -> str:
    """Enlarge data/artworks with data/upscaler or another upscaler; write data/prints.

    Finished prints are kept in the stage's state until all are made, so that a stopped stage goes on from there.
    """
    params = stage.params.upscale
    artworks = {path: read_provenance(path) for path in sorted(ARTWORKS.glob("*.png"))}
    murals = len([*ARTWORKS.glob("*.tif")])
    if not artworks and not murals:
        raise AtelierError(f"{ARTWORKS} holds no pictures: `dvc repro generate` makes them")
    networks = {"learned": UPSCALER, "external": Path(params.external.path or ""), "lanczos": None}
    device = "cpu" if params.method == "lanczos" else deterministic_device(stage.name, params.device)
    network = networks[params.method]
    printer = new_printer(params.method, params.scale, params.bits, network, params.external.sha256, device)
    sizes_px = {}
    for path, provenance in artworks.items():
        assert provenance.pixels  # read_provenance raises without them
        sizes_px[path] = (provenance.pixels.width * params.scale, provenance.pixels.height * params.scale)
    sizes = Counter(sizes_px.values())
    for (width, height), count in sizes.items():
        if warning := resolution_warning(width, height, count, params):
            print(f"{stage.name}: {warning}")
    settings = {
        "upscaler": printer.facts.model_dump(),
        "upscale": params.model_dump(),
        "artworks": [canonical_json(artwork) for artwork in artworks.values()],
    }
    made = stage.state_of(states.key_of(states.facts_of(stage, settings)))
    made.mkdir(exist_ok=True)
    megapixels = {path: width * height / 1e6 for path, (width, height) in sizes_px.items()}
    with stage.progress(sum(megapixels.values()), "Mpx") as progress:
        for number, (path, provenance) in enumerate(artworks.items(), 1):
            note = f"print {number:,} of {len(artworks):,}"
            if (made / path.name).is_file():
                progress.count_resumed(megapixels[path], note)
                continue

            def report(pixels: float, note: str = note) -> None:
                progress.advance(pixels / 1e6, note)

            picture = np.asarray(read_rgb(path.read_bytes()))
            if PixelFacts.of(picture) != provenance.pixels:
                raise AtelierError(f"{path} was altered after it was made: `dvc repro generate` makes it again")
            samples, facts = printer.print(picture, provenance.latent.seamless, report)
            dpi = print_dpi(samples.shape[1], params.print)
            write_png(made / path.name, samples, provenance_of_print(provenance, facts), dpi)
    with replacing_directory(PRINTS) as directory:
        for path in artworks:
            link_or_copy(made / path.name, directory / path.name)
    stage.refuse_changed()
    shutil.rmtree(stage.state)
    return summary(params, sizes, murals)


def summary(params: Upscale, sizes: Counter[tuple[int, int]], murals: int) -> str:
    """Count the prints, and the murals that are not enlarged."""
    size = " and ".join(f"{width:,} × {height:,} px" for width, height in sorted(sizes))
    bits = ", 16 bits a colour" if params.bits == 16 else ""
    parts = [f"{counted(sizes.total(), 'print')} of {size}, {params.method}, ×{params.scale}{bits}"] if sizes else []
    if murals:
        are = "is" if murals == 1 else "are"
        parts.append(f"{counted(murals, 'mural')} {are} passed over, at print size already")
    return "; ".join(parts)


if __name__ == "__main__":
    main("upscale", run)

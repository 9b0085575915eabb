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
from atelier.pictures import Pixels
from atelier.provenance.facts import (
    PixelFacts,
    Provenance,
    canonical_json,
    provenance_of_print,
    read_provenance,
    write_png,
)
from atelier.settings.schema import Upscale
from atelier.upscaling.prints import Printer, new_printer, print_dpi, resolution_warning
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
    printer = open_printer(stage, params)
    sizes_px = {path: print_size_px(provenance, params) for path, provenance in artworks.items()}
    sizes = Counter(sizes_px.values())
    for (width, height), count in sizes.items():
        if warning := resolution_warning(width, height, count, params):
            print(f"{stage.name}: {warning}")
    made = stage.state_of(state_key(stage, printer, [*artworks.values()]))
    made.mkdir(exist_ok=True)
    megapixels = {size: size[0] * size[1] / 1e6 for size in sizes}
    total = sum(megapixels[size] * count for size, count in sizes.items())
    with stage.progress(total, "Mpx") as progress:
        for number, (path, provenance) in enumerate(artworks.items(), 1):
            note = f"print {number:,} of {len(artworks):,}"
            if (made / path.name).is_file():
                progress.count_resumed(megapixels[sizes_px[path]], note)
                continue

            def report(pixels: float, note: str = note) -> None:
                progress.advance(pixels / 1e6, note)

            picture = read_artwork(path, provenance)
            samples, facts = printer.print(picture, provenance.latent.seamless, report)
            dpi = print_dpi(samples.shape[1], params.print)
            write_png(made / path.name, samples, provenance_of_print(provenance, facts), dpi)
    with replacing_directory(PRINTS) as directory:
        for path in artworks:
            link_or_copy(made / path.name, directory / path.name)
    stage.refuse_changed()
    shutil.rmtree(stage.state)
    return summary(params, sizes, murals)


def open_printer(stage: Stage, params: Upscale) -> Printer:
    """Open the upscaler that params.yaml names."""
    if params.method == "lanczos":
        return new_printer("lanczos", params.scale, params.bits)
    device = deterministic_device(stage.name, params.device)
    external = params.external
    if params.method == "learned" or external.path is None:
        return new_printer("learned", params.scale, params.bits, UPSCALER, device=device)
    return new_printer("external", params.scale, params.bits, Path(external.path), external.sha256, device)


def state_key(stage: Stage, printer: Printer, artworks: list[Provenance]) -> str:
    """A key of all that decides the prints: settings, upscaler, artworks and code."""
    settings = {
        "upscaler": printer.facts.model_dump(),
        "upscale": stage.params.upscale.model_dump(),
        "artworks": [canonical_json(artwork) for artwork in artworks],
    }
    return states.key_of(states.facts_of(stage, settings))


def print_size_px(artwork: Provenance, params: Upscale) -> tuple[int, int]:
    """Width and height of an artwork's print."""
    pixels = artwork.pixels
    if pixels is None:
        raise ValueError("the provenance of an artwork names its pixels")
    return pixels.width * params.scale, pixels.height * params.scale


def read_artwork(path: Path, provenance: Provenance) -> Pixels:
    """An artwork's pixels. Raises AtelierError if they are not those that its provenance names."""
    picture = np.asarray(read_rgb(path.read_bytes()))
    if PixelFacts.of(picture) != provenance.pixels:
        raise AtelierError(f"{path} was altered after it was made: `dvc repro generate` makes it again")
    return picture


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

"""Stage upscale: the artworks at print size, each carrying what made it and how it was enlarged; data/prints."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import torch

from atelier import __version__
from atelier.devices import pick_device
from atelier.errors import AtelierError
from atelier.files import digest, replacing_directory
from atelier.images import read_rgb
from atelier.params import Upscale
from atelier.provenance import (
    PixelFacts,
    Pixels,
    Provenance,
    SoftwareFacts,
    UpscaleFacts,
    printed,
    read,
    write_png,
)
from atelier.upscaling.network import load_upscaler
from atelier.upscaling.tiles import enlarge, enlarge_lanczos, passes
from tasks.stage import DATA, Stage, main

UPSCALER = DATA / "upscaler" / "upscaler.safetensors"
Enlarge = Callable[[Pixels], Pixels]


def run(stage: Stage) -> str:
    """params `upscale`; data/artworks and data/upscaler → data/prints, a print for each artwork."""
    params = stage.params.upscale
    paths = sorted((DATA / "artworks").glob("*.png"))
    if not paths:
        raise AtelierError(f"{DATA / 'artworks'} holds no pictures: `dvc repro generate` makes them")
    enlarged, facts = lanczos(params) if params.method == "lanczos" else learned(stage.name, params)
    size = ""
    with (
        stage.progress(len(paths), "prints") as progress,
        replacing_directory(DATA / "prints") as directory,
    ):
        for path in paths:
            artwork, provenance = read_artwork(path)
            picture = enlarged(artwork)
            write_png(directory / path.name, picture, printed(provenance, facts))
            size = f"{picture.shape[1]:,} × {picture.shape[0]:,} px"
            progress.advance(note=size)
    return f"{len(paths):,} prints of {size}, {params.method}, ×{params.scale}"


def learned(name: str, params: Upscale) -> tuple[Enlarge, UpscaleFacts]:
    """Enlarging with the trained network, and what a print says of it."""
    device, why = pick_device(params.device)
    print(f"{name}: on {why}")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False
    network, _ = load_upscaler(UPSCALER, device)
    facts = UpscaleFacts(
        method="learned",
        scale=params.scale,
        upscaler_sha256=digest(UPSCALER),
        settings={
            "scale": network.scale,
            "features": network.features,
            "blocks": network.blocks,
            "passes": passes(network.scale, params.scale),
        },
        software=SoftwareFacts(atelier=__version__, torch=torch.__version__),
    )
    return lambda picture: enlarge(network, picture, params.scale), facts


def lanczos(params: Upscale) -> tuple[Enlarge, UpscaleFacts]:
    """Enlarging without a network."""
    facts = UpscaleFacts(
        method="lanczos",
        scale=params.scale,
        upscaler_sha256=None,
        settings={"pillow": PIL.__version__},
        software=SoftwareFacts(atelier=__version__, torch=torch.__version__),
    )
    return lambda picture: enlarge_lanczos(picture, params.scale), facts


def read_artwork(path: Path) -> tuple[Pixels, Provenance]:
    """Pixels and provenance of an artwork. Raises AtelierError where they do not belong together."""
    provenance = read(path)
    picture = np.asarray(read_rgb(path.read_bytes()))
    if PixelFacts.of(picture) != provenance.pixels:
        raise AtelierError(f"{path} was altered after it was made: `dvc repro generate` makes it again")
    return picture, provenance


if __name__ == "__main__":
    main("upscale", run)

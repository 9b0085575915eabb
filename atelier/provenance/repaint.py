"""`python -m atelier.provenance.repaint JOBS.json`: paint pictures again from their provenance, with this code.

Speaks atelier.provenance.contract, in which later versions will ask it. Compares nothing, finds no file, knows no DVC.
"""

import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError
from torch import nn

from atelier import __version__
from atelier.canvas.murals import PX_PER_MPX, STATISTICS_FILE, folder_name, is_mural, paint_in_folder
from atelier.canvas.paint import Painting, paint, size_px
from atelier.device import pick_deterministic_device, versions
from atelier.errors import AtelierError, ignore_output_errors
from atelier.files import link_or_copy
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.pictures.vips import BAND_BYTES
from atelier.progress import Progress
from atelier.provenance.contract import LOCK, Answer, Job, Jobs
from atelier.provenance.facts import PixelFacts, Provenance, SoftwareFacts
from atelier.upscaling.prints import print_again


def main(path: Path) -> int:
    """Answer every job with a line; 0 also where some were refused, 1 where the file is no such file."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ignore_output_errors(line_buffering=True)
    try:
        asked = Jobs.model_validate_json(path.read_bytes())
        device, _ = pick_deterministic_device(asked.device)
    except (ValidationError, OSError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    except AtelierError as error:
        print(error, file=sys.stderr)
        return 1
    for answer in answers(asked, device):
        print(answer.model_dump_json())
    return 0


def answers(asked: Jobs, device: torch.device) -> Iterator[Answer]:
    """One answer a job, in order; a generator's file is read once where jobs that share it follow each other."""
    loaded: tuple[Path, _Generator] | None = None
    for job in asked.jobs:
        try:
            if loaded is None or loaded[0] != job.generator:
                loaded = job.generator, _Generator(job.generator, device)
            yield _paint(job, loaded[1], device)
        except AtelierError as error:
            yield Answer(name=job.name, software=SoftwareFacts(**versions()), refused=str(error))


class _Generator:
    """A generator as it paints, and what its file says that it is."""

    def __init__(self, path: Path, device: torch.device) -> None:
        network, header = load_generator(path)
        self.network: nn.Module = in_double_precision(network, device)
        self.built = (header["arch"], header["resolution"], header["settings"])


def _paint(job: Job, generator: _Generator, device: torch.device) -> Answer:
    try:
        made = Provenance.model_validate_json(json.dumps(job.provenance))
    except ValidationError as error:
        raise AtelierError(
            f"this version, {__version__}, does not know such a provenance: {error.errors()[0]['msg']}"
        ) from None
    model = made.model
    if (model.arch, model.resolution, model.settings) != generator.built:
        raise AtelierError(
            f"its provenance calls the model {model.arch} of {model.resolution} px with {model.settings}, and the "
            "model's file says otherwise: the provenance was edited"
        )

    def answer(pixels: PixelFacts, original: PixelFacts | None = None) -> Answer:
        return Answer(name=job.name, pixels=pixels, original=original, software=SoftwareFacts(**versions()))

    height, width = size_px(generator.network, made.latent)
    named = made.print.original if made.print else made.pixels
    if named and (named.height, named.width) != (height, width):  # before hours are spent on a mere claim
        raise AtelierError(
            f"its provenance names a picture of {named.width:,} × {named.height:,} px and a recipe that paints "
            f"{width:,} × {height:,} px: it was edited"
        )
    if is_mural(height, width) and made.print is None:
        return answer(_paint_mural(generator.network, made, job))
    picture = paint(generator.network, made.latent)
    if made.print is None:
        np.save(job.to, picture)
        return answer(PixelFacts.of(picture))
    enlarged = print_again(made.print.upscale, job.upscaler, picture, device)
    np.save(job.to, enlarged)
    return answer(PixelFacts.of(enlarged), PixelFacts.of(picture))


def _paint_mural(network: nn.Module, made: Provenance, job: Job) -> PixelFacts:
    """In bounded memory; lines say how far it is. A stopped run's is gone on with, unless another is at it now."""
    folder = (job.kept or job.to.parent) / folder_name(made, _code(next(network.parameters()).device.type))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            _paint_in(network, made, folder, job.to)
    except Timeout:
        _paint_in(network, made, job.to.with_suffix(".begun"), job.to)
    pixels = np.load(job.to, mmap_mode="r")
    rows = max(1, BAND_BYTES // pixels[0].nbytes)
    return PixelFacts.of_bands(pixels[top : top + rows] for top in range(0, len(pixels), rows))


def _code(device: str) -> str:
    """Changes with this device, the code that is loaded, and torch: a mural is finished by what began it."""
    code = hashlib.sha256(f"{device} {torch.__version__}".encode())
    for name in sorted(name for name in sys.modules if name.split(".")[0] == "atelier"):
        file = sys.modules[name].__file__
        code.update(Path(file).read_bytes() if file else b"")
    return code.hexdigest()[:16]


def _paint_in(network: nn.Module, made: Provenance, folder: Path, to: Path) -> None:
    height, width = size_px(network, made.latent)
    with Progress("painting", round(height * width / PX_PER_MPX, 3), "Mpx") as progress:
        source = Painting(
            network,
            made.latent,
            lambda share: progress.advance(0, f"statistics {share:.0%}"),
            folder / STATISTICS_FILE,
        )
        link_or_copy(paint_in_folder(source, folder, progress, "tiles"), to)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

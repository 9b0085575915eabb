"""Paint pictures again from their provenance, with this version's code.

Run it as `python -m atelier.provenance.repaint JOBS.json`. `Jobs` and `Answer` are its input and output, so that later
versions can run this one from git. Finding the networks' files and comparing the pixels is up to the caller.
"""

import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError

from atelier import __version__
from atelier.canvas.murals import PX_PER_MPX, STATISTICS_FILE, folder_name, is_mural, paint_in_folder
from atelier.canvas.paint import Painting, paint, size_px
from atelier.device import pick_deterministic_device, versions
from atelier.errors import AtelierError, ignore_output_errors
from atelier.files import link_or_copy
from atelier.networks import load_generator
from atelier.networks.latent_field import FieldGenerator, in_double_precision, precision_of
from atelier.progress import Progress
from atelier.provenance.facts import MURAL_LOCK, Answer, Job, Jobs, PixelFacts, Provenance, SoftwareFacts
from atelier.settings.base import PaintingPrecision
from atelier.upscaling.prints import print_again


def main(path: Path) -> int:
    """Print one answer per job. Returns 0 even if some were refused, and 1 if the file is not a valid JOBS.json."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ignore_output_errors(line_buffering=True)
    try:
        jobs = Jobs.model_validate_json(path.read_bytes())
        device, _ = pick_deterministic_device(jobs.device)
    except (ValidationError, OSError, AtelierError) as error:
        print(error if isinstance(error, AtelierError) else f"{path}: {error}", file=sys.stderr)
        return 1
    for answer in answers(jobs, device):
        print(answer.model_dump_json())
    return 0


def answers(jobs: Jobs, device: torch.device) -> Iterator[Answer]:
    """Do the jobs in order, each in the precision that its provenance names.

    A generator's file is read once for consecutive jobs that share it.
    """
    software = SoftwareFacts(**versions())
    loaded: tuple[Path, PaintingPrecision] | None = None
    for job in jobs.jobs:
        try:
            wanted = job.generator, _recorded_precision(job.provenance)
            if loaded != wanted:
                network, header = load_generator(job.generator)
                network, loaded = in_double_precision(network, device, wanted[1]), wanted
                software = SoftwareFacts(**versions(), precision=precision_of(network))
            pixels, original = _paint(job, network, header, device)
            yield Answer(name=job.name, pixels=pixels, original=original, software=software)
        except AtelierError as error:
            yield Answer(name=job.name, software=software, refused=str(error))


def _recorded_precision(provenance: dict[str, Any]) -> PaintingPrecision:
    """The precision in a provenance that is not validated yet."""
    software = provenance.get("software")
    return "float32" if isinstance(software, dict) and software.get("precision") == "float32" else "float64"


def _paint(
    job: Job, network: FieldGenerator, header: Mapping[str, Any], device: torch.device
) -> tuple[PixelFacts, PixelFacts | None]:
    """Paint the job's picture, or its print: return the facts of its pixels, and those of a print's original."""
    provenance = _validated(job.provenance, network, header)
    recipe, print_facts = provenance.latent, provenance.print
    if is_mural(*size_px(network, recipe)) and print_facts is None:
        return _paint_mural(network, provenance, job), None
    picture = paint(network, recipe)
    if print_facts is None:
        np.save(job.to, picture)
        return PixelFacts.of(picture), None
    enlarged = print_again(print_facts.upscale, job.upscaler, picture, device)
    np.save(job.to, enlarged)
    return PixelFacts.of(enlarged), PixelFacts.of(picture)


def _validated(content: dict[str, Any], network: FieldGenerator, header: Mapping[str, Any]) -> Provenance:
    """The provenance of a job. Raises AtelierError if it is not valid, or contradicts the generator or itself."""
    try:
        provenance = Provenance.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise AtelierError(
            f"this version, {__version__}, cannot read such a provenance: {error.errors()[0]['msg']}"
        ) from None
    model = provenance.model
    if (model.arch, model.resolution, model.settings) != (header["arch"], header["resolution"], header["settings"]):
        raise AtelierError(
            f"its provenance calls the model {model.arch} of {model.resolution} px with {model.settings}, and the "
            "model's file says otherwise: the provenance was edited"
        )
    height, width = size_px(network, provenance.latent)
    named = provenance.print.original if provenance.print else provenance.pixels
    if named and (named.height, named.width) != (height, width):
        raise AtelierError(
            f"its provenance names a picture of {named.width:,} × {named.height:,} px and a recipe that paints "
            f"{width:,} × {height:,} px: it was edited"
        )
    return provenance


def _paint_mural(network: FieldGenerator, provenance: Provenance, job: Job) -> PixelFacts:
    """Paint a mural in bounded memory, from where a stopped run left it, unless another process paints there now."""
    folder = (job.kept or job.to.parent) / folder_name(provenance, _code(next(network.parameters()).device.type))
    folder.mkdir(parents=True, exist_ok=True)
    height, width = size_px(network, provenance.latent)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder / MURAL_LOCK, timeout=0))
        except Timeout:
            folder = job.to.with_suffix(".begun")
        progress = stack.enter_context(Progress("painting", round(height * width / PX_PER_MPX, 3), "Mpx"))

        def on_statistics(share: float) -> None:
            progress.advance(0, f"statistics {share:.0%}")

        source = Painting(network, provenance.latent, on_statistics, folder / STATISTICS_FILE)
        link_or_copy(paint_in_folder(source, folder, progress, "tiles"), job.to)
    return PixelFacts.of(np.load(job.to, mmap_mode="r"))


def _code(device: str) -> str:
    """A hash of the device, the code that is loaded and torch's version: a mural is finished by what began it."""
    code = hashlib.sha256(f"{device} {torch.__version__}".encode())
    for name in sorted(name for name in sys.modules if name.split(".")[0] == "atelier"):
        file = sys.modules[name].__file__
        code.update(Path(file).read_bytes() if file else b"")
    return code.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

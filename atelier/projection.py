"""Projection: the latent whose picture is nearest to a photograph or painting, by features and by pixels.

As StyleGAN2's projector (Karras et al., arXiv 1912.04958 §5), with the features of EfficientNet-Lite0 in place of
VGG's: the best of many drawn latents are improved by gradients. `atelier project` runs this module as a process:
`python -m atelier.projection`.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from atelier.canvas.artworks import load_painter, provenance_of
from atelier.canvas.paint import paint
from atelier.canvas.recipe import Recipe
from atelier.device import pick_deterministic_device
from atelier.errors import AtelierError, run_for_exit_code
from atelier.images.verify import ImageLimits, Refused, to_rgb, verify
from atelier.metrics.features import input_size
from atelier.networks import load_generator
from atelier.networks.efficientnet import LITE0, EfficientNetLite
from atelier.networks.labels import NONE
from atelier.networks.latent_field import FieldGenerator, draw_grain, draw_latents, with_length
from atelier.pictures import Pixels
from atelier.pictures.sheets import Panel, fitted, write_panels
from atelier.progress import Progress, ignore_progress
from atelier.provenance.facts import write_png
from atelier.text import open_regular

CANDIDATES, STARTS = 512, 4  # drawn latents, and how many of them are improved
CANDIDATES_AT_ONCE = 32
RATE = 0.05  # of Adam, for latents of length √nz
PIXELS_WEIGHT = 1.0  # of the pixels' distance, beside the features'
PHOTO_LIMITS = ImageLimits(min_side_px=16, max_pixels=100_000_000)
PHOTO_BYTES = 100_000_000
SHOWN_PX = 256


@dataclass(frozen=True)
class Projection:
    """The latent (nz,) that was found, its distance, and that of the nearest of the drawn latents."""

    latent: tuple[float, ...]
    distance: float
    drawn_distance: float


class Distance:
    """How far images (n, 3, H, W) in [−1, 1] are from one target of the same size: (n,), differentiable.

    The sum of squared differences of unit-length feature vectors (as LPIPS, arXiv 1801.03924, without its trained
    weights), averaged over places, at three strides, and the mean absolute difference of pixels, at full size and at a
    quarter.
    """

    def __init__(self, target: Tensor) -> None:
        self._network = EfficientNetLite(LITE0).to(target.device)
        self._target = target
        with torch.no_grad():
            self._features = self._maps(target)

    def __call__(self, images: Tensor) -> Tensor:
        total = torch.zeros(len(images), device=images.device)
        for ours, theirs in zip(self._maps(images), self._features, strict=True):
            total = total + (ours - theirs).square().sum(1).mean((1, 2))
        difference = images - self._target
        coarse = functional.avg_pool2d(difference, 4)
        return total + PIXELS_WEIGHT * (difference.abs().mean((1, 2, 3)) + coarse.abs().mean((1, 2, 3)))

    def _maps(self, images: Tensor) -> list[Tensor]:
        size = input_size(*images.shape[2:])
        enlarged = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        found = self._network(enlarged.contiguous(memory_format=torch.channels_last))[1:]  # as its weights are
        return [functional.normalize(each, dim=1) for each in found]


def project(
    generator: FieldGenerator, target: Pixels, recipe: Recipe, steps: int, advance: Callable[[], None] = ignore_progress
) -> Projection:
    """Find the latent whose picture, with the grain of the recipe's picture, is nearest to `target`.

    `target` is uint8 (H, W, 3), as large as a picture. CANDIDATES latents of the recipe's seed are drawn, and the
    nearest STARTS of them are improved in `steps` steps of Adam at the length that the generator was trained on.
    `advance` is called after each batch of candidates and each step. A model with labels paints without one. Raises
    AtelierError where the generator paints NaN.
    """
    weight = next(generator.parameters())
    no_label = [torch.zeros(1, generator.classes)] if generator.labels else []
    distance = Distance(torch.from_numpy(target).permute(2, 0, 1)[None].to(weight.device).float() / 127.5 - 1)
    grain = draw_grain(recipe.seed, recipe.index, 0, 0, generator.grain_numbers)

    def distances(latents: Tensor) -> Tensor:
        inputs = torch.cat([latents, grain.expand(len(latents), -1)], 1)
        inputs = generator.with_labels(inputs, *(label.expand(len(latents), -1) for label in no_label))
        return distance(generator(inputs.to(weight.device, weight.dtype)))

    drawn = torch.cat([draw_latents(recipe.seed, recipe.index + i, generator.nz) for i in range(CANDIDATES)])
    found = []
    for batch in torch.split(drawn, CANDIDATES_AT_ONCE):
        with torch.no_grad():
            found.append(distances(batch).cpu())
        advance()
    nearest = torch.cat(found).argsort()[:STARTS]
    best_distance = drawn_distance = float(torch.cat(found).min())
    best = drawn[nearest[0]]
    latents = drawn[nearest].requires_grad_()
    adam = torch.optim.Adam([latents], RATE, (0.9, 0.99))
    for step in range(steps):
        adam.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - step / steps))  # falls to 0 in the second half
        values = distances(latents)
        lowest = int(values.argmin())
        if float(values[lowest].detach()) < best_distance:
            best_distance, best = float(values[lowest].detach()), latents[lowest].detach().clone()
        adam.zero_grad()
        values.sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        with torch.no_grad():
            latents.copy_(with_length(latents, torch.full((STARTS, 1), math.sqrt(generator.nz))))
        advance()
    if not math.isfinite(best_distance):
        raise AtelierError("the generator paints NaN: its training diverged; lower train.lr, then `dvc repro train`")
    return Projection(tuple(best.tolist()), best_distance, drawn_distance)


def read_target(path: Path, size_px: tuple[int, int]) -> Pixels:
    """Read a picture of any known kind: the largest box of this shape in its middle, resized, as uint8 (H, W, 3).

    Raises AtelierError where the file is missing, too large, damaged, or no picture.
    """
    hint = "name a photograph or a painting"
    with open_regular(path, hint) as file:
        content = file.read(PHOTO_BYTES + 1)
    if len(content) > PHOTO_BYTES:
        raise AtelierError(f"{path} has more than {PHOTO_BYTES:,} bytes: {hint} in a smaller file")
    verified = verify(content, PHOTO_LIMITS)
    if isinstance(verified, Refused):
        raise AtelierError(f"{path}: {verified.reason}: {hint}")
    assert verified.image is not None  # without a size it is always decoded
    image, (height, width) = to_rgb(verified.image), size_px
    scale = min(image.width / width, image.height / height)
    box_width, box_height = round(scale * width), round(scale * height)
    left, top = (image.width - box_width) // 2, (image.height - box_height) // 2
    box = (left, top, left + box_width, top + box_height)
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS, box))


def main(argv: Sequence[str] | None = None) -> int:
    """Project the photo, and print where the picture is. Returns the exit code: 1 after a message, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="atelier.projection")
    parser.add_argument("generator", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("recipe", type=Recipe.model_validate_json, help="of the picture whose grain is used, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="a PNG; a sheet of both is written beside it")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(argv)
    return run_for_exit_code(lambda: _project(arguments), "")


def _project(arguments: argparse.Namespace) -> int:
    device, _ = pick_deterministic_device(arguments.device)
    generator = load_generator(arguments.generator, device)[0]
    target = read_target(arguments.photo, generator.size_px)
    with Progress("project", CANDIDATES // CANDIDATES_AT_ONCE + arguments.steps, "steps") as progress:
        found = project(generator, target, arguments.recipe, arguments.steps, progress.advance)
    painter, model = load_painter(arguments.generator, device)
    label = NONE if painter.labels else None
    recipe = arguments.recipe.model_copy(update={"latent": found.latent, "label": label})
    provenance = provenance_of(painter, model, recipe)
    picture = paint(painter, provenance.latent)
    write_png(arguments.out, picture, provenance)
    difference = np.abs(picture.astype(np.float64) - target).mean() / 255
    sheet = arguments.out.with_name(f"{arguments.out.stem}-beside.png")
    nearer = f"{found.distance:.3f}; the nearest of {CANDIDATES} drawn pictures has {found.drawn_distance:.3f}"
    panels = [
        Panel("asked for", (arguments.photo.name,), fitted(target, SHOWN_PX)),
        Panel("found", (f"distance {nearer}",), fitted(picture, SHOWN_PX)),
    ]
    write_panels(sheet, "A picture and its projection", panels, 2)
    print(f"{arguments.out}: distance {nearer}. Pixels differ by {difference:.1%} of the range. {sheet} shows both")
    return 0


if __name__ == "__main__":
    sys.exit(main())

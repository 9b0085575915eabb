"""The base class of the generators, fields of latents for larger canvases, and drawing and rendering them.

In a field (h, w) each latent is that of a whole picture, and between two of them one picture changes into the other:
the canvas has h × w times the size of one picture. Each of a picture's base cells, 4×4 for a square, receives a latent
of the usual length, so no layer receives inputs unlike those of the training.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from atelier.device import painting_precision
from atelier.errors import AtelierError
from atelier.networks.labels import LabelEmbedding, Labels
from atelier.pictures import BASE_SIDE, CELLS, SQUARE, Cells, Pixels
from atelier.settings.base import PaintingPrecision

SQUARE_CELLS = CELLS[SQUARE]
IMAGE_CHANNELS = 3
TRAINED_SIZE = (1, 1)  # rows and columns of latents in a picture of the size that the generator was trained on
# odd, so no two indices below 2**32 share a seed; 2**32 / golden ratio, so the seeds of neighbours are far apart
INDEX_STRIDE = 0x9E3779B1
BATCH_PICTURES = 100  # rendered at once where the last bits do not matter
MIN_LENGTH = 1e-30  # of a vector, so that a zero vector is divided by something
MIN_SINE = 1e-9  # of the angle between two latents; below it they are parallel or opposite

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Lattice:
    """How the positions of latents, base cells and pixels are related along an axis.

    Latent j begins at base cell j · cells, and n latents make n · cells + overhang base cells. A base cell depends on
    the latents at its position, on `before` latents before them, and on `after` latents behind them. The pixels of base
    cells j to k depend on `context` further base cells at each side. A base cell is `px` pixels wide.
    """

    cells: int
    overhang: int
    before: int
    after: int
    context: int
    px: int


class FieldGenerator(nn.Module):
    """Base class of the generators, which paint one picture from one latent, or a larger canvas from a field of them.

    The input, (B, inputs) or (B, inputs, h, w), is standard normal. Its first `nz` numbers are the latent, which
    decides what the picture shows, and its last ones the grain, noise for details: `grain` numbers for each of the base
    cells of a latent, none for most networks. Where latents overlap or are interpolated, the result is scaled to the
    length of one latent, unless `normalise_overlap` is False. If the network has `labels`, their weights are between
    the two, see `atelier.networks.labels`; in a field they are interpolated linearly.

    One picture has `cells` base cells, rows and columns. `lattices` are those of the height and the width.
    """

    resolution: int
    nz: int
    lattices: tuple[Lattice, Lattice]
    layers: nn.Sequential
    normalise_overlap: bool = True
    grain: int = 0
    cells: Cells = SQUARE_CELLS
    labels: Labels | None = None
    embed: LabelEmbedding | None  # of the labels, if there are any

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of one picture."""
        return self.resolution // BASE_SIDE * self.cells[0], self.resolution // BASE_SIDE * self.cells[1]

    @property
    def classes(self) -> int:
        """How many of the inputs are the weights of labels."""
        return len(self.labels.names) if self.labels else 0

    @property
    def grain_numbers(self) -> int:
        """How many of the inputs are the grain."""
        return self.cells[0] * self.cells[1] * self.grain

    @property
    def inputs(self) -> int:
        """How many numbers the generator takes for one picture: its latent, the weights of its label, its grain."""
        return self.nz + self.classes + self.grain_numbers

    def forward(self, z: Tensor) -> Tensor:
        base = self.nz + self.classes
        images: Tensor = self.layers(self.with_grain(self.base(z[:, :base]), z[:, base:]))
        return images

    def with_labels(self, z: Tensor, *weights: Tensor) -> Tensor:
        """The inputs (B, inputs) of latents and grain (B, inputs − classes) and, if any, label weights (B, classes)."""
        return torch.cat([z[:, : self.nz], *weights, z[:, self.nz :]], 1) if weights else z

    def label_kernels(self) -> Tensor:
        """The vectors of the classes, (classes, features, rows, columns), which label weights are multiplied by.

        They are scaled as if a label were as long as a latent, so that both are learned equally fast.
        """
        assert self.embed is not None
        return self.embed.kernels() * math.sqrt(self.nz)

    def with_grain(self, base: Tensor, grain: Tensor) -> Tensor:
        """Concatenate the grain, (B, n) or (B, n, h, w), to base features (B, features, H, W), along the channels."""
        if not self.grain:
            return base
        rows, columns = self.cells
        height, width = base.shape[2] // rows, base.shape[3] // columns
        cells = grain.view(-1, self.grain, rows, columns, height, width).permute(0, 1, 4, 2, 5, 3)
        return torch.cat([base, cells.reshape(-1, self.grain, *base.shape[2:]).to(base.dtype)], 1)

    def base(self, z: Tensor) -> Tensor:
        """The coarsest features, (B, features, rows, columns), of latents with the weights of their labels.

        `z` is (B, nz + classes), or (B, nz + classes, h, w) for a field. The features are the input of `layers`.
        """
        raise NotImplementedError


def doublings(resolution: int) -> int:
    """How often the base cells are doubled to reach the resolution. Raises ValueError if it is no such size."""
    times = int(math.log2(resolution)) - 2
    if times < 1 or resolution != BASE_SIDE * 2**times:
        raise ValueError(f"resolution holds {resolution}; it may hold a power of two from 8 up")
    return times


def latent_per_cell(z: Tensor, cells: Cells, normalise_overlap: bool = True) -> Tensor:
    """The latent of each base cell: (B, nz, h, w) → (B, nz, rows · h, columns · w).

    (B, nz) → (B, nz, 1, 1), for all cells of one picture.

    Between the centres of neighbouring pictures latents are interpolated linearly. That makes them shorter than those
    of the training, so they are scaled to the interpolated length, unless `normalise_overlap` is False, as for the
    weights of labels.
    """

    scales = [float(count) for count in cells]

    def interpolated(field: Tensor) -> Tensor:
        return functional.interpolate(field, scale_factor=scales, mode="bilinear", align_corners=False)

    if z.ndim == 2:
        return z[:, :, None, None]
    if z.shape[2:] == (1, 1):
        return z
    latents = interpolated(z)
    if not normalise_overlap:
        return latents
    return with_length(latents, interpolated(torch.linalg.vector_norm(z, dim=1, keepdim=True)))


def with_length(vectors: Tensor, length: Tensor, dim: int = 1) -> Tensor:
    """Scale the vectors along `dim` to the given length, which has size 1 there. Zero vectors stay zero."""
    norm = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    scaled: Tensor = vectors * (length / norm.clamp_min(MIN_LENGTH))
    return scaled


def slerp(start: Tensor, end: Tensor, position: float) -> Tensor:
    """Interpolate spherically between two fields, (B, nz) or (B, nz, rows, columns); float32. 0 is `start`, 1 is `end`.

    Every latent turns at a constant rate, and its length changes linearly. If they are parallel or opposite, they are
    interpolated linearly.
    """

    def length(field: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(field, dim=1, keepdim=True)
        return lengths

    one, other = start.double(), end.double()
    first, last = one / length(one).clamp_min(MIN_LENGTH), other / length(other).clamp_min(MIN_LENGTH)
    # from the chords, because an arc cosine would lose half the digits of a small angle
    angle = 2 * torch.atan2(length(first - last), length(first + last))
    turned = ((1 - position) * angle).sin() * first + (position * angle).sin() * last
    arc = turned / angle.sin() * torch.lerp(length(one), length(other), position)
    return torch.where(angle.sin() > MIN_SINE, arc, torch.lerp(one, other, position)).float()


def draw_latents(
    seed: int, index: int, nz: int, canvas: tuple[int, int] = TRAINED_SIZE, truncation: float = 1.0
) -> Tensor:
    """Draw the latents of picture `index`: (1, nz), or (1, nz, rows, columns) for a larger canvas, float32 on the CPU.

    They are truncation · N(0, 1), from a CPU generator that is seeded with (SHA-256 of the seed +
    index · INDEX_STRIDE) mod 2³². torch uses only 32 bits of a CPU seed: a hash of seed and index together would
    give two among some 100,000 pictures the same latent. This way all pictures of one seed differ.
    """
    base = int.from_bytes(hashlib.sha256(f"atelier-latent/1:{seed}".encode()).digest()[:4], "big")
    generator = torch.Generator("cpu").manual_seed((base + index * INDEX_STRIDE) % 2**32)
    shape = (1, nz) if canvas == TRAINED_SIZE else (1, nz, *canvas)
    # drawn in float64: in float32, CPUs with and without AVX2 disagree in the last bit
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul_(truncation).float()


def draw_grain(seed: int, index: int, row: int, column: int, numbers: int) -> Tensor:
    """Draw the grain of one latent cell of picture `index`: (numbers,), standard normal, float32 on the CPU.

    Every cell has a CPU generator of its own, so that any part of a canvas can be painted without the rest.
    """
    if not numbers:  # a canvas may have a million cells
        return torch.empty(0)
    key = hashlib.sha256(f"atelier-grain/1:{seed}:{index}:{row}:{column}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(key[:4], "big"))
    return torch.randn(numbers, generator=generator, dtype=torch.float64).float()


def draw_inputs(generator: FieldGenerator, seed: int, index: int, label: str | None = None) -> Tensor:
    """Draw all inputs of a picture of the trained size, (1, inputs): see `draw_latents` and `draw_grain`.

    Without a `label`, a generator with labels gets one that is drawn as often as in its training set.
    """
    grain = draw_grain(seed, index, 0, 0, generator.grain_numbers)[None]
    z = torch.cat([draw_latents(seed, index, generator.nz), grain], 1)
    if generator.labels is None:
        return z
    weights = generator.labels.weights(generator.labels.draw(seed, index) if label is None else label)
    return generator.with_labels(z, weights[None])


def random_inputs(generator: FieldGenerator, count: int, draws: torch.Generator) -> Tensor:
    """Random inputs (count, inputs) on the CPU, with labels as often as in the training set."""
    z = torch.randn(count, generator.inputs - generator.classes, generator=draws)
    return generator.with_labels(z, generator.labels.sample(count, draws)) if generator.labels else z


def in_double_precision(network: Network, device: torch.device, precision: PaintingPrecision | None = None) -> Network:
    """Put the network in eval mode on `device`, in float64 unless that is slow there; it is changed in place.

    Rounded to 8 bits, pictures in float64 are the same bytes on every device, with any number of threads and any vector
    units. float32 differs in about one value of a million, and takes half the time. `precision` chooses one of them in
    place of `painting_precision`; Apple's GPUs have float32 alone.
    """
    chosen = precision if precision and device.type != "mps" else painting_precision(device)
    return network.eval().requires_grad_(False).to(device=device, dtype=getattr(torch, chosen))


def precision_of(network: nn.Module) -> PaintingPrecision:
    """The precision that a network on which `in_double_precision` was called paints in."""
    return "float64" if next(network.parameters()).dtype == torch.float64 else "float32"


def render(generator: nn.Module, z: Tensor) -> Pixels:
    """Render one picture (H, W, 3) from the inputs of one. Raises AtelierError where the generator returns NaN."""
    if len(z) != 1:
        raise ValueError("pictures are rendered one at a time, so that none depends on its neighbours")
    picture: Pixels = render_batch(generator, z)[0]
    return picture


@torch.inference_mode()
def render_batch(generator: nn.Module, z: Tensor) -> Pixels:
    """Render n pictures (n, H, W, 3). Last bits may depend on n, so not for artworks. Raises AtelierError for NaN."""
    weight = next(generator.parameters())
    images = generator(z.to(weight.device, weight.dtype))
    if not images.isfinite().all():
        raise AtelierError(
            "the generator paints NaN: its training diverged; lower train.lr or raise train.generation, "
            "then `dvc repro train`"
        )
    return to_pixels(images)


def render_seed(generator: FieldGenerator, seed: int, count: int, label: str | None = None) -> Iterator[Pixels]:
    """Render pictures 0 to count − 1 of a seed, in batches (see `render_batch`), with a label as in `draw_inputs`."""
    for start in range(0, count, BATCH_PICTURES):
        indices = range(start, min(start + BATCH_PICTURES, count))
        yield render_batch(generator, torch.cat([draw_inputs(generator, seed, index, label) for index in indices]))


def to_pixels(images: Tensor) -> Pixels:
    """Convert images (n, 3, H, W) in [−1, 1] to uint8 (n, H, W, 3), rounded half to even."""
    levels = ((images.detach() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())

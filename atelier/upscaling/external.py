"""The external upscaler: any network that spandrel's main registry supports, named by its path and SHA-256.

The file is data: its digest is compared before it is opened, safetensors holds no code, and of a .pth only tensors are
unpickled (torch's weights_only, which runs no TorchScript either). The receptive field of such a network is not known,
so tiles overlap and are blended; their side decides the pixels and is part of the provenance.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from atelier.errors import AtelierError
from atelier.pictures import Pixels, Samples
from atelier.progress import ProgressCallback, ignore_progress
from atelier.upscaling.network import Span, halved_sides, passes, to_tensor, with_fitting_tiles, write_tile

if TYPE_CHECKING:
    import spandrel

OVERLAP_PX = 64  # 10, Real-ESRGAN's, leaves seams
UNUSED_PX = 16  # at a tile's overlapping edge, where the network lacks context
GRID_PX = 32  # a multiple of the usual attention windows
TILE_PX = 384  # the same on every machine, because it decides the pixels
DISCOURAGED_TILE_PX = 512  # for networks whose authors discourage tiles
TILE_SIDES_PX = range(2 * OVERLAP_PX, 4097, GRID_PX)  # that a print's provenance may name
MALFORMED_FILE_ERRORS = (
    RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError, EOFError,
    pickle.UnpicklingError, SafetensorError, ArithmeticError,
)  # fmt: skip


@dataclass(frozen=True)
class External:
    """An external network on its device, for 3 channels, or for 1 channel, which then runs once for each colour."""

    descriptor: "spandrel.ImageModelDescriptor[torch.nn.Module]"
    context_px: ClassVar = 64  # by which a seamless picture is continued on each side

    @property
    def architecture(self) -> str:
        return str(self.descriptor.architecture.name)

    @property
    def scale(self) -> int:
        return int(self.descriptor.scale)

    def sides_px(self) -> list[int]:
        """The sides of tiles to try, the largest first; smaller ones would consist of overlap.

        Each meets the network's minimum and is a multiple of both its and the grid's unit.
        """
        side_px = DISCOURAGED_TILE_PX if self.descriptor.tiling.name == "DISCOURAGED" else TILE_PX
        required = self.descriptor.size_requirements
        multiple = lcm(GRID_PX, required.multiple_of)
        sides_px = halved_sides(side_px, 2 * OVERLAP_PX)
        return [int(-(-max(side, required.minimum) // multiple) * multiple) for side in sides_px]


def open_external(path: Path, sha256: str, device: torch.device) -> External:
    """Load the network of a file with this SHA-256, in eval mode. Raises AtelierError if that is not possible."""
    if not path.exists():
        raise AtelierError(f"{path} is missing: upscale.external.path names the network that prints are made with")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise AtelierError(
            f"{path} has the SHA-256 {found}, not {sha256}: it is another network, or damaged. "
            "Set upscale.external.sha256 to it only if you trust the file"
        )
    return External(_load(path, content, device))


def external_into(
    result: Samples,
    external: External,
    picture: Pixels,
    tile_px: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> int | None:
    """Fill a print with the enlarged picture; return the side of the tiles, None if the picture was not divided.

    Without `tile_px` the side is halved while memory does not suffice. Raises AtelierError if the network fails.
    """
    scale = result.shape[0] // picture.shape[0]
    count = passes(external.scale, scale)

    def fill(side_px: int, finished: ProgressCallback) -> None:
        images = to_tensor(picture, torch.device("cpu"))
        for _ in range(count - 1):
            larger = images.new_empty(1, 3, *(side * external.scale for side in images.shape[2:]))
            for top, strip in strips(external, images, side_px):
                larger[:, :, top : top + strip.shape[2]] = strip
            images = larger
        for top, strip in strips(external, images, side_px):
            write_tile(result, top, 0, strip)
            finished(strip.shape[2] * strip.shape[3])

    whole = external.descriptor.tiling.name == "INTERNAL"  # it makes its own tiles
    sides_px = [max(picture.shape) * scale] if whole else [tile_px] if tile_px else external.sides_px()
    try:
        used_px = with_fitting_tiles(fill, sides_px, progress)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise AtelierError(
            f"upscale.external.path: the {external.architecture} network fails at a picture of "
            f"{picture.shape[1]} × {picture.shape[0]} px ({_first_line(error)}): name another network"
        ) from None
    return None if whole else used_px


def strips(external: External, images: Tensor, tile_px: int) -> Iterator[tuple[int, Tensor]]:
    """Run one pass over an image (1, 3, H, W); yield strips (1, 3, h, scale·W) of the result, each with its top row.

    At most a tile's height of rows is in memory. Overlapping tiles are averaged with weights that add up to 1.
    """
    scale = external.scale
    height, width = images.shape[2:]
    rows, columns = tiles(height, tile_px), tiles(width, tile_px)
    row_weights, column_weights = weights(rows, height, scale), weights(columns, width, scale)
    pending = images.new_zeros(1, 3, 0, width * scale)  # rows that overlap the next tiles
    for index, row in enumerate(rows):
        strip = images.new_zeros(1, 3, (row.end - row.start) * scale, width * scale)
        for column, weight in zip(columns, column_weights, strict=True):
            tile = images[:, :, row.start : row.end, column.start : column.end]
            strip[..., column.start * scale : column.end * scale] += _enlarge_tile(external, tile) * weight
        strip *= row_weights[index][:, None]
        strip[:, :, : pending.shape[2]] += pending
        finished = ((rows[index + 1].start if index + 1 < len(rows) else height) - row.start) * scale
        yield row.start * scale, strip[:, :, :finished]
        pending = strip[:, :, finished:]


def tiles(size: int, tile_px: int) -> list[Span]:
    """Evenly spread tiles along one axis, overlapping by at least OVERLAP_PX; the last ends at the picture's end.

    They start on a grid, so that the windows of networks with windowed attention keep their places.
    """
    if size <= tile_px:
        return [Span(0, size)]
    count = -(-(size - OVERLAP_PX) // (tile_px - OVERLAP_PX))
    starts = [index * (size - tile_px) // (count - 1) // GRID_PX * GRID_PX for index in range(count)]
    ends = [start + tile_px for start in starts[:-1]]
    return [Span(start, end) for start, end in zip(starts, [*ends, size], strict=True)]


def weights(spans: list[Span], size: int, scale: int) -> list[Tensor]:
    """Blending weights of each tile's enlarged pixels; they rise along a squared sine within the overlap."""
    ramp_px = (OVERLAP_PX - 2 * UNUSED_PX) * scale
    rise = torch.sin((torch.arange(ramp_px, dtype=torch.float64) + 0.5) / ramp_px * torch.pi / 2).square()
    edge = torch.cat([torch.zeros(UNUSED_PX * scale, dtype=torch.float64), rise])
    total = torch.zeros(size * scale, dtype=torch.float64)
    raw = []
    for span in spans:
        weight = torch.ones((span.end - span.start) * scale, dtype=torch.float64)
        if span.start > 0:
            weight[: len(edge)] *= edge
        if span.end < size:
            weight[-len(edge) :] *= edge.flip(0)
        total[span.start * scale : span.end * scale] += weight
        raw.append(weight)
    return [
        (weight / total[span.start * scale : span.end * scale]).float() for span, weight in zip(spans, raw, strict=True)
    ]


def _enlarge_tile(external: External, images: Tensor) -> Tensor:
    descriptor = external.descriptor
    # a copy, because a few networks write into their input
    images = images.clone(memory_format=torch.contiguous_format).to(descriptor.device)
    mode = torch.get_deterministic_debug_mode()
    # some operations of external networks have no deterministic implementation
    torch.set_deterministic_debug_mode("warn" if mode else "default")
    try:
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(0)  # a few networks draw noise
            if descriptor.input_channels == 1:
                enlarged = torch.cat([descriptor(images[:, [channel]]) for channel in range(3)], dim=1)
            else:
                enlarged = descriptor(images)
    finally:
        torch.set_deterministic_debug_mode(mode)
    return enlarged.float().cpu()


def _load(path: Path, content: bytes, device: torch.device) -> "spandrel.ImageModelDescriptor[torch.nn.Module]":
    try:
        import spandrel  # an extra, and slow to import
    except ModuleNotFoundError:
        raise AtelierError(
            "upscale.method external needs spandrel: `uv pip install 'spandrel>=0.4.1'` (the extra `external`)"
        ) from None
    try:
        tensors = spandrel.canonicalize_state_dict(_tensors(path, content))
        descriptor = spandrel.MAIN_REGISTRY.load(tensors)
    except (*MALFORMED_FILE_ERRORS, spandrel.UnsupportedModelError) as error:
        raise AtelierError(
            f"{path} is not a network that spandrel {spandrel.__version__} supports ({_first_line(error)}): "
            "name another, or set upscale.method to learned or lanczos"
        ) from None
    channels = (descriptor.input_channels, descriptor.output_channels)
    enlarges = isinstance(descriptor, spandrel.ImageModelDescriptor) and descriptor.purpose == "SR"
    if not enlarges or channels not in {(1, 1), (3, 3)}:
        raise AtelierError(
            f"{path} holds a {descriptor.architecture.name} network for {descriptor.purpose}, {channels[0]} channels "
            f"to {channels[1]}: upscale.external.path may name one that enlarges pictures of 1 or 3 channels"
        )
    descriptor.model.requires_grad_(False)
    return descriptor.to(device).eval()


def _tensors(path: Path, content: bytes) -> dict[str, Any]:
    if path.suffix.lower() == ".safetensors":
        return safetensors.torch.load(content)
    if path.suffix.lower() != ".pth":
        raise ValueError("its name ends in neither .safetensors nor .pth")
    with warnings.catch_warnings(action="ignore"):  # torch warns of a TorchScript program, then refuses it
        return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

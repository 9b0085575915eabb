"""Somebody else's network as an upscaler: any that spandrel's main registry knows, by path and SHA-256.

The file is data: its digest is compared before it is opened, safetensors holds no code, and of a .pth only tensors are
unpickled (torch's weights_only, which runs no TorchScript either). How far such a network looks is not known, so tiles
overlap and are faded into each other; how large they are decides the pixels and is told in the provenance.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from atelier.errors import AtelierError
from atelier.pictures import Pixels, Samples
from atelier.progress import ProgressCallback, ignore_progress
from atelier.upscaling.enlarge import Counted, Span, halves, in_memory, passes, put, to_images

if TYPE_CHECKING:
    import spandrel

OVERLAP_PX = 64  # 10, as Real-ESRGAN has it, leaves seams
UNUSED_PX = 16  # of a tile's overlapping edge: there it knows nothing of what is beyond
GRID_PX = 32  # a multiple of the usual windows of attention
TILE_PX = 384  # the same on every machine, since it decides pixels
RELUCTANT_TILE_PX = 512  # where the network's authors discourage tiles
TILES_PX = range(2 * OVERLAP_PX, 4097, GRID_PX)  # what a print may claim to be made of
CONTEXT_PX = 64  # what a seamless picture is continued by on each side
MALFORMED = (
    RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError, EOFError,
    pickle.UnpicklingError, SafetensorError, ArithmeticError,
)  # fmt: skip


@dataclass(frozen=True)
class External:
    """A network of somebody's, ready on its device: 3 channels in and out, or 1 for each in turn."""

    descriptor: "spandrel.ImageModelDescriptor[torch.nn.Module]"

    @property
    def architecture(self) -> str:
        return str(self.descriptor.architecture.name)

    @property
    def scale(self) -> int:
        return int(self.descriptor.scale)

    @property
    def whole(self) -> bool:
        """Whether it wants the whole picture, and makes its own tiles."""
        return str(self.descriptor.tiling.name) == "INTERNAL"

    def sides_px(self) -> list[int]:
        """A tile's side where memory suffices, and where it does not: less would be nothing but overlap."""
        side_px = RELUCTANT_TILE_PX if self.descriptor.tiling.name == "DISCOURAGED" else TILE_PX
        return [self._allowed(side) for side in halves(side_px, 2 * OVERLAP_PX)]

    def _allowed(self, side_px: int) -> int:
        """As large as the network needs, and of a multiple that it and the grid need."""
        wants = self.descriptor.size_requirements
        multiple = lcm(GRID_PX, wants.multiple_of)
        return int(-(-max(side_px, wants.minimum) // multiple) * multiple)


def open_external(path: Path, sha256: str, device: torch.device) -> External:
    """The network in this file, in eval mode on this device.

    Raises AtelierError where the file is absent or another, spandrel is not installed or does not know it, or it is
    no network that enlarges pictures.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise AtelierError(
            f"{path} is missing: upscale.external.path names the network that prints are made with"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise AtelierError(
            f"{path} has the SHA-256 {found}, not {sha256}: it is another network, or damaged. "
            "Set upscale.external.sha256 to it only if you trust the file"
        )
    return External(_described(path, content, device))


def external_into(
    result: Samples,
    external: External,
    picture: Pixels,
    tile_px: int | None = None,
    done: ProgressCallback = ignore_progress,
) -> int | None:
    """Fill the result, some times larger than the picture; the tiles' side, or None where the whole went at once.

    Without `tile_px` a tile's side is halved for as long as memory does not suffice; a given one is kept to.
    Raises AtelierError where the network fails.
    """
    scale = result.shape[0] // picture.shape[0]
    count = passes(external.scale, scale)
    counted = Counted(done)

    def fill(side_px: int) -> None:
        counted.start()
        images = to_images(picture, torch.device("cpu"))
        for _ in range(count - 1):
            larger = images.new_empty(1, 3, *(side * external.scale for side in images.shape[2:]))
            for top, strip in strips(external, images, side_px):
                larger[:, :, top : top + strip.shape[2]] = strip
            images = larger
        for top, strip in strips(external, images, side_px):
            put(result, top, 0, strip)
            counted(strip.shape[2] * strip.shape[3])

    sides_px = (
        [max(picture.shape) * scale] if external.whole else [tile_px] if tile_px else external.sides_px()
    )
    try:
        used_px = in_memory(fill, sides_px)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise AtelierError(
            f"upscale.external.path: the {external.architecture} network fails at a picture of "
            f"{picture.shape[1]} × {picture.shape[0]} px: {_first_line(error)}"
        ) from None
    return None if external.whole else used_px


def strips(external: External, images: Tensor, tile_px: int) -> Iterator[tuple[int, Tensor]]:
    """One pass over an image (1, 3, H, W), as rows (their top, (1, 3, h, W)) of the enlarged one from top to bottom.

    No more than a tile's height of them is held. Tiles overlap, and each counts by its weights, which add up to 1.
    """
    scale = external.scale
    height, width = images.shape[2:]
    rows, columns = tiles(height, tile_px), tiles(width, tile_px)
    row_weights, column_weights = weights(rows, height, scale), weights(columns, width, scale)
    pending = images.new_zeros(1, 3, 0, width * scale)  # rows that the next tiles have a part in
    for index, row in enumerate(rows):
        strip = images.new_zeros(1, 3, (row.end - row.start) * scale, width * scale)
        for column, weight in zip(columns, column_weights, strict=True):
            tile = images[:, :, row.start : row.end, column.start : column.end]
            strip[..., column.start * scale : column.end * scale] += _run(external, tile) * weight
        strip *= row_weights[index][:, None]
        strip[:, :, : pending.shape[2]] += pending
        finished = ((rows[index + 1].start if index + 1 < len(rows) else height) - row.start) * scale
        yield row.start * scale, strip[:, :, :finished]
        pending = strip[:, :, finished:]


def tiles(size: int, tile_px: int) -> list[Span]:
    """Tiles of one axis, evenly spread, overlapping by at least OVERLAP_PX; the last ends where the picture does.

    They start on a grid, on which networks that look through windows of their own have theirs, too.
    """
    if size <= tile_px:
        return [Span(0, size)]
    count = -(-(size - OVERLAP_PX) // (tile_px - OVERLAP_PX))
    starts = [index * (size - tile_px) // (count - 1) // GRID_PX * GRID_PX for index in range(count)]
    ends = [start + tile_px for start in starts[:-1]]
    return [Span(start, end) for start, end in zip(starts, [*ends, size], strict=True)]


def weights(spans: list[Span], size: int, scale: int) -> list[Tensor]:
    """How much each tile counts for each of its enlarged pixels: along a cosine, from 0 to 1 within the overlap."""
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
        (weight / total[span.start * scale : span.end * scale]).float()
        for span, weight in zip(spans, raw, strict=True)
    ]


def _run(external: External, images: Tensor) -> Tensor:
    """One tile through the network and back to the CPU."""
    descriptor = external.descriptor
    images = images.clone(memory_format=torch.contiguous_format).to(
        descriptor.device
    )  # a few write into what they read
    strict = torch.are_deterministic_algorithms_enabled()
    # some operations of others' have no deterministic form: then it is as near as it gets
    torch.use_deterministic_algorithms(strict, warn_only=True)
    try:
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(0)  # a few networks draw noise: the same for the same tile
            if descriptor.input_channels == 1:
                enlarged = torch.cat([descriptor(images[:, [channel]]) for channel in range(3)], dim=1)
            else:
                enlarged = descriptor(images)
    finally:
        torch.use_deterministic_algorithms(strict)
    return enlarged.float().cpu()


def _described(
    path: Path, content: bytes, device: torch.device
) -> "spandrel.ImageModelDescriptor[torch.nn.Module]":
    try:
        import spandrel  # an extra, and slow to import
    except ModuleNotFoundError:
        raise AtelierError(
            "upscale.method external needs spandrel: `uv pip install 'spandrel>=0.4.1'` (the extra `external`)"
        ) from None
    try:
        tensors = spandrel.canonicalize_state_dict(_tensors(path, content))
        descriptor = spandrel.MAIN_REGISTRY.load(tensors)
    except (*MALFORMED, spandrel.UnsupportedModelError) as error:
        raise AtelierError(
            f"{path} is no network that spandrel {spandrel.__version__} knows ({_first_line(error)}): "
            "name another, or set upscale.method to learned or lanczos"
        ) from None
    channels = (descriptor.input_channels, descriptor.output_channels)
    if (
        not isinstance(descriptor, spandrel.ImageModelDescriptor)
        or descriptor.purpose != "SR"
        or channels not in {(1, 1), (3, 3)}
    ):
        raise AtelierError(
            f"{path} holds a {descriptor.architecture.name} network for {descriptor.purpose}, {channels[0]} channels "
            f"to {channels[1]}: upscale.external.path may name one that enlarges pictures of 1 or 3 channels"
        )
    descriptor.model.requires_grad_(False)
    return descriptor.to(device).eval()


def _tensors(path: Path, content: bytes) -> dict[str, Any]:
    match path.suffix.lower():
        case ".safetensors":
            return safetensors.torch.load(content)
        case ".pth":
            with warnings.catch_warnings():  # what torch warns of, a TorchScript program, it then refuses
                warnings.simplefilter("ignore")
                loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return dict(loaded)
    raise ValueError("it is neither .safetensors nor .pth")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""The training images: on the device, and which of them each step uses, a function of the seed and the step."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from atelier.data.dataset import STRIP_SCALE, Strips, View
from atelier.networks.labels import Labels
from atelier.pictures import SQUARE, Pixels, largest_box, picture_size
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup
from atelier.training.state import generator_for

MAX_GPU_MEMORY_SHARE = 0.4  # of a GPU's free memory; the training needs the rest
RESIZED_AT_ONCE = 2**24  # numbers: pixels of the strips that become windows together
LANCZOS_LOBES = 3
UNLABELLED_SHARE = 0.1  # of the images of a step, the mean


class ResidentData:
    """The images of a view as one uint8 tensor (n, H, W, 3); each epoch is a seeded permutation of them.

    The tensor is on `device`, or in the machine's memory if it would take more than MAX_GPU_MEMORY_SHARE of the free
    memory of a GPU. In a mirrored view, item 2i is image i and item 2i + 1 its mirror image.
    """

    def __init__(self, view: View, seed: int, device: torch.device) -> None:
        self._images = _resident(view.images, device)
        self._variants = 2 if view.mirror else 1
        self._device = device
        self._epochs = _Epochs(len(self), seed)

    def __len__(self) -> int:
        return self._variants * len(self._images)

    def batch(self, step: int, size: int, group: ProcessGroup = SINGLE_PROCESS) -> Tensor:
        """This process's part of the images of a step, counted from 0; `size` is that of the whole batch."""
        return self.images(group.shard(self.items(step, size)))

    def items(self, step: int, size: int) -> Tensor:
        """The indices (size,) of the items of a step, counted from 0, which may span two epochs."""
        return self._epochs.items(step, size)

    def paintings(self, step: int, size: int) -> Tensor:
        """The paintings (size,) that the items of a step show, as rows of the view's images."""
        return self.items(step, size) // self._variants

    def images(self, items: Tensor) -> Tensor:
        """These items as float images (n, 3, H, W) in [−1, 1], channels last, on the device."""
        # indexed where the tensor is, so that only a batch is copied to the device
        pixels = self._images[to_device(items // self._variants, self._images.device)]
        pixels = to_device(pixels, self._device)
        if self._variants == 2:
            mirrored = to_device((items % 2 == 1)[:, None, None, None], self._device)
            pixels = torch.where(mirrored, pixels.flip(2), pixels)
        # (B, H, W, 3) viewed as (B, 3, H, W) is channels last already
        return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)


class RandomWindows:
    """Windows from anywhere in the training paintings, at random sizes: a function of the seed and the step.

    Windows have the images' shape, `aspect`, a square by default. A window's shorter side is between the images' (or
    `Strips.min_side`) and the largest that fits into its painting; it is resized to the images' size. An epoch
    has `crops` windows of each painting, one in each of as many equal parts of its longer side, and with `mirror` as
    many mirrored ones, in the order of a seeded permutation. Places and sizes are whole pixels, drawn on the CPU for
    the images of all processes. The paintings are kept like those of `ResidentData`.
    """

    def __init__(
        self, strips: Strips, resolution: int, mirror: bool, seed: int, device: torch.device, aspect: str = SQUARE
    ) -> None:
        self._lines = _resident(strips.pixels, device)
        self._start, self._length, self._landscape, self._min_side = (
            torch.from_numpy(np.array(column))
            for column in (strips.start, strips.length, strips.landscape, strips.min_side)
        )
        self._size, self._crops, self._variants = picture_size(resolution, aspect), strips.crops, 2 if mirror else 1
        full = strips.pixels.shape[1]
        boxes = (
            largest_box(*((length, full) if landscape else (full, length)), aspect)
            for length, landscape in zip(strips.length.tolist(), strips.landscape.tolist(), strict=True)
        )
        self._max_side = torch.tensor([min(box) for box in boxes])
        self._seed, self._device = seed, device
        self._epochs = _Epochs(len(self._start) * self._crops * self._variants, seed)

    def batch(self, step: int, size: int, group: ProcessGroup = SINGLE_PROCESS) -> Tensor:
        """This process's part of a step's windows: floats (n, 3, H, W) in [−1, 1], channels last, on the device.

        Steps count from 0; `size` is that of the whole batch.
        """
        items = group.shard(self._epochs.items(step, size))
        draws = torch.rand(size, 3, generator=generator_for("windows", self._seed, step), dtype=torch.float64)
        size_draw, along_draw, across_draw = group.shard(draws).unbind(1)
        pictures, mirrored = items // self._variants, items % self._variants
        paintings, parts = pictures // self._crops, pictures % self._crops

        (height, width), full, lengths = self._size, self._lines.shape[1], self._length[paintings]
        landscape, smallest = self._landscape[paintings], self._min_side[paintings]
        shorter = smallest + _whole(size_draw, self._max_side[paintings] - smallest)
        longer = (shorter.double() * max(self._size) / min(self._size)).round().long()
        # along the longer side of the painting, which is its height or its width
        along_side = torch.minimum(torch.where(landscape == (width >= height), longer, shorter), lengths)
        across_side = torch.where(landscape == (width >= height), shorter, longer).clamp_max(full)
        along = _whole((parts + along_draw) / self._crops, lengths - along_side)
        across = _whole(across_draw, full - across_side)
        read = -(-full * max(self._size) // min(self._size))  # as many lines as the longest window has
        first = torch.minimum(along, (lengths - read).clamp_min(0))
        # the last line of a painting with fewer is repeated, and not used
        lines = self._start[paintings][:, None] + torch.minimum(
            first[:, None] + torch.arange(read), lengths[:, None] - 1
        )
        plan = torch.stack(
            [along_side, along - first, across_side, across, lengths.clamp_max(read), landscape.long(), mirrored], 1
        )
        at_once = max(1, RESIZED_AT_ONCE // (3 * full * read))
        pieces = zip(torch.split(lines, at_once), torch.split(plan, at_once), strict=True)
        return torch.cat([self._windows(*piece) for piece in pieces])

    def paintings(self, step: int, size: int) -> Tensor:
        """The paintings (size,) that the windows of a step show, as rows of the strips."""
        return self._epochs.items(step, size) // self._variants // self._crops

    def _windows(self, lines: Tensor, plan: Tensor) -> Tensor:
        """Windows (n, 3, H, W) of the paintings whose lines (n, read) are given; `plan` (n, 7) has their places."""
        # indexed where the paintings are, so that only a batch is copied to the device
        pixels = to_device(self._lines[to_device(lines, self._lines.device)], self._device).to(torch.float32)
        along_side, along, across_side, across, available, *flags = to_device(plan, self._device).unbind(1)
        landscape, mirrored = (flag.bool() for flag in flags)
        (n, read, full, _), (height, width) = pixels.shape, self._size
        # both ways as many pixels as the longer side has, so that windows of all paintings are computed together
        side, rows, columns = max(self._size), torch.full_like(along, height), torch.full_like(along, width)
        # first along the longer side, then across: products of matrices, which are deterministic on a GPU
        outputs = torch.where(landscape, columns, rows)
        matrices = _lanczos(along, along_side, mirrored & landscape, outputs, side, available, read)
        shorter = matrices @ pixels.view(n, read, full * 3)
        turned = shorter.view(n, side, full, 3).transpose(1, 2).reshape(n, full, side * 3)
        outputs, available = torch.where(landscape, rows, columns), torch.full_like(along, full)
        matrices = _lanczos(across, across_side, mirrored & ~landscape, outputs, side, available, full)
        windows = (matrices @ turned).view(n, side, side, 3)
        windows = torch.where(landscape[:, None, None, None], windows, windows.transpose(1, 2))[:, :height, :width]
        # whole levels, like those of images.npy
        windows = windows.round_().clamp_(0, 255).div_(127.5).sub_(1)
        return windows.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


class StepLabels:
    """The label weights of each step's images.

    `values` has a text for each painting: the name of its class, or empty. Each image loses its label with probability
    UNLABELLED_SHARE, so that pictures without a label are learned as well.
    """

    def __init__(self, labels: Labels, values: Sequence[str], seed: int) -> None:
        self._labels, self._classes, self._seed = labels, labels.rows(values), seed

    def of(self, paintings: Tensor, step: int) -> list[Tensor]:
        """The label weights (n, classes) of these paintings (n,), in a list of one."""
        kept = torch.rand(len(paintings), generator=generator_for("labels", self._seed, step)) >= UNLABELLED_SHARE
        return [self._labels.one_hot(torch.where(kept, self._classes[paintings], -1))]


class _Epochs:
    """Seeded permutations of `length` items, one after the other."""

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed = length, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def items(self, step: int, size: int) -> Tensor:
        pieces, start, count = [], step * size, size
        while count:
            epoch, position = divmod(start, self._length)
            if epoch != self._epoch:
                self._order = torch.randperm(self._length, generator=generator_for("order", self._seed, epoch))
                self._epoch = epoch
            piece = self._order[position : position + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return torch.cat(pieces)


def _resident(pixels: Pixels, device: torch.device) -> Tensor:
    """A copy on the device, or in the machine's memory where a GPU has too little."""
    copy = torch.from_numpy(np.array(pixels))
    free_bytes = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
    return copy.to(device) if copy.nbytes <= MAX_GPU_MEMORY_SHARE * free_bytes else copy


def _whole(shares: Tensor, most: Tensor) -> Tensor:
    """Whole numbers from 0 to `most`, at shares in [0, 1] of that range."""
    return torch.minimum((shares * (most + 1)).long(), most)


def _lanczos(
    first: Tensor, sides: Tensor, mirrored: Tensor, outputs: Tensor, rows: int, inputs: Tensor, columns: int
) -> Tensor:
    """Matrices (n, rows, columns) that resize `sides` pixels of a line, from `first` on, by Lanczos' filter.

    The first `outputs` rows are the window's pixels; the others repeat the last one. As Pillow's, the filter reaches
    beyond the window where the line goes on, and ends where the line does, after `inputs` pixels. Rows of matrices of
    `mirrored` windows are in reverse order. Windows are at most STRIP_SCALE times as long as `outputs`.
    """
    device, scales, last = first.device, (sides / outputs)[:, None], (outputs - 1)[:, None]
    order = torch.minimum(torch.arange(rows, device=device), last)
    order = torch.where(mirrored[:, None], last - order, order)
    centres = (first[:, None] + (order + 0.5) * scales)[:, :, None]
    # weights are computed for the few pixels within reach, and the rest of the matrix is 0
    reach = math.ceil(LANCZOS_LOBES * STRIP_SCALE)
    places = centres.floor().long() + torch.arange(-reach, reach + 1, device=device)
    distances = (places + 0.5 - centres) / scales[:, :, None]
    weights = torch.sinc(distances) * torch.sinc(distances / LANCZOS_LOBES)
    weights = weights * ((distances.abs() < LANCZOS_LOBES) & (places >= 0) & (places < inputs[:, None, None]))
    weights = weights / weights.sum(2, keepdim=True)
    padded = torch.zeros(len(first), rows, columns + 2 * reach, device=device)
    return padded.scatter_(2, places + reach, weights)[:, :, reach:-reach]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting for it, or return it if it is there already.

    A copy to a GPU goes through pinned memory and is queued; from ordinary memory it would wait for all queued work.
    """
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)

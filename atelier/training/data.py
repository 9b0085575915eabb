"""The training images: on the device, and which of them each step uses, a function of the seed and the step."""

import math

import numpy as np
import torch
from torch import Tensor

from atelier.data.dataset import View
from atelier.training.distributed import SINGLE_PROCESS, ProcessGroup
from atelier.training.state import generator_for

MAX_GPU_MEMORY_SHARE = 0.4  # of a GPU's free memory; the training needs the rest


class ResidentData:
    """The images of a view as one uint8 tensor (n, H, W, 3); each epoch is a seeded permutation of them.

    The tensor is on `device`, or in the machine's memory if it would take more than MAX_GPU_MEMORY_SHARE of the free
    memory of a GPU. In a mirrored view, item 2i is image i and item 2i + 1 its mirror image.
    """

    def __init__(self, view: View, seed: int, device: torch.device) -> None:
        images = torch.from_numpy(np.array(view.images))
        free_bytes = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
        self._images = images.to(device) if images.nbytes <= MAX_GPU_MEMORY_SHARE * free_bytes else images
        self._variants = 2 if view.mirror else 1
        self._seed, self._device = seed, device
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._variants * len(self._images)

    def batch(self, step: int, size: int, group: ProcessGroup = SINGLE_PROCESS) -> Tensor:
        """This process's part of the images of a step, counted from 0; `size` is that of the whole batch."""
        return self.images(group.shard(self.items(step, size)))

    def items(self, step: int, size: int) -> Tensor:
        """The indices (size,) of the items of a step, counted from 0, which may span two epochs."""
        pieces, start, count = [], step * size, size
        while count:
            epoch, position = divmod(start, len(self))
            if epoch != self._epoch:
                self._order = torch.randperm(len(self), generator=generator_for("order", self._seed, epoch))
                self._epoch = epoch
            piece = self._order[position : position + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return torch.cat(pieces)

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


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting for it, or return it if it is there already.

    A copy to a GPU goes through pinned memory and is queued; from ordinary memory it would wait for all queued work.
    """
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)

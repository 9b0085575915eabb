"""The training set, and which of it a step sees: a function of (seed, step), nothing to save.

How numbers get from the CPU to the device without anything waiting for them.
"""

import numpy as np
import torch
from torch import Tensor

from atelier.data.dataset import View
from atelier.training.distributed import ALONE, World
from atelier.training.state import generator_for


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on `device`, or the tensor itself where it is there already.

    To a GPU it goes through pinned memory, behind what is queued there already: from ordinary memory the copy would
    wait for the GPU to finish all of that first.
    """
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


ROOM = 0.4  # the training needs the rest


class ResidentData:
    """A view's pictures as one uint8 tensor (n, H, W, 3); epochs are seeded permutations of the view.

    It lies on `device`, or in the machine's memory where it would take more than ROOM of what a GPU has free. With a
    mirrored view, item 2i is picture i and item 2i + 1 its mirror image.
    """

    def __init__(self, view: View, seed: int, device: torch.device) -> None:
        pictures = torch.from_numpy(np.array(view.images))
        self._pictures = pictures.to(device) if _fits(pictures, device) else pictures
        self._views = 2 if view.mirror else 1
        self._seed, self._device = seed, device
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._views * len(self._pictures)

    def batch(self, step: int, size: int, world: World = ALONE) -> Tensor:
        """The float images (size, 3, H, W) in [−1, 1], channels last, of one step, counted from 0: this process's.

        A batch may span two epochs.
        """
        return self.pictures(world.mine(self.items(step, size)))

    def items(self, step: int, size: int) -> Tensor:
        """The numbers (size,) of the items that one step sees, counted from 0."""
        pieces, start, count = [], step * size, size
        while count:
            epoch, position = divmod(start, len(self))
            piece = self._permutation(epoch)[position : position + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return torch.cat(pieces)

    def pictures(self, items: Tensor) -> Tensor:
        """These items as float images (n, 3, H, W) in [−1, 1], channels last, on the device."""
        # picked where they lie, so that a batch is all that travels
        pixels = sent(self._pictures[sent(items // self._views, self._pictures.device)], self._device)
        if self._views == 2:
            mirrored = sent((items % 2 == 1)[:, None, None, None], self._device)
            pixels = torch.where(mirrored, pixels.flip(2), pixels)
        # (B, H, W, 3) seen as (B, 3, H, W) is channels last already
        return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._order = torch.randperm(len(self), generator=generator_for("order", self._seed, epoch))
            self._epoch = epoch
        return self._order


def _fits(pictures: Tensor, device: torch.device) -> bool:
    return device.type != "cuda" or pictures.nbytes <= ROOM * torch.cuda.mem_get_info(device)[0]

"""The training set on the device, and which of it a step sees: a function of (seed, step), nothing to save."""

import numpy as np
import torch
from torch import Tensor

from atelier.dataset import View
from atelier.training.seeds import generator_for


class ResidentData:
    """A view's pictures as one uint8 tensor (n, 3, H, W) on `device`; epochs are seeded permutations of the view.

    With a mirrored view, item 2i is picture i and item 2i + 1 its mirror image.
    """

    def __init__(self, view: View, seed: int, device: torch.device) -> None:
        pictures = torch.from_numpy(np.array(view.images)).permute(0, 3, 1, 2)
        self._pictures = pictures.to(device)
        self._views = 2 if view.mirror else 1
        self._seed, self._device = seed, device
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._views * len(self._pictures)

    def batch(self, step: int, size: int) -> Tensor:
        """The float images (size, 3, H, W) in [−1, 1] of one step, counted from 0; batches may span two epochs."""
        items = self._items(step * size, size).to(self._device)
        images = self._pictures[items // self._views].to(torch.float32).div_(127.5).sub_(1)
        if self._views == 2:
            images = torch.where((items % 2 == 1)[:, None, None, None], images.flip(3), images)
        return images.contiguous(memory_format=torch.channels_last)

    def _items(self, start: int, count: int) -> Tensor:
        pieces = []
        while count:
            epoch, position = divmod(start, len(self))
            piece = self._permutation(epoch)[position : position + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return torch.cat(pieces)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._order = torch.randperm(len(self), generator=generator_for("order", self._seed, epoch))
            self._epoch = epoch
        return self._order

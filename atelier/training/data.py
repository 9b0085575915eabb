"""The training set on the device, and which of it a step sees: a function of (seed, step), nothing to save."""

import numpy as np
import torch
from torch import Tensor

from atelier.dataset import View
from atelier.training.seeds import generator_for
from atelier.training.world import ALONE, World


class ResidentData:
    """A view's pictures as one uint8 tensor (n, H, W, 3) on `device`; epochs are seeded permutations of the view.

    With a mirrored view, item 2i is picture i and item 2i + 1 its mirror image.
    """

    def __init__(self, view: View, seed: int, device: torch.device) -> None:
        self._pictures = torch.from_numpy(np.array(view.images)).to(device)
        self._views = 2 if view.mirror else 1
        self._seed, self._device = seed, device
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._views * len(self._pictures)

    def batch(self, step: int, size: int, world: World = ALONE) -> Tensor:
        """The float images (size, 3, H, W) in [−1, 1], channels last, of one step, counted from 0: this process's.

        A batch may span two epochs.
        """
        items = world.mine(self._items(step * size, size)).to(self._device)
        pixels = self._pictures[items // self._views]
        if self._views == 2:
            pixels = torch.where((items % 2 == 1)[:, None, None, None], pixels.flip(2), pixels)
        # (B, H, W, 3) seen as (B, 3, H, W) is channels last already
        return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)

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

"""The running average of the generator, which is what paints.

What a training shows of itself: its painter, grids of samples, and a row of the quality curve.
"""

import copy
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from atelier.data.dataset import PackedDataset
from atelier.metrics.quick_panel import QuickPanel
from atelier.networks.latent_field import draw_inputs, inputs_of, render_batch
from atelier.pictures import Pixels
from atelier.pictures.sheets import write_sheet
from atelier.training.state import generator_for

POWER = 16.97  # σ_rel 0.05: the average reaches back over a twentieth of the training so far (arXiv 2312.02696 §3.1)


class Ema:
    """Keeps `average` = a running average of a network's weights and buffers.

    An exponential one's decay warms up as min(decay, (1 + t) / (10 + t)), so that a short run is not an average of
    its noise. With "power" the decay is (1 − 1/t)^(1 + POWER) at step t: it reaches back over the same share of any
    training, short or long.
    """

    def __init__(self, network: nn.Module, decay: float | Literal["power"]) -> None:
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay = decay
        self.keeps_statistics = False  # until the first update: for weights that came with their own
        self._pairs = list(
            zip(self.average.state_dict().values(), network.state_dict().values(), strict=True)
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the network after step `step`, counted from 0."""
        self.keeps_statistics = False
        weight = 1 - self._decay_at(step)
        floats = [(mine, theirs) for mine, theirs in self._pairs if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], weight)
        for mine, theirs in self._pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)

    def painter(self, latents: Iterable[Tensor]) -> nn.Module:
        """A copy of the average whose batch norms measure their statistics anew on `latents`, in eval mode.

        Averaged weights have other activations than the weights that were averaged: the statistics must be their own
        (Izmailov et al., arXiv 1803.05407 §3.2).
        """
        painter = copy.deepcopy(self.average)
        if not self.keeps_statistics:
            update_bn(latents, painter)
        return painter.eval()

    def _decay_at(self, step: int) -> float:
        if self._decay == "power":
            return float((1 - 1 / (step + 1)) ** (1 + POWER))
        return min(self._decay, (1 + step) / (10 + step))


CALIBRATION_BATCHES, CALIBRATION_BATCH = 16, 64  # latents that the painter's batch statistics are measured on

GRID_SEED, GRID_COUNT = 0, 64

QUALITY_SEED = 1

FEWEST = 32  # pictures behind a row: with few held-out paintings, coverage is a mean over several groups of pictures


class Showing:
    """Looks at the averaged generator, always with the same latents, and compares it with held-out paintings."""

    def __init__(self, ema: Ema, dataset: PackedDataset, samples: int, device: torch.device) -> None:
        self._ema, self._device = ema, device
        self._dataset, self._samples = dataset, samples
        self._panel: QuickPanel | None = None
        self._painter: nn.Module | None = None
        self._painter_of: list[torch.Tensor] = []

    def painter(self) -> nn.Module:
        """The averaged generator as it paints, with batch statistics of its own, in eval mode.

        Its statistics are measured on 1,024 latents, so the same weights get the same painter without measuring again.
        """
        state = [torch.tensor(self._ema.keeps_statistics), *self._ema.average.state_dict().values()]
        if self._painter is None or not all(map(torch.equal, state, self._painter_of)):
            self._painter, self._painter_of = self._measured(), [tensor.clone() for tensor in state]
        return self._painter

    def _measured(self) -> nn.Module:
        generators = (generator_for("calibrate", index) for index in range(CALIBRATION_BATCHES))
        return self._ema.painter(
            torch.randn(CALIBRATION_BATCH, inputs_of(self._ema.average), generator=generator).to(self._device)
            for generator in generators
        )

    def draw_grid(self, path: Path, batch: int) -> None:
        """Write a sheet of samples."""
        write_sheet(path, self._paint(GRID_SEED, GRID_COUNT, batch))

    def quality(self, batch: int) -> dict[str, float]:
        """The quality curve's columns except kimg, of pictures painted `batch` at a time.

        There are as many pictures as held-out paintings, but at least FEWEST and at most `samples`.
        """
        training, held_out = self._dataset.train.images, self._dataset.held_out.images
        if self._panel is None:
            self._panel = QuickPanel(training, held_out, self._device, QUALITY_SEED)
        count = min(self._samples, max(FEWEST, len(held_out)))
        return asdict(self._panel.scores(self._paint(QUALITY_SEED, count, batch)))

    def _paint(self, seed: int, count: int, batch: int) -> Pixels:
        """Pictures of the painter, always the same latents: (count, H, W, 3)."""
        painter = self.painter()
        z = torch.cat([draw_inputs(painter, seed, index) for index in range(count)])
        return np.concatenate([render_batch(painter, part) for part in torch.split(z, batch)])

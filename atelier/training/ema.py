"""The running average of the generator, which is the generator that paints, and previews of it during training.

`torch.optim.swa_utils.AveragedModel` is not used: its first update copies the weights instead of averaging them, and
each update copies a counter to the GPU, which waits until the GPU has finished the step.
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
from atelier.metrics.distances import QuickPanel
from atelier.networks.latent_field import draw_inputs, inputs_of, render_batch
from atelier.pictures import Pixels
from atelier.pictures.sheets import write_sheet
from atelier.training.state import generator_for

POWER = 16.97  # σ_rel 0.05: the average covers about a twentieth of the training so far (arXiv 2312.02696 §3.1)

CALIBRATION_BATCHES, CALIBRATION_BATCH = 16, 64  # latents on which batch norm statistics are measured
SHEET_SEED, SHEET_COUNT = 0, 64
QUALITY_SEED = 1
MIN_QUALITY_IMAGES = 32  # with few held-out paintings, coverage is a mean over several groups of images


class Ema:
    """Keeps `average`, a running average of a network's weights and buffers.

    Args:
        network: the network that is trained.
        decay: of an exponential average, which warms up as min(decay, (1 + t) / (10 + t)) at step t, so that a short
            training is not an average of its noise. With "power" it is (1 − 1/t)^(1 + POWER), which covers the same
            share of a short and of a long training.
    """

    def __init__(self, network: nn.Module, decay: float | Literal["power"]) -> None:
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay = decay
        # True for a loaded model until the first update: its batch norm statistics belong to its weights
        self.has_own_statistics = False
        self._pairs = list(zip(self.average.state_dict().values(), network.state_dict().values(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the network after step `step`, counted from 0."""
        self.has_own_statistics = False
        weight = 1 - self._decay_at(step)
        floats = [pair for pair in self._pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floats], [current for _, current in floats], weight)
        for average, current in self._pairs:
            if not average.is_floating_point():
                average.copy_(current)

    def calibrated(self, latents: Iterable[Tensor]) -> nn.Module:
        """A copy of the average, in eval mode, whose batch norm statistics are measured on `latents`.

        Averaged weights produce other activations than the weights that were averaged, so averaged statistics would not
        fit them (Izmailov et al., arXiv 1803.05407 §3.2).
        """
        network = copy.deepcopy(self.average)
        if not self.has_own_statistics:
            update_bn(latents, network)
        return network.eval()

    def _decay_at(self, step: int) -> float:
        if self._decay == "power":
            return float((1 - 1 / (step + 1)) ** (1 + POWER))
        return min(self._decay, (1 + step) / (10 + step))


class Previews:
    """Sheets and quality scores of the averaged generator during training, always with the same latents.

    Args:
        ema: the average.
        dataset: its held-out paintings are what generated images are compared with.
        samples: at most this many images are compared.
        device: the device of the networks.
    """

    def __init__(self, ema: Ema, dataset: PackedDataset, samples: int, device: torch.device) -> None:
        self._ema, self._device = ema, device
        self._dataset, self._samples = dataset, samples
        self._panel: QuickPanel | None = None
        self._generator: nn.Module | None = None
        self._calibrated_for: list[Tensor] = []

    def generator(self) -> nn.Module:
        """The averaged generator, in eval mode, with batch norm statistics measured on 1,024 latents.

        The result is kept until the average changes.
        """
        state = [torch.tensor(self._ema.has_own_statistics), *self._ema.average.state_dict().values()]
        if self._generator is None or not all(map(torch.equal, state, self._calibrated_for)):
            self._generator = self._ema.calibrated(self._calibration_latents())
            self._calibrated_for = [tensor.clone() for tensor in state]
        return self._generator

    def draw_sheet(self, path: Path, batch: int) -> None:
        """Write a sheet of 64 images, generated `batch` at a time."""
        write_sheet(path, self._generate(SHEET_SEED, SHEET_COUNT, batch))

    def quality(self, batch: int) -> dict[str, float]:
        """The columns of quality.csv except kimg, of images generated `batch` at a time.

        There are as many images as held-out paintings, but at least MIN_QUALITY_IMAGES and at most `samples`.
        """
        training, held_out = self._dataset.train.images, self._dataset.held_out.images
        if self._panel is None:
            self._panel = QuickPanel(training, held_out, self._device, QUALITY_SEED)
        count = min(self._samples, max(MIN_QUALITY_IMAGES, len(held_out)))
        return asdict(self._panel.scores(self._generate(QUALITY_SEED, count, batch)))

    def _calibration_latents(self) -> Iterable[Tensor]:
        for index in range(CALIBRATION_BATCHES):
            generator = generator_for("calibrate", index)
            latents = torch.randn(CALIBRATION_BATCH, inputs_of(self._ema.average), generator=generator)
            yield latents.to(self._device)

    def _generate(self, seed: int, count: int, batch: int) -> Pixels:
        """The images of this seed: (count, H, W, 3)."""
        generator = self.generator()
        z = torch.cat([draw_inputs(generator, seed, index) for index in range(count)])
        return np.concatenate([render_batch(generator, part) for part in torch.split(z, batch)])

"""What a training shows of itself: its painter, grids of samples, and a row of the quality curve."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from atelier.canvas.render import inputs, inputs_of, render_batch
from atelier.data.dataset import PackedDataset
from atelier.metrics.panel import QuickPanel
from atelier.pictures.sheets import write_sheet
from atelier.training.ema import Ema
from atelier.training.seeds import generator_for

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

    def _paint(self, seed: int, count: int, batch: int) -> npt.NDArray[np.uint8]:
        """Pictures of the painter, always the same latents: (count, H, W, 3)."""
        painter = self.painter()
        z = torch.cat([inputs(painter, seed, index) for index in range(count)])
        return np.concatenate([render_batch(painter, part) for part in torch.split(z, batch)])

"""What a training shows of itself: its painter, grids of samples, and a row of the quality curve."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from atelier.canvas.rendering import latents, render_batch
from atelier.dataset import View
from atelier.pictures.sheets import write_sheet
from atelier.quality import RandomFeatures, Reference, glance
from atelier.training.ema import Ema
from atelier.training.seeds import generator_for

CALIBRATION_BATCHES, CALIBRATION_BATCH = 16, 64  # latents that the painter's batch statistics are measured on
GRID_SEED, GRID_COUNT = 0, 64
QUALITY_SEED = 1


class Showing:
    """Looks at the averaged generator, always with the same latents, and compares it with held-out paintings."""

    def __init__(self, ema: Ema, nz: int, held_out: View, samples: int, device: torch.device) -> None:
        self._ema, self._nz, self._device = ema, nz, device
        self._held_out, self._samples = held_out, samples
        self._reference: Reference | None = None

    def painter(self) -> nn.Module:
        """The averaged generator as it paints, with batch statistics of its own, in eval mode."""
        generators = (generator_for("calibrate", index) for index in range(CALIBRATION_BATCHES))
        return self._ema.painter(
            torch.randn(CALIBRATION_BATCH, self._nz, generator=generator).to(self._device)
            for generator in generators
        )

    def draw_grid(self, path: Path, batch: int) -> None:
        """Write a sheet of samples."""
        write_sheet(path, self._paint(GRID_SEED, GRID_COUNT, batch))

    def quality(self, batch: int) -> dict[str, float]:
        """The quality curve's columns but kimg."""
        features = RandomFeatures(self._device)
        if self._reference is None:
            self._reference = Reference.of(features(self._held_out.images[: self._samples]))
        painted = features(self._paint(QUALITY_SEED, self._samples, batch))
        return asdict(glance(self._reference, painted, QUALITY_SEED))

    def _paint(self, seed: int, count: int, batch: int) -> npt.NDArray[np.uint8]:
        """Pictures of the painter, always the same latents: (count, H, W, 3)."""
        painter = self.painter()
        z = torch.cat([latents(seed, index, self._nz) for index in range(count)])
        return np.concatenate([render_batch(painter, part) for part in torch.split(z, batch)])

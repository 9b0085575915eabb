"""Training the upscaler on patches of paintings and their degraded small versions.

A training that is stopped at any step goes on from its saved state to the same weights as one that is not.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.pictures import Pixels
from atelier.progress import Progress
from atelier.training.optimizers import Muon
from atelier.training.state import TrainingState, generator_for, load_state, save_state
from atelier.upscaling.data import degrade
from atelier.upscaling.network import SRVGGNetCompact

SAVE_INTERVAL_S = 5.0  # at most this much work is lost to kill -9
REPORT_STEPS = 20  # between two times that the loss is copied from the device for the progress line
MAX_GRADIENT_NORM = 1.0
DIVERGED = "the upscaler's loss is no longer a number: lower train_upscaler.lr"
CANDIDATES = 2  # squares of a painting of which the one with most contrast is learned from


@dataclass(frozen=True)
class UpscalerConfig:
    """The settings of a training, from params.yaml's section `train_upscaler`."""

    scale: int
    steps: int
    features: int
    blocks: int
    patch_px: int
    batch: int
    lr: float
    blur_px: float
    seed: int


class UpscalerTrainer:
    """Trains one upscaler on one device with `pictures` (H, W, 3), none smaller than an enlarged patch.

    The resumable state is kept in the file `state`.
    """

    def __init__(self, config: UpscalerConfig, pictures: Sequence[Pixels], device: torch.device, state: Path) -> None:
        self.config, self.device = config, device
        self._pictures, self._path = pictures, state
        self.network = make_upscaler(config).to(device).to(memory_format=torch.channels_last)
        hidden, others = _split_parameters(self.network)
        self._muon = Muon(hidden, config.lr)
        self._adamw = torch.optim.AdamW(others, config.lr, betas=(0.9, 0.99), fused=True)
        self.step = 0

    def resume(self) -> bool:
        """Load the saved state; False if there is none."""
        loaded = load_state(self._path, self._state())
        if loaded:
            self.step, _ = loaded
        return loaded is not None

    def train(self, progress: Progress, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the last step, or until `stop()` returns true between two steps; return whether it was reached.

        The state is saved in both cases. Raises AtelierError if the loss is no longer a number.
        """
        saved_s = time.monotonic()
        while self.step < self.config.steps and not stop():
            loss = self._train_step()
            progress.update(self.step, _loss_note(loss) if self.step % REPORT_STEPS == 0 else "")
            if time.monotonic() - saved_s >= SAVE_INTERVAL_S:
                self._save_finite()
                saved_s = time.monotonic()
        self._save_finite()
        return self.step >= self.config.steps

    def save(self) -> None:
        """Write the resumable state of this step."""
        save_state(self._path, self.step, self._state())

    def _save_finite(self) -> None:
        """Save the state; with weights that are not finite keep the last one and raise AtelierError."""
        norms = torch.stack(torch._foreach_norm(list(self.network.parameters())))
        if not norms.isfinite().all():
            raise AtelierError(DIVERGED)
        self.save()

    def _train_step(self) -> Tensor:
        large, small = (part.to(self.device) for part in sample_batch(self.config, self._pictures, self.step))
        loss = charbonnier(self.network(small.contiguous(memory_format=torch.channels_last)), large)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        for optimizer in (self._muon, self._adamw):
            optimizer.param_groups[0]["lr"] = learning_rate(self.config, self.step)
            optimizer.step()
        self.step += 1
        return loss.detach()

    def _state(self) -> TrainingState:
        optimizers = {"muon": (self._muon, self.network), "adamw": (self._adamw, self.network)}
        return TrainingState({"upscaler": self.network}, optimizers)


def make_upscaler(config: UpscalerConfig) -> SRVGGNetCompact:
    """The untrained network, which enlarges nearly by nearest neighbours because its last layer starts small.

    The other layers start near the identity, so that the picture passes through eight of them without shortcuts.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the same initial weights on every device
        network = SRVGGNetCompact(config.scale, config.features, config.blocks)
    *convolutions, last = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    assert last.bias is not None
    with torch.no_grad():
        for layer in convolutions:
            layer.weight.mul_(0.5).add_(nn.init.dirac_(torch.empty_like(layer.weight)))
        last.weight.mul_(0.1)
        last.bias.zero_()
    return network


def sample_batch(config: UpscalerConfig, pictures: Sequence[Pixels], step: int) -> tuple[Tensor, Tensor]:
    """The large patches (B, 3, H, W) of one step and their degraded small versions, a function of seed and step.

    A painting is drawn with a probability proportional to its area, so that all patches are seen equally often.
    """
    random = generator_for("upscaler", config.seed, step)
    side = config.patch_px * config.scale
    areas = torch.tensor([float(picture.shape[0] * picture.shape[1]) for picture in pictures])
    chosen = torch.multinomial(areas, config.batch, replacement=True, generator=random).tolist()
    places = torch.rand(config.batch, CANDIDATES, 2, generator=random, dtype=torch.float64).tolist()
    turns = torch.randint(8, (config.batch,), generator=random).tolist()
    patches = [
        _symmetric(_most_contrast(pictures[index], candidates, side), turn)
        for index, candidates, turn in zip(chosen, places, turns, strict=True)
    ]
    large = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return large, degrade(large, config.scale, config.blur_px, random)


def learning_rate(config: UpscalerConfig, step: int) -> float:
    """Learning rate of a step: from `config.lr` to 0 along a half cosine."""
    return config.lr * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def charbonnier(result: Tensor, wanted: Tensor) -> Tensor:
    """Charbonnier loss: the mean absolute error, smooth near zero."""
    return torch.sqrt((result - wanted) ** 2 + 1e-6).mean()


def _split_parameters(network: SRVGGNetCompact) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The kernels of the hidden layers (for Muon), and all other parameters (for AdamW)."""
    inner = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    inner -= {"body.0.weight", f"body.{len(network.body) - 1}.weight"}
    named = list(network.named_parameters())
    return [kernel for name, kernel in named if name in inner], [other for name, other in named if name not in inner]


def _most_contrast(picture: Pixels, places: list[list[float]], side: int) -> Pixels:
    """The square with most contrast among those at `places`; plain areas contain little to learn."""
    return max((_crop(picture, place, side) for place in places), key=np.std)


def _crop(picture: Pixels, place: list[float], side: int) -> Pixels:
    top = int(place[0] * (picture.shape[0] - side + 1))
    left = int(place[1] * (picture.shape[1] - side + 1))
    return picture[top : top + side, left : left + side]


def _symmetric(patch: Pixels, turn: int) -> Pixels:
    """Apply one of the square's eight symmetries."""
    return np.rot90(patch if turn < 4 else patch[:, ::-1], turn % 4)


def _loss_note(loss: Tensor) -> str:
    value = float(loss)
    if not math.isfinite(value):
        raise AtelierError(DIVERGED)
    return f"loss {value:.4f}"

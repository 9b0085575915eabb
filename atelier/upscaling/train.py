"""Training the upscaler: patches of paintings against their small versions, with an exact way back into the middle."""

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
from atelier.training.muon import Muon
from atelier.training.state import TrainingState, generator_for, load_state, save_state
from atelier.upscaling.data import degrade
from atelier.upscaling.network import SRVGGNetCompact

SAVE_INTERVAL_S = 5.0  # at most this much work is lost to kill -9
LOOK_STEPS = 20  # how often the loss leaves the device for the progress line
CLIP = 1.0
DIVERGED = "the upscaler's loss is no number any more: lower train_upscaler.lr"
LOOKED_AT = 2  # squares of a painting for each one learned from


@dataclass(frozen=True)
class UpscalerPlan:
    """What is trained and how, as params.yaml's `train_upscaler` describes it."""

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
    """One upscaler on one device, learning from `pictures` (H, W, 3), none smaller than an enlarged patch.

    The state lies in the file `state`; `network` after `train` is the same, stopped in between or not.
    """

    def __init__(
        self, plan: UpscalerPlan, pictures: Sequence[Pixels], device: torch.device, state: Path
    ) -> None:
        self.plan, self.device = plan, device
        self._pictures, self._path = pictures, state
        self.network = make_upscaler(plan).to(device).to(memory_format=torch.channels_last)
        hidden, others = _shared_out(self.network)
        self._muon = Muon(hidden, plan.lr)
        self._adamw = torch.optim.AdamW(others, plan.lr, betas=(0.9, 0.99), fused=True)
        self.step = 0

    def resume(self) -> bool:
        """Go back to the saved state; False where there is none."""
        loaded = load_state(self._path, self._state())
        if loaded:
            self.step, _ = loaded
        return loaded is not None

    def train(self, progress: Progress, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the plan's end, or until `stop()` says so between two steps; whether the end was reached.

        Either way the state is saved. Raises AtelierError where the loss is no longer a number.
        """
        saved_s = time.monotonic()
        while self.step < self.plan.steps and not stop():
            loss = self._advance()
            progress.update(self.step, _note(loss) if self.step % LOOK_STEPS == 0 else "")
            if time.monotonic() - saved_s >= SAVE_INTERVAL_S:
                self._save_finite()
                saved_s = time.monotonic()
        self._save_finite()
        return self.step >= self.plan.steps

    def save(self) -> None:
        """Write the resumable state of this step."""
        save_state(self._path, self.step, self._state())

    def _save_finite(self) -> None:
        """Save, unless the weights are no numbers: then the last good state stays, and AtelierError is raised."""
        norms = torch.stack(torch._foreach_norm(list(self.network.parameters())))
        if not norms.isfinite().all():
            raise AtelierError(DIVERGED)
        self.save()

    def _advance(self) -> Tensor:
        large, small = (part.to(self.device) for part in draw_batch(self.plan, self._pictures, self.step))
        loss = charbonnier(self.network(small.contiguous(memory_format=torch.channels_last)), large)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        for optimizer in (self._muon, self._adamw):
            optimizer.param_groups[0]["lr"] = learning_rate(self.plan, self.step)
            optimizer.step()
        self.step += 1
        return loss.detach()

    def _state(self) -> TrainingState:
        optimizers = {"muon": (self._muon, self.network), "adamw": (self._adamw, self.network)}
        return TrainingState({"upscaler": self.network}, optimizers)


def make_upscaler(plan: UpscalerPlan) -> SRVGGNetCompact:
    """The untrained network: nearly the nearest-neighbour enlargement, since its last layer starts small.

    The others start near the identity, so that eight of them without shortcuts still see the picture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)  # weights are drawn on the CPU, the same for every device
        network = SRVGGNetCompact(plan.scale, plan.features, plan.blocks)
    *convolutions, last = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    assert last.bias is not None
    with torch.no_grad():
        for layer in convolutions:
            layer.weight.mul_(0.5).add_(nn.init.dirac_(torch.empty_like(layer.weight)))
        last.weight.mul_(0.1)
        last.bias.zero_()
    return network


def draw_batch(plan: UpscalerPlan, pictures: Sequence[Pixels], step: int) -> tuple[Tensor, Tensor]:
    """The large patches of one step and their degraded small versions: a function of (seed, step).

    A painting is drawn by its area, so that a small one is not learned by heart while a large one is hardly seen.
    """
    draws = generator_for("upscaler", plan.seed, step)
    side = plan.patch_px * plan.scale
    areas = torch.tensor([float(picture.shape[0] * picture.shape[1]) for picture in pictures])
    chosen = torch.multinomial(areas, plan.batch, replacement=True, generator=draws).tolist()
    places = torch.rand(plan.batch, LOOKED_AT, 2, generator=draws, dtype=torch.float64).tolist()
    turns = torch.randint(8, (plan.batch,), generator=draws).tolist()
    patches = [
        _turned(_richest(pictures[index], looked_at, side), turn)
        for index, looked_at, turn in zip(chosen, places, turns, strict=True)
    ]
    large = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return large, degrade(large, plan.scale, plan.blur_px, draws)


def learning_rate(plan: UpscalerPlan, step: int) -> float:
    """From `plan.lr` down to nothing along a cosine."""
    return plan.lr * 0.5 * (1 + math.cos(math.pi * step / plan.steps))


def charbonnier(result: Tensor, wanted: Tensor) -> Tensor:
    """The mean absolute error, rounded off near zero."""
    return torch.sqrt((result - wanted) ** 2 + 1e-6).mean()


def _shared_out(network: SRVGGNetCompact) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The kernels between the hidden layers, and everything else: both ends, the biases and the slopes."""
    inner = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    inner -= {"body.0.weight", f"body.{len(network.body) - 1}.weight"}
    named = list(network.named_parameters())
    return [kernel for name, kernel in named if name in inner], [
        other for name, other in named if name not in inner
    ]


def _richest(picture: Pixels, places: list[list[float]], side: int) -> Pixels:
    """Of the squares at these places the one with most contrast: plain skies teach little."""
    return max((_cut(picture, place, side) for place in places), key=np.std)


def _cut(picture: Pixels, place: list[float], side: int) -> Pixels:
    top = int(place[0] * (picture.shape[0] - side + 1))
    left = int(place[1] * (picture.shape[1] - side + 1))
    return picture[top : top + side, left : left + side]


def _turned(patch: Pixels, turn: int) -> Pixels:
    """One of the square's eight symmetries."""
    return np.rot90(patch if turn < 4 else patch[:, ::-1], turn % 4)


def _note(loss: Tensor) -> str:
    value = float(loss)
    if not math.isfinite(value):
        raise AtelierError(DIVERGED)
    return f"loss {value:.4f}"

"""Training the upscaler on patches of paintings and their degraded small versions, and comparing it with Lanczos.

A training that is stopped at any step goes on from its saved state to the same weights as one that is not. The metrics
are those of super-resolution papers, of held-out paintings.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from atelier.errors import AtelierError
from atelier.pictures import Pixels
from atelier.progress import Progress
from atelier.settings.schema import TrainUpscaler
from atelier.training.optimizers import Muon
from atelier.training.state import TrainingState, generator_for, load_state, save_state
from atelier.upscaling.data import degrade
from atelier.upscaling.network import SRVGGNetCompact, enlarge, enlarge_lanczos

T = TypeVar("T")

SAVE_INTERVAL_S = 5.0  # at most this much work is lost to kill -9
REPORT_STEPS = 20  # between two times that the loss is copied from the device for the progress line
MAX_GRADIENT_NORM = 1.0
DIVERGED = "the upscaler's loss is no longer a number: lower train_upscaler.lr"
# Batches that threads draw in advance, by the kind of device. Drawing one of the presets for a GPU takes 30 ms of a
# core, which may be longer than the step; on a CPU it is a hundredth of the step, and threads would take its cores.
DRAWN_AHEAD: Mapping[str, int] = {"cuda": 8}
DRAWING_THREADS = 4
CANDIDATES = 2  # squares of a painting of which the one with most contrast is learned from
LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # BT.601, as in super-resolution papers


class UpscalerTrainer:
    """Trains one upscaler on pictures (H, W, 3), none smaller than a large patch; `state` is the resumable state."""

    def __init__(self, config: TrainUpscaler, pictures: Sequence[Pixels], device: torch.device, state: Path) -> None:
        self.config, self.device = config, device
        self._pictures, self._path = pictures, state
        self.network = make_upscaler(config).to(device).to(memory_format=torch.channels_last)
        hidden, others = _split_parameters(self.network)
        self._muon = Muon(hidden, config.lr)
        self._adamw = torch.optim.AdamW(others, config.lr, betas=(0.9, 0.99), fused=True)
        self.step = 0

    def resume(self) -> bool:
        """Load the saved state; False if there is none."""
        if loaded := load_state(self._path, self._state()):
            self.step, _ = loaded
        return loaded is not None

    def train(self, progress: Progress, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the last step or until `stop()` returns true, and save; return whether the end was reached."""
        saved_s = time.monotonic()
        steps, ahead = range(self.step, self.config.steps), DRAWN_AHEAD.get(self.device.type, 0)
        with drawn_ahead(self._draw, steps, ahead) as batches:
            while self.step < self.config.steps and not stop():
                loss = self._train_step(*next(batches))
                note = ""
                if self.step % REPORT_STEPS == 0:
                    if not math.isfinite(value := float(loss)):
                        raise AtelierError(DIVERGED)
                    note = f"loss {value:.4f}"
                progress.update(self.step, note)
                if time.monotonic() - saved_s >= SAVE_INTERVAL_S:
                    self._save()
                    saved_s = time.monotonic()
        self._save()
        return self.step >= self.config.steps

    def _save(self) -> None:
        """Save the state; with weights that are not finite keep the last one and raise AtelierError."""
        norms = torch.stack(torch._foreach_norm(list(self.network.parameters())))
        if not norms.isfinite().all():
            raise AtelierError(DIVERGED)
        save_state(self._path, self.step, self._state())

    def _draw(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step; for CUDA in pinned memory, from which a copy does not wait for the device."""
        large, small = sample_batch(self.config, self._pictures, step)
        return (large.pin_memory(), small.pin_memory()) if self.device.type == "cuda" else (large, small)

    def _train_step(self, large: Tensor, small: Tensor) -> Tensor:
        large, small = (part.to(self.device, non_blocking=True) for part in (large, small))
        result = self.network(small.contiguous(memory_format=torch.channels_last))
        loss = torch.sqrt((result - large) ** 2 + 1e-6).mean()  # Charbonnier's: the absolute error, smooth near zero
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


def make_upscaler(config: TrainUpscaler) -> SRVGGNetCompact:
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


def sample_batch(config: TrainUpscaler, pictures: Sequence[Pixels], step: int) -> tuple[Tensor, Tensor]:
    """The large patches (B, 3, H, W) of one step and their degraded small versions, a function of seed and step.

    A painting is drawn with a probability proportional to its area, so that all patches are seen equally often.
    """
    random = generator_for("upscaler", config.seed, step)
    side = config.patch_px * config.scale
    areas = torch.tensor([float(picture.shape[0] * picture.shape[1]) for picture in pictures])
    chosen = torch.multinomial(areas, config.batch, replacement=True, generator=random).tolist()
    places = torch.rand(config.batch, CANDIDATES, 2, generator=random, dtype=torch.float64).tolist()
    turns = torch.randint(8, (config.batch,), generator=random).tolist()
    patches = []
    for index, candidates, turn in zip(chosen, places, turns, strict=True):  # a turn is one of a square's 8 symmetries
        squares = []
        for place in candidates:
            height, width, _ = pictures[index].shape
            top, left = int(place[0] * (height - side + 1)), int(place[1] * (width - side + 1))
            squares.append(pictures[index][top : top + side, left : left + side])
        patch = max(squares, key=np.std)  # plain areas contain little to learn
        patches.append(np.rot90(patch if turn < 4 else patch[:, ::-1], turn % 4))
    large = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return large, degrade(large, config.scale, config.blur_px, random)


@contextmanager
def drawn_ahead(draw: Callable[[int], T], steps: range, ahead: int) -> Iterator[Iterator[T]]:
    """An iterator over `draw(step)` for all `steps` in order, of which threads draw up to `ahead` in advance.

    An error of `draw` is raised where its batch is taken. At the end of the context no thread draws any more.
    """
    if not ahead:
        yield map(draw, steps)
        return
    pool = ThreadPoolExecutor(min(ahead, DRAWING_THREADS), "draw")

    def drawn() -> Iterator[T]:
        waiting = deque(pool.submit(draw, step) for step in steps[:ahead])
        for step in steps[ahead:]:
            yield waiting.popleft().result()
            waiting.append(pool.submit(draw, step))
        yield from (future.result() for future in waiting)

    try:
        yield drawn()
    finally:
        pool.shutdown(cancel_futures=True)


def learning_rate(config: TrainUpscaler, step: int) -> float:
    """Learning rate of a step: from `config.lr` to 0 along a half cosine."""
    return config.lr * 0.5 * (1 + math.cos(math.pi * step / config.steps))


Compared = dict[str, dict[str, dict[str, float]]]  # by metric; by "ours", "lanczos" and "gain"; by mean, min and max


def evaluate_upscaler(network: SRVGGNetCompact, pictures: Sequence[Pixels], scale: int) -> Compared:
    """Compare the network with Lanczos at `scale` on pictures (H, W, 3) that are shrunk and enlarged again.

    Metrics of the luma: `psnr_y` and `ssim` (higher is better) and `gradient_error` (lower is better).
    """
    ours, lanczos = [], []
    for picture in pictures:
        large = crop_to_multiple(picture, scale)
        small = shrink_bicubic(large, scale)
        ours.append(_metrics(enlarge(network, small, scale), large, scale))
        lanczos.append(_metrics(enlarge_lanczos(small, scale), large, scale))
    compared: Compared = {}
    for name in ours[0]:
        a, b = [metrics[name] for metrics in ours], [metrics[name] for metrics in lanczos]
        gains = [first - second for first, second in zip(a, b, strict=True)]
        compared[name] = {"ours": _summary(a), "lanczos": _summary(b), "gain": _summary(gains)}
    return compared


def crop_to_multiple(picture: Pixels, scale: int) -> Pixels:
    """Crop a picture to sides that are multiples of `scale`."""
    height, width, _ = picture.shape
    return picture[: height // scale * scale, : width // scale * scale]


def shrink_bicubic(picture: Pixels, scale: int) -> Pixels:
    """Shrink a picture by `scale`, bicubically as super-resolution papers do."""
    height, width, _ = picture.shape
    size = width // scale, height // scale
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def psnr_y(result: Pixels, wanted: Pixels, scale: int) -> float:
    """PSNR of the luma in dB, without the outermost `scale` pixels."""
    a, b = _lumas(result, wanted, scale)
    return float(-10 * torch.log10(functional.mse_loss(a, b)))


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity of two planes (1, 1, H, W) with values from 0 to 1, as torchmetrics computes it.

    The window is that of the paper (Wang and others, 2004): Gaussian, 11 px, σ = 1.5 px, with reflected borders.
    Importing torchmetrics takes longer than importing torch, so only the tests use it, to compare the two.
    """
    offsets = torch.arange(-5.0, 6.0)
    weights = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(weights, weights)[None, None] / weights.sum() ** 2
    a, b = (functional.pad(plane, (5, 5, 5, 5), mode="reflect") for plane in (a, b))
    planes = torch.cat([a, b, a * a, b * b, a * b])
    mean_a, mean_b, square_a, square_b, product = functional.conv2d(planes, window)
    variance_a, variance_b = (square_a - mean_a**2).clamp(min=0), (square_b - mean_b**2).clamp(min=0)
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * (product - mean_a * mean_b) + 0.03**2) / (variance_a + variance_b + 0.03**2)
    return float((luminance * structure).mean())


def _split_parameters(network: SRVGGNetCompact) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The kernels of the hidden layers (for Muon), and all other parameters (for AdamW)."""
    inner = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    inner -= {"body.0.weight", f"body.{len(network.body) - 1}.weight"}
    named = list(network.named_parameters())
    return [kernel for name, kernel in named if name in inner], [other for name, other in named if name not in inner]


def _metrics(result: Pixels, wanted: Pixels, scale: int) -> dict[str, float]:
    a, b = _lumas(result, wanted, scale)
    gradients = [(a.diff(dim=axis) - b.diff(dim=axis)).abs().mean() for axis in (2, 3)]
    return {
        "psnr_y": psnr_y(result, wanted, scale),
        "ssim": ssim(a, b),
        "gradient_error": float(sum(gradients)) * 255 / 2,
    }


def _lumas(result: Pixels, wanted: Pixels, scale: int) -> list[Tensor]:
    """The luma of both, (1, 1, H, W), without the outermost `scale` pixels."""
    lumas = []
    for pixels in (result, wanted):
        images = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(torch.float32) / 255
        luma = (images * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True) + 16 / 255
        lumas.append(luma[..., scale:-scale, scale:-scale])
    return lumas


def _summary(values: list[float]) -> dict[str, float]:
    """Mean and range over several paintings."""
    return {"mean": round(fmean(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}

"""Compare the upscaler with Lanczos on held-out paintings, in the metrics of super-resolution papers."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from atelier.pictures import Pixels
from atelier.upscaling.enlarge import enlarge_lanczos
from atelier.upscaling.network import SRVGGNetCompact, enlarge

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # BT.601, as in super-resolution papers


@dataclass(frozen=True)
class Summary:
    """Mean and range of one metric over several paintings."""

    mean: float
    min: float
    max: float


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of the upscaler, of Lanczos, and of their difference for each painting."""

    ours: Summary
    lanczos: Summary
    gain: Summary


def evaluate_upscaler(network: SRVGGNetCompact, pictures: Sequence[Pixels], scale: int) -> dict[str, ComparedMetric]:
    """Compare the network with Lanczos at `scale` on pictures (H, W, 3) that are shrunk and enlarged again.

    Metrics of the luma: `psnr_y` and `ssim` (higher is better) and `gradient_error` (lower is better).
    """
    ours, lanczos = [], []
    for picture in pictures:
        large = crop_to_multiple(picture, scale)
        small = shrink_bicubic(large, scale)
        ours.append(_metrics(enlarge(network, small, scale), large, scale))
        lanczos.append(_metrics(enlarge_lanczos(small, scale), large, scale))
    return {name: _compared([f[name] for f in ours], [f[name] for f in lanczos]) for name in ours[0]}


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

    The window is that of the paper (Wang and others, 2004): Gaussian, 11 px, σ = 1.5 px. The planes are reflected at
    their borders. It is computed here because importing torchmetrics takes longer than importing torch; the tests
    compare the two.
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


def _metrics(result: Pixels, wanted: Pixels, scale: int) -> dict[str, float]:
    a, b = _lumas(result, wanted, scale)
    gradients = [(a.diff(dim=axis) - b.diff(dim=axis)).abs().mean() for axis in (2, 3)]
    return {
        "psnr_y": psnr_y(result, wanted, scale),
        "ssim": ssim(a, b),
        "gradient_error": float(sum(gradients)) * 255 / 2,
    }


def _lumas(result: Pixels, wanted: Pixels, scale: int) -> tuple[Tensor, Tensor]:
    return _luma(result)[..., scale:-scale, scale:-scale], _luma(wanted)[..., scale:-scale, scale:-scale]


def _luma(pixels: Pixels) -> Tensor:
    images = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(torch.float32) / 255
    return (images * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True) + 16 / 255


def _compared(ours: list[float], lanczos: list[float]) -> ComparedMetric:
    gains = [a - b for a, b in zip(ours, lanczos, strict=True)]
    return ComparedMetric(_summary(ours), _summary(lanczos), _summary(gains))


def _summary(values: list[float]) -> Summary:
    return Summary(*(round(number, 4) for number in (fmean(values), min(values), max(values))))

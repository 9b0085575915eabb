"""The upscaler compared with Lanczos on held-out paintings: as numbers, and as a sheet of details side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from atelier.pictures import Pixels
from atelier.pictures.sheets import Panel, write_panels
from atelier.upscaling.enlarge import enlarge_lanczos
from atelier.upscaling.network import SRVGGNetCompact, enlarge

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # BT.601, as in super-resolution papers
SHEET_PAINTINGS = 5  # the largest ones
DETAIL_PX, PANEL_PX = 144, 288  # side of the square cut from the enlarged picture, and of its panel
COLUMNS = 4


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


def evaluate_upscaler(
    network: SRVGGNetCompact, pictures: Sequence[Pixels], scale: int
) -> dict[str, ComparedMetric]:
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


def write_comparison(path: Path, network: SRVGGNetCompact, pictures: Sequence[Pixels], scale: int) -> None:
    """Write a PNG with the most detailed square of each painting (H, W, 3), shrunk and enlarged in three ways."""
    chosen = sorted(pictures, key=lambda picture: -min(picture.shape[:2]))[:SHEET_PAINTINGS]
    heading = f"Paintings the upscaler never saw, made {scale} times smaller and enlarged {scale} times again"
    rows = [_panels(network, picture, scale) for picture in chosen]
    write_panels(path, heading, [panel for row in rows for panel in row], COLUMNS)


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


def _panels(network: SRVGGNetCompact, picture: Pixels, scale: int) -> list[Panel]:
    large = crop_to_multiple(picture, scale)
    small = shrink_bicubic(large, scale)
    lanczos, ours = enlarge_lanczos(small, scale), enlarge(network, small, scale)
    part = _most_detailed(small, max(DETAIL_PX // scale, 1), scale)
    before, now = psnr_y(lanczos, large, scale), psnr_y(ours, large, scale)
    return [
        Panel("nearest neighbours", ("what there is to start from",), _framed(_nearest(small, scale)[part])),
        Panel("Lanczos", (f"{before:.2f} dB",), _framed(lanczos[part])),
        Panel("ours", (f"{now:.2f} dB, {now - before:+.2f} over Lanczos",), _framed(ours[part])),
        Panel("the painting", ("what should come out",), _framed(large[part])),
    ]


def _most_detailed(small: Pixels, side: int, scale: int) -> tuple[slice, slice]:
    """Place in the enlarged picture of the square of `side` small pixels with the largest differences of neighbours."""
    luma = small.astype(np.int64).sum(2)
    change = np.zeros_like(luma)
    change[:-1] += np.abs(np.diff(luma, axis=0))
    change[:, :-1] += np.abs(np.diff(luma, axis=1))
    height, width = (min(side, extent) for extent in luma.shape)
    sums = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    squares = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    )
    top, left = (int(place) for place in np.unravel_index(squares.argmax(), squares.shape))
    return slice(top * scale, (top + height) * scale), slice(left * scale, (left + width) * scale)


def _nearest(small: Pixels, scale: int) -> Pixels:
    return small.repeat(scale, 0).repeat(scale, 1)


def _framed(detail: Pixels) -> Pixels:
    """The detail, enlarged by the largest whole factor that fits, in the middle of a white square."""
    detail = _nearest(detail, max(PANEL_PX // max(detail.shape[:2]), 1))[:PANEL_PX, :PANEL_PX]
    framed = Image.new("RGB", (PANEL_PX, PANEL_PX), (255, 255, 255))
    framed.paste(
        Image.fromarray(detail), ((PANEL_PX - detail.shape[1]) // 2, (PANEL_PX - detail.shape[0]) // 2)
    )
    return np.array(framed)

"""How much better than Lanczos, in figures, on paintings that the training never saw.

What learning adds, for the eye: details of paintings that the training never saw, enlarged in three ways.
"""

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
from atelier.upscaling.enlarge import enlarge, enlarge_lanczos
from atelier.upscaling.network import SRVGGNetCompact

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # BT.601, as super-resolution papers measure


@dataclass(frozen=True)
class Spread:
    """One figure over several paintings."""

    mean: float
    min: float
    max: float


@dataclass(frozen=True)
class Judgement:
    """One figure of ours, of Lanczos, and what we gain, painting by painting."""

    ours: Spread
    lanczos: Spread
    gain: Spread


def judge(network: SRVGGNetCompact, pictures: Sequence[Pixels], scale: int) -> dict[str, Judgement]:
    """PSNR and SSIM of the luma (higher is better) and the error of its gradients (lower is better) at `scale`."""
    ours, lanczos = [], []
    for picture in pictures:
        large = trimmed(picture, scale)
        small = shrunk(large, scale)
        ours.append(_figures(enlarge(network, small, scale), large, scale))
        lanczos.append(_figures(enlarge_lanczos(small, scale), large, scale))
    return {name: _judgement([f[name] for f in ours], [f[name] for f in lanczos]) for name in ours[0]}


def trimmed(picture: Pixels, scale: int) -> Pixels:
    """The picture without the rows and columns that no small pixel would stand for."""
    height, width, _ = picture.shape
    return picture[: height // scale * scale, : width // scale * scale]


def shrunk(picture: Pixels, scale: int) -> Pixels:
    """The picture `scale` times smaller, as super-resolution papers have it: bicubic."""
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
    their borders. Importing torchmetrics takes longer than importing torch, so it is used in the tests only.
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


def _figures(result: Pixels, wanted: Pixels, scale: int) -> dict[str, float]:
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


def _judgement(ours: list[float], lanczos: list[float]) -> Judgement:
    gains = [a - b for a, b in zip(ours, lanczos, strict=True)]
    return Judgement(_spread(ours), _spread(lanczos), _spread(gains))


def _spread(values: list[float]) -> Spread:
    return Spread(*(round(figure, 4) for figure in (fmean(values), min(values), max(values))))


SHOWN = 5  # paintings, the largest

DETAIL_PX, PANEL_PX = 144, 288  # a square of the enlarged picture, and how large it is shown

COLUMNS = 4


def write_comparison(path: Path, network: SRVGGNetCompact, pictures: Sequence[Pixels], scale: int) -> None:
    """A PNG: of each painting (H, W, 3) the square with most detail, enlarged by `scale`, and as it was painted."""
    chosen = sorted(pictures, key=lambda picture: -min(picture.shape[:2]))[:SHOWN]
    heading = f"Paintings the upscaler never saw, made {scale} times smaller and enlarged {scale} times again"
    rows = [_row(network, picture, scale) for picture in chosen]
    write_panels(path, heading, [panel for row in rows for panel in row], COLUMNS)


def _row(network: SRVGGNetCompact, picture: Pixels, scale: int) -> list[Panel]:
    large = trimmed(picture, scale)
    small = shrunk(large, scale)
    lanczos, ours = enlarge_lanczos(small, scale), enlarge(network, small, scale)
    part = _richest(small, max(DETAIL_PX // scale, 1), scale)
    before, now = psnr_y(lanczos, large, scale), psnr_y(ours, large, scale)
    return [
        Panel("nearest neighbours", ("what there is to start from",), _shown(_nearest(small, scale)[part])),
        Panel("Lanczos", (f"{before:.2f} dB",), _shown(lanczos[part])),
        Panel("ours", (f"{now:.2f} dB, {now - before:+.2f} over Lanczos",), _shown(ours[part])),
        Panel("the painting", ("what should come out",), _shown(large[part])),
    ]


def _richest(small: Pixels, side: int, scale: int) -> tuple[slice, slice]:
    """Where, in the enlarged picture, the square of `side` small pixels lies in which neighbours differ most."""
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


def _shown(detail: Pixels) -> Pixels:
    """The detail in the middle of a white square, as many whole times larger as fits."""
    detail = _nearest(detail, max(PANEL_PX // max(detail.shape[:2]), 1))[:PANEL_PX, :PANEL_PX]
    framed = Image.new("RGB", (PANEL_PX, PANEL_PX), (255, 255, 255))
    framed.paste(
        Image.fromarray(detail), ((PANEL_PX - detail.shape[1]) // 2, (PANEL_PX - detail.shape[0]) // 2)
    )
    return np.array(framed)

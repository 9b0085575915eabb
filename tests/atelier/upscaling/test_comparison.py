"""The sheet beside the figures: a detail in three ways, whatever the paintings' sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.upscaling.details_sheet import COLUMNS, PANEL_PX, write_details
from atelier.upscaling.network import SRVGGNetCompact
from atelier.upscaling.train import psnr_y, ssim


def sheet(path: Path, pictures: list[np.ndarray], scale: int = 4) -> np.ndarray:
    torch.manual_seed(0)
    write_details(path, SRVGGNetCompact(2, 4, 1).eval().requires_grad_(False), pictures, scale)
    return np.asarray(Image.open(path).convert("RGB"))


def test_pictures_of_every_size_give_four_panels_each(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    drawn = sheet(tmp_path / "a.png", [noise, noise[:30, :41], noise[:200, :150]])
    assert drawn.shape[1] > COLUMNS * PANEL_PX
    assert drawn.shape[0] > 3 * PANEL_PX
    assert np.array_equal(drawn, sheet(tmp_path / "b.png", [noise, noise[:30, :41], noise[:200, :150]]))


def test_the_detail_shown_is_where_there_is_any(tmp_path: Path) -> None:
    picture = np.full((400, 400, 3), 200, np.uint8)
    picture[300:340, 20:60, :2] = np.indices((40, 40)).sum(0)[..., None] // 8 % 2 * 180
    drawn = sheet(tmp_path / "a.png", [picture])
    right = drawn[-PANEL_PX:, -PANEL_PX:]  # the painting itself
    stripes = (right[..., 2].astype(int) - right[..., 0] > 100).mean()
    assert stripes > 0.02


@pytest.mark.parametrize("shape", [(40, 61), (11, 12)])
def test_our_ssim_and_psnr_are_those_of_torchmetrics(shape: tuple[int, int]) -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    random = torch.Generator().manual_seed(0)
    a = torch.rand(1, 1, *shape, generator=random)
    b = (a + 0.1 * torch.randn(a.shape, generator=random)).clamp(0, 1)
    expected = structural_similarity_index_measure(a, b, data_range=1.0)
    assert isinstance(expected, torch.Tensor) and 0.5 < expected < 0.99
    assert ssim(a, b) == pytest.approx(float(expected), abs=1e-5)
    grey = [(plane[0, 0, ..., None].expand(*shape, 3) * 255).byte().numpy() for plane in (a, b)]
    inner = [torch.from_numpy(one[1:-1, 1:-1, 0] / 255) * 219 / 255 for one in grey]
    assert psnr_y(*grey, 1) == pytest.approx(float(peak_signal_noise_ratio(*inner, data_range=1.0)), abs=1e-3)

"""How soft pictures are, in pixels of a Gaussian: what is blurred is found to be, and by how much."""

import numpy as np
import pytest
import torch

from atelier.gallery.painter import paint
from atelier.metrics.patches import softness
from atelier.pictures.filters import blur


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    return np.stack([np.asarray(paint(3, n, 64).resize((64, 64))) for n in range(90)])


@pytest.mark.parametrize("sigma_px", [0.6, 1.4])
def test_a_blur_is_measured_beside_paintings_that_have_none(squares: np.ndarray, sigma_px: float) -> None:
    others, training, held_out = np.split(squares, 3)
    images = torch.from_numpy(others).permute(0, 3, 1, 2).float()
    soft = blur(images, torch.full((30,), sigma_px)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    found = softness(soft, training, held_out, seed=0)
    assert found["value"] == pytest.approx(sigma_px, abs=0.15)
    assert found["floor"] < 0.45


def test_grain_is_not_softness(squares: np.ndarray) -> None:
    others, training, held_out = np.split(squares, 3)
    grain = np.random.default_rng(0).normal(0, 8, others.shape)
    found = softness((others + grain).clip(0, 255).astype(np.uint8), training, held_out, seed=0)
    assert found["value"] == 0


def test_blur_keeps_the_mean_and_nothing_is_nothing() -> None:
    images = torch.rand(4, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    sigmas = torch.tensor([0.0, 0.4, 1.0, 2.0])
    result = blur(images, sigmas)
    assert torch.allclose(result[0], images[0], atol=1e-6)
    assert torch.allclose(result.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=5e-3)
    assert result.std((1, 2, 3)).diff().lt(0).all()
    assert blur(images[:0], sigmas[:0]).shape == (0, 3, 40, 40)

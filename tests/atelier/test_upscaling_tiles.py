"""Tiles: equal to the whole, in as many passes as the scale takes."""

import numpy as np
import pytest
import torch

from atelier.errors import AtelierError
from atelier.upscaling.network import SRVGGNetCompact
from atelier.upscaling.tiles import enlarge, enlarge_lanczos, enlarge_once, passes


@pytest.fixture(scope="module")
def network() -> SRVGGNetCompact:
    torch.manual_seed(0)
    return SRVGGNetCompact(2, 16, 3).eval().requires_grad_(False)


@pytest.mark.parametrize("tile_px", [7, 16, 33])
@pytest.mark.parametrize("size", [(40, 61), (16, 16), (3, 50), (1, 1)])
def test_tiles_equal_the_whole_up_to_the_border(
    network: SRVGGNetCompact, size: tuple[int, int], tile_px: int
) -> None:
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    whole = network(images).clamp(0, 1)
    assert (enlarge_once(network, images, tile_px) - whole).abs().max() < 1e-5


def test_a_narrower_context_would_show_seams(network: SRVGGNetCompact) -> None:
    images = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    reach = network.reach_px
    seen = network(images)[:, :, :40] - network(images[:, :, : 20 + reach])[:, :, :40]
    assert seen.abs().max() < 1e-5
    seen = network(images)[:, :, :40] - network(images[:, :, : 20 + reach - 3])[:, :, :40]
    assert seen.abs().max() > 1e-5


def test_the_memory_is_bounded_by_the_tile(network: SRVGGNetCompact) -> None:
    largest = []
    hook = network.register_forward_pre_hook(lambda _, inputs: largest.append(max(inputs[0].shape[2:])))
    enlarge_once(network, torch.rand(1, 3, 100, 30), tile_px=16)
    hook.remove()
    assert max(largest) <= 16 + 2 * network.reach_px


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_passes_are_chained(network: SRVGGNetCompact, scale: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    enlarged = enlarge(network, picture, scale)
    assert enlarged.shape == (9 * scale, 12 * scale, 3)
    assert enlarged.dtype == np.uint8
    assert enlarge_lanczos(picture, scale).shape == enlarged.shape


def test_the_same_picture_gives_the_same_bytes(network: SRVGGNetCompact) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    assert np.array_equal(enlarge(network, picture, 4), enlarge(network, picture, 4))


def test_a_scale_that_passes_cannot_make_is_refused() -> None:
    assert passes(2, 8) == 3
    assert passes(4, 4) == 1
    with pytest.raises(AtelierError, match=r"upscale\.scale holds 8; the upscaler enlarges 4 times a pass"):
        passes(4, 8)

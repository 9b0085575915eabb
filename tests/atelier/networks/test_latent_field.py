import copy

import numpy as np
import pytest
import torch

from atelier.errors import AtelierError
from atelier.networks.dcgan import DcganGenerator
from atelier.networks.latent_field import draw_latents, in_double_precision, render, render_batch, to_pixels

CPU = torch.device("cpu")
FIRST_THREE = [1.7141123, 2.0535135, -0.6668865]


@pytest.fixture(scope="module")
def generator() -> torch.nn.Module:
    """A generator with running statistics as after a training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DcganGenerator(32, nz=32, ngf=12)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # a plain average
        with torch.no_grad():
            for _ in range(4):
                network(torch.randn(64, 32))
            network.layers[-2].weight.mul_(12)  # fresh weights paint grey: give them contrast
    return in_double_precision(network, CPU)


def single(generator: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(generator).float()


def test_a_picture_has_its_own_latent() -> None:
    assert torch.equal(draw_latents(1, 7, 100), draw_latents(1, 7, 100))
    assert not torch.equal(draw_latents(1, 7, 100), draw_latents(1, 8, 100))
    assert not torch.equal(draw_latents(1, 7, 100), draw_latents(2, 7, 100))


def test_drawing_latents_does_not_change_torchs_global_generator() -> None:
    before = torch.random.get_rng_state()
    draw_latents(1, 7, 100)
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_two_of_many_pictures_share_a_latent() -> None:
    many = torch.cat([draw_latents(1, index, 3) for index in range(5000)])
    assert len(torch.unique(many, dim=0)) == 5000


def test_latents_are_standard_normal_and_independent_of_their_neighbours() -> None:
    many = torch.cat([draw_latents(5, index, 100) for index in range(500)])
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.02
    assert abs((many[1:] * many[:-1]).mean()) < 0.02


def test_a_canvas_of_one_cell_is_a_plain_latent_and_a_larger_one_a_field() -> None:
    assert draw_latents(1, 7, 100, (1, 1)).shape == (1, 100)
    assert draw_latents(1, 7, 100, (2, 5)).shape == (1, 100, 2, 5)


def test_truncation_scales_the_latent() -> None:
    assert torch.allclose(draw_latents(1, 7, 100, truncation=0.5), 0.5 * draw_latents(1, 7, 100))
    assert (draw_latents(1, 7, 100, truncation=0.0) == 0).all()


def test_the_numbers_of_a_latent_do_not_change() -> None:
    """If this test fails, every picture changes: a new scheme needs a new name in the hash."""
    first = draw_latents(1, 7, 100)[0, :3]
    assert torch.allclose(first, torch.tensor(FIRST_THREE), atol=1e-6)


def test_the_canvas_decides_the_size(generator) -> None:
    for canvas, shape in {(1, 1): (32, 32, 3), (1, 8): (32, 88, 3), (3, 2): (48, 40, 3)}.items():
        picture = render(generator, draw_latents(1, 0, 32, canvas))
        assert picture.shape == shape and picture.dtype == np.uint8


def test_one_and_two_threads_render_the_same_bytes(generator) -> None:
    threads = torch.get_num_threads()
    pictures = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            pictures.append([render(generator, draw_latents(1, index, 32, (4, 4))) for index in range(8)])
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*pictures)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_paints_the_bytes_that_the_cpu_paints(generator) -> None:
    on_cuda = in_double_precision(copy.deepcopy(generator), torch.device("cuda"), "float64")
    for index in range(8):
        z = draw_latents(1, index, 32, (3, 3))
        assert np.array_equal(render(on_cuda, z), render(generator, z))


def test_double_precision_differs_from_single_by_a_level_at_most(generator) -> None:
    z = torch.cat([draw_latents(1, index, 32) for index in range(16)])
    difference = np.abs(render_batch(generator, z).astype(int) - render_batch(single(generator), z).astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_a_large_canvas_keeps_the_statistics_of_the_trained_size(generator) -> None:
    network, spreads = single(generator), []
    network.layers[0].register_forward_hook(lambda _, inputs, __: spreads.append(inputs[0].std().item()))
    small = render_batch(network, torch.cat([draw_latents(1, index, 32) for index in range(64)])).astype(float)
    large = render_batch(network, torch.cat([draw_latents(2, index, 32, (4, 4)) for index in range(24)])).astype(float)
    assert spreads[1] / spreads[0] == pytest.approx(1, abs=0.1)  # 3.98 without normalisation
    assert large.std() / small.std() == pytest.approx(1, abs=0.15)
    assert abs(large.mean() - small.mean()) < 0.1 * small.std()


def test_pictures_are_rendered_one_at_a_time(generator) -> None:
    with pytest.raises(ValueError, match="one at a time"):
        render(generator, torch.zeros(2, 32))


def test_a_generator_that_paints_nan_is_refused() -> None:
    broken = DcganGenerator(32, 32, 8).eval().requires_grad_(False)
    broken.project.weight.fill_(float("nan"))
    with pytest.raises(AtelierError, match="diverged"):
        render(broken, draw_latents(1, 0, 32))


def test_pixels_are_rounded_and_clamped() -> None:
    levels = torch.tensor([-2.0, -1.0, -0.001, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_pixels(levels)[0, 0, :, 0].tolist() == [0, 0, 127, 128, 255, 255]

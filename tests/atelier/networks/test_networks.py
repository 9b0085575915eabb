"""The networks: number of weights, shapes, gradients, fields of latents, and the layers of each architecture."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, load_generator, make_networks, save_network
from atelier.networks.dcgan import UpsampleConv
from atelier.networks.latent_field import in_double_precision, latent_per_cell, render
from atelier.networks.r3gan import Block, Down, Up
from atelier.settings.training import ARCHS
from atelier.training.initial import Ema
from atelier.training.state import generator_for
from tests.models import canvas_inputs

SMALL = {
    "dcgan": NetworkConfig("dcgan", 32, {"nz": 8, "ngf": 8, "ndf": 4}),
    "r3gan": NetworkConfig("r3gan", 32, {"preset": "S", "nz": 8}),
    "sketch": NetworkConfig("sketch", 32, {"nz": 8, "ngf": 8, "ndf": 4, "noise": 4}),
}
TILING = ("r3gan", "sketch")  # a cell of the field is a whole picture


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator_for("test"))


def barrat(ngf: int, ndf: int) -> dict[str, int]:
    return {"nz": 100, "ngf": ngf, "ndf": ndf}


@pytest.mark.parametrize(
    ("arch", "resolution", "settings", "generator", "discriminator"),
    [
        ("dcgan", 32, barrat(48, 24), 678_816, 95_136),
        ("dcgan", 64, barrat(64, 64), 3_576_704, 2_765_568),
        ("dcgan", 128, barrat(160, 40), 73_745_600, 4_366_560),
        ("r3gan", 64, {"preset": "S", "nz": 64}, 1_504_128, 1_488_000),
        ("r3gan", 128, {"preset": "S", "nz": 64}, 1_547_200, 1_531_072),
        ("r3gan", 128, {"preset": "M", "nz": 64}, 6_275_616, 6_251_424),
        ("r3gan", 256, {"preset": "L", "nz": 64}, 23_057_952, 23_009_568),
        ("sketch", 64, {"nz": 100, "ngf": 24, "ndf": 12, "noise": 8}, 530_124, 99_216),
        ("sketch", 64, {"nz": 100, "ngf": 24, "ndf": 12}, 526_296, 99_216),
    ],
)
def test_the_networks_have_the_documented_number_of_weights(arch, resolution, settings, generator, discriminator):
    with torch.device("meta"):
        networks = make_networks(NetworkConfig(arch, resolution, settings))
    counted = [sum(weight.numel() for weight in network.parameters()) for network in networks]
    assert counted == [generator, discriminator]


def test_params_and_networks_have_the_same_architectures():
    assert set(ARCHS) == SMALL.keys()
    with pytest.raises(AtelierError, match=f"this version has {', '.join(ARCHS)}"):
        make_networks(NetworkConfig("sixty", 64, {}))


@pytest.mark.parametrize("resolution", [32, 128])
@pytest.mark.parametrize("arch", ARCHS)
def test_latents_become_images_and_images_become_logits(arch, resolution):
    generator, discriminator = make_networks(NetworkConfig(arch, resolution, SMALL[arch].settings))
    z = noise(2, generator.inputs)
    images = generator(z)
    assert images.shape == (2, 3, resolution, resolution)
    assert torch.equal(generator(z[:, :, None, None]), images)
    logits = discriminator(images)
    assert logits.shape == (2,) and logits.dtype == torch.float32
    assert images.abs().max() < 3 and logits.isfinite().all()


@pytest.mark.parametrize("arch", ARCHS)
def test_gradient_penalties_are_deterministic_and_reach_the_discriminators_weights(arch):
    """What R1 and R2 ask for: the gradient of a gradient, the same bits each time."""
    _, discriminator = make_networks(SMALL[arch])
    images = noise(3, 3, 32, 32)
    torch.use_deterministic_algorithms(True)
    try:
        one, again = (_penalty_gradients(discriminator, images) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(*pair) for pair in zip(one, again, strict=True))
    assert all(gradient.isfinite().all() for gradient in one)
    assert sum(gradient.abs().sum() for gradient in one) > 0


@pytest.mark.parametrize("arch", ARCHS)
def test_a_saved_generator_paints_the_same_pictures_and_has_its_facts_in_the_header(arch, tmp_path: Path):
    generator, _ = make_networks(SMALL[arch])
    generator.eval()
    save_network(tmp_path / "generator.safetensors", generator, SMALL[arch], {"kimg": 1.5})
    loaded, header = load_generator(tmp_path / "generator.safetensors")
    assert (header["arch"], header["resolution"], header["settings"]) == (arch, 32, SMALL[arch].settings)
    z = noise(2, generator.inputs)
    assert torch.equal(loaded(z), generator(z))


@pytest.mark.parametrize(
    ("arch", "resolution", "settings"),
    [
        ("r3gan", 64, {"preset": "XL", "nz": 64}),
        ("r3gan", 64, {"preset": ["S"], "nz": 64}),
        ("r3gan", 48, {"preset": "S", "nz": 64}),
        ("sketch", 48, {"nz": 8, "ngf": 8, "ndf": 4, "noise": 4}),
        ("sketch", 64, {"nz": 8, "ngf": "8", "ndf": 4, "noise": 4}),
    ],
)
def test_settings_that_fit_no_network_are_refused_in_words(arch, resolution, settings):
    with pytest.raises(AtelierError, match=f"do not fit {arch}"):
        make_networks(NetworkConfig(arch, resolution, settings))


@pytest.mark.parametrize("arch", ARCHS)
def test_every_architecture_paints_canvases(arch):
    generator = in_double_precision(_trained_once(arch), torch.device("cpu"))
    assert render(generator, canvas_inputs(generator, 1, 0, (1, 1))).shape == (32, 32, 3)
    canvas = render(generator, canvas_inputs(generator, 1, 0, (2, 5)))
    assert canvas.shape == ((64, 160, 3) if arch in TILING else (40, 64, 3))


@pytest.mark.parametrize("arch", TILING)
def test_a_field_of_one_latent_repeats_its_picture(arch):
    generator = _trained_once(arch).double()
    z = noise(1, generator.inputs).double()
    picture = generator(z)[..., 12:20, 12:20]
    field = generator(z[:, :, None, None].expand(1, -1, 3, 3))
    z = z[:, :8]
    # only the middle: a picture alone ends in zeros where a canvas goes on
    for row, column in itertools.product(range(3), range(3)):
        middle = field[..., 32 * row + 12 : 32 * row + 20, 32 * column + 12 : 32 * column + 20]
        assert middle.std() > 0
        assert (middle - picture).abs().mean() < 0.5 * picture.std()
    corner, alone = (
        generator.project(latent_per_cell(latents, (4, 4)))[..., :4, :4]
        for latents in (z[:, :, None, None].expand(1, 8, 3, 3), z)
    )
    assert torch.allclose(corner, alone.expand_as(corner))


def test_interpolated_latents_have_the_length_of_latents():
    field = latent_per_cell(noise(16, 100, 3, 4), (4, 4))
    assert field.shape == (16, 100, 12, 16)
    lengths = torch.linalg.vector_norm(field, dim=1)
    assert lengths.mean().item() == pytest.approx(math.sqrt(100), rel=0.02)
    assert lengths.min() > 7
    assert torch.allclose(field[:, :, :2, :2], noise(16, 100, 3, 4)[:, :, :1, :1])  # the corner's own
    assert torch.allclose(latent_per_cell(0.5 * noise(16, 100, 3, 4), (4, 4)), 0.5 * field, atol=1e-6)  # truncation
    assert (latent_per_cell(torch.zeros(1, 100, 2, 2), (4, 4)) == 0).all()


def test_a_network_without_batch_norm_needs_no_calibration():
    generator, _ = make_networks(SMALL["r3gan"])
    ema = Ema(generator, 0.9)
    unused = iter([noise(4, 8)])
    painter = ema.calibrated(unused)
    assert next(unused, None) is not None
    assert all(
        torch.equal(*pair)
        for pair in zip(painter.state_dict().values(), ema.average.state_dict().values(), strict=True)
    )


def test_the_sketch_doubles_pixels_before_it_convolves():
    layer = UpsampleConv(3, 5).double()
    x = noise(2, 3, 6, 8).double()
    doubled = functional.interpolate(x, scale_factor=2, mode="nearest")
    plain = functional.conv2d(doubled, layer.weight.transpose(0, 1), padding=1)
    assert torch.allclose(layer(x), plain)


def test_sketch_paints_constant_features_evenly_where_dcgan_shows_a_checkerboard():
    even = torch.ones(1, 4, 8, 8)
    ours = UpsampleConv(4, 3)(even)[..., 2:-2, 2:-2]
    dcgans = torch.nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False)(even)[..., 2:-2, 2:-2]
    assert torch.allclose(ours, ours[..., :1, :1].expand_as(ours))
    assert dcgans.std((2, 3)).min() > 0.01


def test_r3gan_resamples_by_a_binomial_kernel():
    x = noise(1, 4, 8, 8).double()
    line = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    kernel = torch.outer(line, line).expand(4, 1, 3, 3)
    doubled = functional.interpolate(x, scale_factor=2, mode="nearest")
    smooth = functional.conv2d(doubled, kernel, padding=1, groups=4)
    assert torch.allclose(Up(4, 4).double()(x), smooth)
    even = torch.full((1, 4, 8, 8), 0.3)
    assert torch.allclose(Up(4, 4)(even)[..., 1:-1, 1:-1], torch.tensor(0.3))
    assert torch.allclose(Down(4, 4)(even)[..., 1:-1, 1:-1], torch.tensor(0.3))


def test_r3gans_blocks_are_the_identity_at_first():
    generator, _ = make_networks(SMALL["r3gan"])
    blocks = [module for module in generator.modules() if isinstance(module, Block)]
    x = noise(1, 256, 4, 4)
    assert len(blocks) == 4
    assert all(torch.equal(block(x), x) for block in blocks)
    inner = functional.leaky_relu(blocks[0].mix(functional.leaky_relu(blocks[0].widen(x), 0.2)), 0.2)
    assert inner.std().item() == pytest.approx(len(blocks) ** -0.5, rel=0.3)  # L^(−1/4) of each of two layers


def _penalty_gradients(discriminator: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    weights = list(discriminator.parameters())
    return [
        torch.zeros_like(weight) if part is None else part
        for weight, part in zip(
            weights, torch.autograd.grad(gradient.square().sum(), weights, allow_unused=True), strict=True
        )
    ]


def _trained_once(arch: str) -> torch.nn.Module:
    """A generator whose batch norms, if it has any, know its own statistics, as training leaves them."""
    generator, _ = make_networks(SMALL[arch])
    return Ema(generator, 0.9).calibrated([noise(64, generator.inputs)])

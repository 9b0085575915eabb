"""Directions of the generator's first layer, and moves along them."""

import copy

import pytest
import torch

from atelier.canvas.latents import directions, first_layer_weight, move_latents
from atelier.canvas.recipe import Move
from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, load_generator
from atelier.networks.latent_field import draw_latents, in_double_precision
from tests.models import SMALL, save_small_generator

NETWORKS = [
    SMALL,
    NetworkConfig("sketch", 32, {"nz": 16, "ngf": 8, "ndf": 8, "noise": 4}),
    NetworkConfig("r3gan", 32, {"preset": "S", "nz": 16}),
]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.arch)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    path = tmp_path_factory.mktemp("model") / "g.safetensors"
    save_small_generator(path, network=request.param)
    return load_generator(path)[0]


@pytest.fixture
def generator(saved: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(saved)


def painted(generator: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
    """Images of latents (1, nz), with zeros as grain."""
    return generator(torch.cat([z, z.new_zeros(1, generator.inputs - generator.nz)], 1))


def first_features(generator: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
    """The inputs of the layers after the first, recorded while the generator paints."""
    seen = []
    batch_norm = isinstance(generator.layers[0], torch.nn.BatchNorm2d)
    layer = generator.layers[1 if batch_norm else 0]
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    painted(generator, z)
    hook.remove()
    return seen[0].expand(-1, -1, 4, 4).flatten(1)


def test_the_first_layers_weight_computes_what_the_generator_computes_before_its_first_non_linearity(
    generator,
):
    generator = in_double_precision(generator, torch.device("cpu"))
    z, other = draw_latents(0, 0, 16).double(), draw_latents(0, 1, 16).double()
    seen = first_features(generator, z) - first_features(generator, other)
    assert torch.allclose((z - other) @ first_layer_weight(generator), seen)


def test_directions_are_orthogonal_unit_rows_with_the_strongest_first(generator):
    rows, shares = directions(generator)
    assert rows.shape == (16, 16) and rows.dtype == torch.float64
    assert torch.allclose(rows @ rows.T, torch.eye(16, dtype=torch.float64), atol=1e-7)
    effects = (rows @ first_layer_weight(generator)).norm(dim=1)
    assert torch.equal(effects, effects.sort(descending=True).values)
    assert torch.allclose(effects**2 / (effects**2).sum(), shares)


def test_directions_do_not_depend_on_the_precision_or_the_order_of_the_features(generator):
    rows = directions(generator)[0]
    assert torch.equal(directions(in_double_precision(generator, torch.device("cpu")))[0], rows)
    layer = first_layer_weight(generator)
    shuffled = layer[:, torch.randperm(layer.shape[1], generator=torch.Generator().manual_seed(0))]
    _, columns = torch.linalg.eigh(shuffled @ shuffled.T)  # other sums, other last digits, perhaps other signs
    assert torch.allclose((columns.T.flip(0) * rows).sum(1).abs(), torch.ones(16, dtype=torch.float64))
    assert (rows.gather(1, rows.abs().argmax(1, keepdim=True)) > 0).all()
    assert torch.equal(rows, rows.round(decimals=9))


def test_the_strongest_direction_moves_a_picture_more_than_the_weakest(generator):
    z = draw_latents(1, 0, 16)
    still = painted(generator, z)
    strong, weak = (
        (painted(generator, move_latents(z, generator, [Move(direction=d, amount=2.0)])) - still).square().mean()
        for d in (0, 15)
    )
    assert strong > weak


def test_a_latent_number_without_effect_is_no_direction(generator):
    with torch.no_grad():
        weight = generator.project.weight
        (weight[:, 3] if weight.shape[1] == 16 else weight[3]).zero_()
    rows = directions(generator)[0]
    assert len(rows) == 15 and (rows[:, 3].abs() < 1e-8).all()


def test_every_cell_of_a_field_is_moved_by_the_sum_of_the_moves(generator):
    field = draw_latents(1, 0, 16, (2, 3))
    rows = directions(generator)[0]
    there = move_latents(field, generator, [Move(direction=1, amount=2.0), Move(direction=4, amount=-1.5)])
    way = (2 * rows[1] - 1.5 * rows[4]).view(1, 16, 1, 1).float()
    assert there.dtype == torch.float32 and torch.allclose(there - field, way.expand_as(field), atol=1e-6)
    back = move_latents(field, generator, [Move(direction=1, amount=2.0), Move(direction=1, amount=-2.0)])
    assert torch.equal(back, field)
    assert move_latents(field, generator, []) is field


def test_an_unknown_direction_is_refused_with_a_message(generator):
    with pytest.raises(AtelierError, match="direction 16 does not exist: the model has 16, from 0 to 15"):
        move_latents(draw_latents(1, 0, 16), generator, [Move(direction=16, amount=1.0)])

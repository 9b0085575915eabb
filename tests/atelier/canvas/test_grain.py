"""The grain of the cells of canvases and of walks."""

from typing import Any

import numpy as np
import pytest
import torch

from atelier.canvas.paint import grain_function, paint
from atelier.canvas.recipe import Move, Recipe, Station, Variation, Walk
from atelier.networks import NetworkConfig, load_generator
from atelier.networks.dcgan import EVAL_NOISE, UpsampleConv
from atelier.networks.latent_field import (
    draw_grain,
    draw_inputs,
    in_double_precision,
    render,
    render_seed,
    to_pixels,
)
from tests.models import save_small_generator

SKETCH = NetworkConfig("sketch", 32, {"nz": 16, "ngf": 8, "ndf": 4, "noise": 4})
STATIONS = (Station(seed=1, index=5), Station(seed=3, index=2))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    path = tmp_path_factory.mktemp("grain") / "g.safetensors"
    save_small_generator(path, network=SKETCH)
    return in_double_precision(load_generator(path)[0], torch.device("cpu"))


def recipe(canvas: tuple[int, int] = (1, 1), **facts: Any) -> Recipe:
    return Recipe(seed=1, index=5, canvas=canvas, **{"truncation": 1.0, **facts})


def walk(frame: int, **facts: Any) -> Walk:
    return Walk(**{"stations": STATIONS, "frame": frame, "frames": 5, "loop": False, "easing": "linear", **facts})


def test_cells_have_independent_standard_normal_grain():
    places = [(1, 5, 0, 0), (1, 5, 0, 1), (1, 5, 1, 0), (1, 6, 0, 0), (2, 5, 0, 0), (1, 5, -1, 0)]
    drawn = torch.stack([draw_grain(*place, 4096) for place in places])
    assert torch.equal(drawn[0], draw_grain(1, 5, 0, 0, 4096))
    assert torch.allclose(torch.corrcoef(drawn), torch.eye(len(places)), atol=0.07)
    assert drawn.mean().abs() < 0.03 and drawn.std().item() == pytest.approx(1, abs=0.03)


def test_a_picture_is_the_same_alone_and_in_a_batch_and_depends_on_its_grain(generator):
    alone = render(generator, draw_inputs(generator, 1, 7))
    pictures = np.concatenate([*render_seed(generator, 1, 8)])
    assert np.array_equal(pictures[7], alone)
    other = draw_inputs(generator, 1, 7)
    other[:, 16:] = draw_inputs(generator, 1, 8)[:, 16:]
    with torch.inference_mode():
        assert not np.array_equal(to_pixels(generator(other.double()))[0], alone)


def test_variations_and_moves_keep_the_grain_and_a_grown_canvas_has_it_in_its_middle(generator):
    plain = grain_function(generator, recipe())(0, 0)
    for facts in (
        {"variation": Variation(number=2, strength=0.4)},
        {"moves": (Move(direction=1, amount=2.0),)},
    ):
        assert torch.equal(grain_function(generator, recipe(**facts))(0, 0), plain)
    for seamless in (False, True):
        grown = grain_function(generator, recipe((3, 5), grown_from=(1, 1), seamless=seamless))
        assert torch.equal(grown(1, 2), plain) and not torch.equal(grown(0, 0), plain)
    small = grain_function(generator, recipe((1, 2)))
    grown = grain_function(generator, recipe((3, 4), grown_from=(1, 2)))
    assert torch.equal(grown(1, 1), small(0, 0)) and torch.equal(grown(1, 2), small(0, 1))


def test_a_still_walk_keeps_the_first_stations_grain(generator):
    first = grain_function(generator, recipe())(0, 0)
    for frame in range(5):
        assert torch.equal(grain_function(generator, recipe(walk=walk(frame)))(0, 0), first)
    stays = [recipe(walk=walk(frame, stations=(STATIONS[0],) * 2, loop=True)) for frame in (1, 3)]
    assert np.array_equal(paint(generator, stays[0]), paint(generator, stays[1]))


def test_a_moving_walk_interpolates_the_grain_and_keeps_its_variance(generator):
    numbers = [grain_function(generator, recipe(walk=walk(frame, grain="moving")))(0, 0) for frame in range(5)]
    one, other = (draw_grain(station.seed, station.index, 0, 0, len(numbers[0])) for station in STATIONS)
    assert torch.equal(numbers[0], one) and torch.allclose(numbers[4], other, atol=1e-6)
    assert [drawn.std().item() for drawn in numbers] == pytest.approx([1] * 5, abs=0.08)
    towards = [torch.cosine_similarity(drawn, other, dim=0).item() for drawn in numbers]
    assert towards == sorted(towards)
    same = recipe(walk=walk(2, stations=(STATIONS[0],) * 2, grain="moving"))
    assert torch.equal(grain_function(generator, same)(0, 0), one)


def test_a_generator_without_noise_has_no_grain(tmp_path):
    save_small_generator(tmp_path / "g.safetensors")
    dcgan, _ = load_generator(tmp_path / "g.safetensors")
    assert grain_function(dcgan, recipe((2, 2)))(1, 1).shape == (0,)


def test_in_eval_mode_the_noise_has_half_of_the_strength_that_training_sees() -> None:
    layer = UpsampleConv(6, 4, 2).double()
    features, noise = torch.randn(1, 6, 5, 5).double(), torch.randn(1, 2, 5, 5).double()
    trained = layer.train()(features, noise) - layer(features, 0 * noise)
    painted = layer.eval()(features, noise) - layer(features, 0 * noise)
    torch.testing.assert_close(painted, EVAL_NOISE * trained)
    assert EVAL_NOISE == 0.5 and trained.abs().max() > 0

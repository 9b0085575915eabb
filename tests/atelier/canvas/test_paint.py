"""Recipes are painted to the same bytes whole and in parts, at any offset if seamless, on any device."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from atelier.canvas.latents import directions
from atelier.canvas.paint import Painting, latent_field, paint, size_px
from atelier.canvas.recipe import Move, Recipe, Station, Variation, Walk
from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, make_networks, r3gan
from atelier.networks.latent_field import draw_latents, in_double_precision, render
from tests.models import canvas_inputs

NZ = 16
CPU = torch.device("cpu")
NETWORKS = {
    "dcgan": NetworkConfig("dcgan", 32, {"nz": NZ, "ngf": 8, "ndf": 4}),
    "sketch": NetworkConfig("sketch", 32, {"nz": NZ, "ngf": 8, "ndf": 4, "noise": 4}),
    "r3gan": NetworkConfig("r3gan", 32, {"preset": "narrow", "nz": NZ}),
    "deep r3gan": NetworkConfig("r3gan", 32, {"preset": "narrow and deep", "nz": NZ}),
    "wide dcgan": NetworkConfig("dcgan", 16, {"nz": NZ, "ngf": 8, "ndf": 4, "aspect": "3:2"}),
    "wide sketch": NetworkConfig("sketch", 16, {"nz": NZ, "ngf": 8, "ndf": 4, "noise": 4, "aspect": "16:9"}),
    "high r3gan": NetworkConfig("r3gan", 16, {"preset": "narrow", "nz": NZ, "aspect": "3:4"}),
}
NORMED = ("dcgan", "sketch", "wide sketch")


@pytest.fixture(scope="module")
def generators() -> dict[str, torch.nn.Module]:
    """Small networks with running statistics as after a training, so that their pictures have contrast."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setitem(r3gan.PRESETS, "narrow", (16, 1))
        patch.setitem(r3gan.PRESETS, "narrow and deep", (16, 2))
        return {name: in_double_precision(_painter(config), CPU) for name, config in NETWORKS.items()}


@pytest.fixture(params=NETWORKS)
def generator(request: pytest.FixtureRequest, generators: dict[str, torch.nn.Module]) -> torch.nn.Module:
    return generators[request.param]


@pytest.fixture(params=NORMED)
def normed(request: pytest.FixtureRequest, generators: dict[str, torch.nn.Module]) -> torch.nn.Module:
    return generators[request.param]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut pictures into pieces of one base cell."""
    monkeypatch.setattr("atelier.canvas.paint.PIECE_BYTES", 1)
    monkeypatch.setattr("atelier.canvas.paint.SMALL_PX", 0)


def recipe(canvas: tuple[int, int] = (2, 3), **facts: Any) -> Recipe:
    return Recipe(seed=1, index=5, canvas=canvas, **{"truncation": 1.0, **facts})


def _painter(config: NetworkConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    generator, _ = make_networks(config)
    for block in generator.modules():
        if isinstance(block, r3gan.Block):
            torch.nn.init.normal_(block.narrow.weight, 0, 0.1)  # at first a block does nothing
        if isinstance(block, torch.nn.BatchNorm2d):
            block.momentum = None  # a plain average
    with torch.no_grad():
        for _ in range(4):
            generator(torch.randn(64, generator.inputs))
        if isinstance(generator.layers[-1], torch.nn.Tanh):
            generator.layers[-2].weight.mul_(12)  # fresh weights paint grey
    return generator


@pytest.mark.parametrize("canvas", [(1, 1), (2, 3), (1, 9)])
def test_a_plain_recipe_is_painted_like_its_latents_at_once(generator, canvas) -> None:
    picture = paint(generator, recipe(canvas, truncation=0.8))
    assert np.array_equal(picture, render(generator, canvas_inputs(generator, 1, 5, canvas, 0.8)))
    assert picture.std() > 10


@pytest.mark.parametrize("canvas", [(1, 1), (2, 2)])
def test_pictures_are_the_same_in_the_smallest_pieces(generator, canvas, request) -> None:
    whole = paint(generator, recipe(canvas))
    request.getfixturevalue("small_pieces")
    assert np.array_equal(paint(generator, recipe(canvas)), whole)


@pytest.mark.parametrize("seamless", [False, True])
def test_any_region_is_that_part_of_the_whole_picture(generator, seamless) -> None:
    wanted = recipe((3, 4), seamless=seamless)
    whole, parts = paint(generator, wanted), Painting(generator, wanted)
    chance = np.random.default_rng(0)
    for _ in range(8):
        (top, bottom), (left, right) = (sorted(chance.choice(side + 1, 2, replace=False)) for side in whole.shape[:2])
        part = parts.region(top, left, bottom - top, right - left)
        assert np.array_equal(part, whole[top:bottom, left:right])


def test_the_corner_pixels_are_those_of_the_whole_picture(generator) -> None:
    wanted = recipe((3, 4))
    whole, parts = paint(generator, wanted), Painting(generator, wanted)
    height, width = whole.shape[:2]
    for top, left in itertools.product((0, height - 1), (0, width - 1)):
        assert np.array_equal(parts.region(top, left, 1, 1)[0, 0], whole[top, left])


def test_a_seamless_picture_at_any_offset_is_the_same_picture_rolled(generator) -> None:
    parts = Painting(generator, recipe((2, 3), seamless=True))
    whole = parts.region(0, 0, parts.height, parts.width)
    for down, across in [(1, 0), (0, -1), (7, 13), (-11, 40), (-1000, 777)]:
        again = parts.region(down, across, parts.height, parts.width)
        assert np.array_equal(again, np.roll(whole, (-down, -across), (0, 1)))


@pytest.mark.parametrize("layout", ["random", "line", "smooth", "panorama"])
def test_a_seamless_tile_beside_itself_has_no_seam(generators, layout) -> None:
    parts = Painting(generators["dcgan"], recipe((5, 7), seamless=True, layout=layout))
    tile = parts.region(0, 0, parts.height, parts.width)
    assert np.array_equal(parts.region(0, 0, 2 * parts.height, 2 * parts.width), np.tile(tile, (2, 2, 1)))
    across = np.diff(np.hstack([tile, tile]).astype(int), axis=1)
    steps = np.abs(across).mean((0, 2))
    assert steps[parts.width - 1] <= 1.5 * steps[: parts.width - 1].max()


def test_a_seamless_picture_of_one_cell_repeats_too(generator) -> None:
    parts = Painting(generator, recipe((1, 1), seamless=True))
    tile = parts.region(0, 0, parts.height, parts.width)
    assert np.array_equal(parts.region(-3, 5, parts.height, parts.width), np.roll(tile, (3, -5), (0, 1)))


def test_a_region_beyond_the_edge_of_a_picture_that_does_not_repeat_is_an_error(generator) -> None:
    parts = Painting(generator, recipe())
    for part in [(-1, 0, 2, 2), (0, 0, parts.height + 1, 1), (0, parts.width, 1, 1), (0, 0, 0, 5)]:
        with pytest.raises(ValueError, match="no part of a picture"):
            parts.region(*part)


@pytest.mark.parametrize("seamless", [False, True])
@pytest.mark.parametrize("canvas", [(1, 1), (2, 3), (1, 4)])
def test_a_size_is_known_before_it_is_painted(generator, canvas, seamless) -> None:
    wanted = recipe(canvas, seamless=seamless)
    assert size_px(generator, wanted) == paint(generator, wanted).shape[:2]


def test_a_canvas_is_as_many_pictures_high_and_wide_as_it_has_latents(generators) -> None:
    assert size_px(generators["wide sketch"], recipe((2, 3))) == (2 * 16, 3 * 28)
    assert size_px(generators["high r3gan"], recipe((2, 3))) == (2 * 16, 3 * 12)
    assert size_px(generators["wide dcgan"], recipe((1, 1))) == (16, 24)
    assert size_px(generators["wide dcgan"], recipe((2, 3))) == (16 + 4, 24 + 2 * 4)


def test_a_seamless_dcgan_shows_no_overhang(generators) -> None:
    assert size_px(generators["dcgan"], recipe((4, 8))) == (7 * 8, 11 * 8)
    assert size_px(generators["dcgan"], recipe((4, 8), seamless=True)) == (4 * 8, 8 * 8)
    assert size_px(generators["sketch"], recipe((4, 8), seamless=True)) == (4 * 32, 8 * 32)


def test_with_a_canvas_statistics_batch_norms_have_mean_0_and_variance_1(normed) -> None:
    seen = []
    parts = Painting(normed, recipe((3, 4), normalise="batch"))
    norm = next(module for module in parts._painter.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.register_forward_hook(lambda module, _, out: seen.append((module, out.clone())))
    parts.region(0, 0, parts.height, parts.width)
    ((module, out),) = seen
    plain = (out - module.bias[:, None, None]) / module.weight[:, None, None]
    assert plain.mean((0, 2, 3)).abs().max() < 1e-9
    assert (plain.var((0, 2, 3), correction=0) - 1).abs().max() < 0.02  # eps


@pytest.mark.parametrize("seamless", [False, True])
def test_a_canvas_with_its_own_statistics_is_the_same_in_pieces(normed, seamless, request) -> None:
    wanted = recipe((1, 3), normalise="batch", seamless=seamless)
    whole = paint(normed, wanted)
    if not seamless:
        learning = copy.deepcopy(normed)
        for norm in (module for module in learning.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.train()
        learning.normalise_overlap = False
        assert np.array_equal(whole, render(learning, canvas_inputs(normed, 1, 5, (1, 3))))
    request.getfixturevalue("small_pieces")
    assert np.array_equal(paint(normed, wanted), whole)
    part = Painting(normed, wanted).region(1, 5, 7, 17)
    assert np.array_equal(part, whole[1:8, 5:22])


def test_a_canvas_statistics_are_computed_once_for_the_first_region_with_progress(normed, small_pieces) -> None:
    shares: list[float] = []
    parts = Painting(normed, recipe(normalise="batch"), shares.append)
    assert not shares
    parts.region(0, 0, 8, 8)
    assert shares == sorted(shares) and len(shares) > 50 and shares[-1] == 1
    parts.region(8, 8, 8, 8)
    assert shares[-1] == 1 and shares.count(1) == 1


def test_interrupted_statistics_continue_and_are_the_same_to_the_bit(normed, small_pieces, tmp_path) -> None:
    wanted = recipe((1, 2), normalise="batch")
    whole = Painting(normed, wanted)._painter.state_dict()
    for until in (0, 0.24, 0.25, 0.26, 0.5, 0.8, 1):
        shares: list[float] = []

        def stop(share: float, until: float = until, shares: list[float] = shares) -> None:
            shares.append(share)
            if share >= until:
                raise KeyboardInterrupt

        kept = tmp_path / f"statistics-{until}.safetensors"
        with pytest.raises(KeyboardInterrupt):
            Painting(normed, wanted, stop, kept).region(0, 0, 8, 8)
        gone_on = Painting(normed, wanted, shares.append, kept)._painter
        assert shares == sorted({*shares}) and shares[-1] == 1, until  # none is taken twice
        for name, tensor in whole.items():
            assert torch.equal(tensor, gone_on.state_dict()[name]), (until, name)


def test_statistics_with_a_damaged_file_are_computed_anew(normed, small_pieces, tmp_path) -> None:
    kept = tmp_path / "statistics.safetensors"
    kept.write_bytes(b"half a file")
    wanted = recipe((1, 2), normalise="batch")
    picture = Painting(normed, wanted, statistics_file=kept).region(0, 0, 8, 8)
    assert np.array_equal(picture, Painting(normed, wanted).region(0, 0, 8, 8))


def test_painting_with_a_canvas_statistics_does_not_change_the_generator(normed) -> None:
    before = {name: tensor.clone() for name, tensor in normed.state_dict().items()}
    overlapping = paint(normed, recipe())
    assert not np.array_equal(paint(normed, recipe(normalise="batch")), overlapping)
    assert not np.array_equal(paint(normed, recipe(normalise="none")), overlapping)
    assert all(torch.equal(tensor, before[name]) for name, tensor in normed.state_dict().items())
    assert np.array_equal(paint(normed, recipe()), overlapping)


def test_overlapping_latents_are_normalised_unless_normalise_is_none(generators) -> None:
    generator = generators["dcgan"]
    raw = generator.project(draw_latents(1, 5, NZ, (6, 6)).double())
    uneven = Painting(generator, recipe((6, 6), normalise="none"))._painter
    assert torch.equal(uneven.base(draw_latents(1, 5, NZ, (6, 6)).double()), raw)
    assert torch.allclose(generator.base(draw_latents(1, 5, NZ, (6, 6)).double())[..., 4, 4], raw[..., 4, 4] / 4)


@pytest.mark.parametrize(
    ("name", "canvas", "words"),
    [("r3gan", (2, 3), "no batch norms"), ("sketch", (1, 1), "a canvas of one cell is too small")],
)
def test_statistics_that_do_not_exist_are_refused_with_a_message(generators, name, canvas, words) -> None:
    with pytest.raises(AtelierError, match=f"{words}.*generate.normalise"):
        paint(generators[name], recipe(canvas, normalise="batch"))


@pytest.mark.parametrize("layout", ["random", "smooth"])
@pytest.mark.parametrize("seamless", [False, True])
def test_a_grown_canvas_shows_the_smaller_picture_in_its_middle(generator, layout, seamless) -> None:
    alone = {
        index: paint(generator, recipe((1, 1)).model_copy(update={"index": index})).astype(float)
        for index in range(5, 8)
    }
    facts = {"layout": layout, "seamless": seamless, "grown_from": (1, 1)}
    grown = paint(generator, recipe((5, 7), **facts)).astype(float)
    (height, width), cell_px = alone[5].shape[:2], generator.resolution // 4
    top, left = (
        (side - own) // 2 // cell_px * cell_px for side, own in zip(grown.shape, (height, width), strict=False)
    )
    # a picture's edge is its own, a canvas has none there
    inner = slice(cell_px, height - cell_px), slice(cell_px, width - cell_px)
    middle = grown[top : top + height, left : left + width][inner]
    likeness = {index: np.corrcoef(middle.ravel(), one[inner].ravel())[0, 1] for index, one in alone.items()}
    assert max(likeness, key=likeness.__getitem__) == 5 and likeness[5] > 0.5


def test_a_canvas_cannot_grow_from_a_larger_one(generators) -> None:
    with pytest.raises(AtelierError, match=r"\[2, 3\] cells cannot grow from one of \[3, 3\]"):
        paint(generators["sketch"], recipe((2, 3), grown_from=(3, 3)))
    same = recipe((2, 3), grown_from=(2, 3))
    assert torch.equal(latent_field(generators["sketch"], same), latent_field(generators["sketch"], recipe()))


def test_a_grown_field_has_the_smaller_one_in_its_middle_and_its_own_around_it(generators) -> None:
    inner, around = (latent_field(generators["sketch"], recipe(canvas)) for canvas in ((2, 3), (6, 7)))
    grown = latent_field(generators["sketch"], recipe((6, 7), grown_from=(2, 3)))
    assert torch.equal(grown[:, :, 2:4, 2:5], inner)
    grown[:, :, 2:4, 2:5] = around[:, :, 2:4, 2:5]
    assert torch.equal(grown, around)


def test_a_grown_field_has_the_varied_smaller_one_in_its_middle(generators) -> None:
    near = Variation(number=2, strength=0.4)
    inner = latent_field(generators["sketch"], recipe((2, 3), variation=near))
    grown = latent_field(generators["sketch"], recipe((6, 7), grown_from=(2, 3), grown_varied=(near,)))
    assert torch.equal(grown[:, :, 2:4, 2:5], inner)
    own, other = (
        latent_field(generators["sketch"], recipe((6, 7), grown_from=(2, 3), grown_varied=way, variation=near))
        for way in ((near,), ())
    )
    assert not torch.allclose(own[:, :, 0], other[:, :, 0])  # neighbours of its own


def test_the_angle_between_a_variation_and_the_picture_is_its_strength(generators) -> None:
    generator, canvas = generators["sketch"], (8, 8)
    plain = latent_field(generator, recipe(canvas))
    for strength in (0.1, 0.5, 1.0):
        varied = [
            latent_field(generator, recipe(canvas, variation=Variation(number=number, strength=strength)))
            for number in range(2)
        ]
        for one in varied:
            cosine = torch.cosine_similarity(one.flatten(), plain.flatten(), dim=0)
            assert cosine == pytest.approx(np.cos(strength * np.pi / 2), abs=0.1)
            assert one.std() == pytest.approx(1, abs=0.1)
        assert not torch.equal(*varied)
    tame = latent_field(generator, recipe(canvas, truncation=0.0, variation=Variation(number=0, strength=1)))
    assert (tame == 0).all()


def test_a_neighbour_has_neighbours_of_its_own_around_it(generators) -> None:
    near = [Variation(number=number, strength=0.3) for number in range(2)]

    def varied(*way: Variation) -> torch.Tensor:
        return latent_field(generators["sketch"], recipe((8, 8), varied=way[:-1], variation=way[-1])).flatten()

    first, other = varied(near[0]), varied(near[1])
    own, others, same_way = varied(near[0], near[1]), varied(near[1], near[1]), varied(near[0], near[0])
    for place, neighbour in ((first, own), (other, others), (first, same_way)):
        assert torch.cosine_similarity(place, neighbour, dim=0) == pytest.approx(np.cos(0.15 * np.pi), abs=0.1)
    turns = [own - first * np.cos(0.15 * np.pi), others - other * np.cos(0.15 * np.pi)]
    assert abs(torch.cosine_similarity(*turns, dim=0)) < 0.1
    assert torch.equal(varied(near[0]), latent_field(generators["sketch"], recipe((8, 8), variation=near[0])).flatten())


def test_the_first_and_last_frames_of_a_walk_are_its_stations(generators) -> None:
    stations = (Station(seed=1, index=5), Station(seed=3, index=2))
    frames = [
        latent_field(
            generators["sketch"],
            recipe((2, 3), walk=Walk(stations=stations, frame=frame, frames=5, loop=False, easing="linear")),
        )
        for frame in range(5)
    ]
    assert torch.allclose(frames[0], draw_latents(1, 5, NZ, (2, 3)), atol=1e-6)
    assert torch.allclose(frames[4], draw_latents(3, 2, NZ, (2, 3)), atol=1e-6)
    steps = [(after - before).norm() for before, after in itertools.pairwise(frames)]
    assert max(steps) < 1.3 * min(steps)


def test_every_cell_is_moved_along_a_direction(generators) -> None:
    generator = generators["dcgan"]
    moved = latent_field(generator, recipe(moves=(Move(direction=2, amount=1.5),))) - latent_field(generator, recipe())
    row = 1.5 * directions(generator)[0][2].float()
    assert torch.allclose(moved, row[:, None, None].expand(NZ, 2, 3), atol=1e-5)


def test_a_canvas_that_does_not_fit_into_memory_is_refused_before_anything_is_drawn(generators, monkeypatch) -> None:
    monkeypatch.setattr("atelier.canvas.latents.machine_memory", lambda: 2**30)
    for generator, canvas, words in [
        (generators["sketch"], (4096, 4096), "a picture of 131,072 × 131,072 px, which needs about 48.0 GiB"),
        (generators["dcgan"], (4096, 4096), "32,792 × 32,792 px, which needs about 3.0 GiB"),
    ]:
        with pytest.raises(AtelierError, match=rf"{words}; there are 1\.0 GiB.*generate\.canvas"):
            paint(generator, recipe(canvas))
    with pytest.raises(AtelierError, match=r"latents.*generate\.canvas"):
        latent_field(generators["dcgan"], recipe((4096, 4096)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("normalise", ["overlap", "batch"])
def test_cuda_paints_what_the_cpu_paints(generator, normalise) -> None:
    if normalise == "batch" and not any(isinstance(m, torch.nn.BatchNorm2d) for m in generator.modules()):
        pytest.skip("the network has no batch norms")
    on_cuda = in_double_precision(copy.deepcopy(generator), torch.device("cuda"))
    for index in range(8):
        wanted = recipe((3, 4), normalise=normalise).model_copy(update={"index": index})
        here, there = paint(generator, wanted).astype(int), paint(on_cuda, wanted).astype(int)
        assert np.abs(here - there).max() <= 1 and (here == there).mean() >= 0.999

"""The latents of a canvas in each layout."""

from typing import get_args

import pytest
import torch

from atelier.canvas.latents import draw_field
from atelier.networks.latent_field import draw_latents
from atelier.settings.schema import Layout

NZ = 100
LAYOUTS = get_args(Layout)
# the first numbers of the last cell of a canvas of 4 × 7
LAST_CELLS = {
    ("random", False): [-1.66217, -1.34732, -1.522468],
    ("random", True): [-1.66217, -1.34732, -1.522468],
    ("line", False): [-1.068702, -0.504493, 1.26075],
    ("line", True): [0.439046, -1.169037, 2.085515],
    ("smooth", False): [1.26075, -1.3812, -0.093624],
    ("smooth", True): [-0.519005, 2.052253, -0.729503],
    ("panorama", False): [-1.037839, 1.26075, 0.810923],
    ("panorama", True): [0.439046, -1.169037, 2.085515],
}


def laid(layout: Layout, canvas: tuple[int, int], seamless: bool = False, index: int = 0) -> torch.Tensor:
    return draw_field(layout, 1, index, NZ, canvas, 1.0, seamless)


def likeness(field: torch.Tensor, one: tuple[int, int], other: tuple[int, int]) -> float:
    """The cosine between the latents of two cells."""
    return torch.cosine_similarity(field[0, :, *one], field[0, :, *other], dim=0).item()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_canvas_of_one_cell_is_the_pictures_latent_in_every_layout(layout: Layout) -> None:
    assert torch.equal(laid(layout, (1, 1)), draw_latents(1, 0, NZ))
    assert torch.equal(laid(layout, (1, 1), seamless=True), draw_latents(1, 0, NZ))


@pytest.mark.parametrize("canvas", [(4, 7), (7, 4), (1, 2), (2, 1), (1, 9), (16, 16)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_latents_have_the_length_of_those_in_training(layout: Layout, canvas: tuple[int, int]) -> None:
    for seamless in (False, True):
        field = laid(layout, canvas, seamless)
        assert field.shape == (1, NZ, *canvas) and field.dtype == torch.float32
        lengths = field.norm(dim=1)
        assert lengths.min() > 7.5 and lengths.max() < 12.5  # √100, and four standard deviations


def test_random_cells_are_independent() -> None:
    assert torch.equal(laid("random", (4, 7)), draw_latents(1, 0, NZ, (4, 7)))
    assert abs(likeness(laid("random", (4, 7)), (0, 0), (0, 1))) < 0.4


@pytest.mark.parametrize("canvas", [(3, 8), (8, 3)])
def test_a_line_goes_from_one_latent_to_another_along_the_longer_side(canvas: tuple[int, int]) -> None:
    field = laid("line", canvas)
    if canvas[0] > canvas[1]:
        field = field.transpose(2, 3)
    assert (field == field[:, :, :1]).all()
    ways = [likeness(field, (0, 0), (0, column)) for column in range(8)]
    assert ways == sorted(ways, reverse=True) and abs(ways[-1]) < 0.4


def test_a_seamless_line_returns_to_its_start() -> None:
    field = laid("line", (1, 8), seamless=True)
    for step in range(1, 4):
        assert torch.equal(field[..., step], field[..., 8 - step])
    assert abs(likeness(field, (0, 0), (0, 4))) < 0.4


def test_a_smooth_field_changes_slowly_in_both_directions() -> None:
    field = laid("smooth", (13, 13))
    steps = [likeness(field, (row, column), (row, column + 1)) for row in range(13) for column in range(12)]
    steps += [likeness(field, (row, column), (row + 1, column)) for row in range(12) for column in range(13)]
    assert min(steps) > 0.6
    assert abs(likeness(field, (0, 0), (6, 6))) < 0.4
    assert abs(likeness(field, (0, 0), (0, 12))) < 0.4


def test_the_rows_of_a_panorama_are_equal_and_change_slowly_along_the_width() -> None:
    field = laid("panorama", (3, 13))
    assert (field == field[:, :, :1]).all()
    assert min(likeness(field, (0, column), (0, column + 1)) for column in range(12)) > 0.6
    assert abs(likeness(field, (0, 0), (0, 6))) < 0.4


@pytest.mark.parametrize("layout", ["smooth", "panorama", "line"])
def test_a_seamless_field_continues_at_its_other_edge(layout: Layout) -> None:
    field = laid(layout, (12, 12), seamless=True)
    assert likeness(field, (5, 11), (5, 0)) > 0.6
    assert likeness(field, (11, 5), (0, 5)) > 0.6
    if layout == "smooth":  # its edges are unrelated if it is not seamless
        assert abs(likeness(laid(layout, (12, 12)), (5, 11), (5, 0))) < 0.4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fields_depend_on_the_picture_only(layout: Layout) -> None:
    assert torch.equal(laid(layout, (4, 7)), laid(layout, (4, 7)))
    assert abs(torch.corrcoef(torch.stack([laid(layout, (4, 7), index=i).flatten() for i in (0, 1)]))[0, 1]) < 0.4


@pytest.mark.parametrize("seamless", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_numbers_of_a_recipes_field_do_not_change(layout: Layout, seamless: bool) -> None:
    """If this test fails, every picture with this layout changes."""
    cell = laid(layout, (4, 7), seamless)[0, :3, -1, -1]
    assert torch.allclose(cell, torch.tensor(LAST_CELLS[layout, seamless]), atol=1e-6)

"""The positions of a walk's frames, and spherical interpolation between latents."""

import itertools
import math

import pytest
import torch
from pydantic import ValidationError

from atelier.canvas.latents import walk_position
from atelier.canvas.recipe import Easing, Station, Walk
from atelier.networks.latent_field import draw_latents, slerp

A, B, C = (Station(seed=seed, index=0) for seed in (3, 14, 15))


def stands(frame: int, frames: int = 7, *, loop: bool = False, easing: Easing = "linear"):
    return walk_position(Walk(stations=(A, B, C), frame=frame, frames=frames, loop=loop, easing=easing))


def test_a_walk_begins_at_its_first_station_and_ends_at_its_last():
    assert stands(0) == (A, B, 0.0)
    assert stands(3) == (B, C, 0.0)
    assert stands(6) == (B, C, 1.0)


def test_a_loop_returns_without_repeating_its_first_frame():
    walked = [stands(frame, 6, loop=True) for frame in range(6)]
    assert walked == [(A, B, 0.0), (A, B, 0.5), (B, C, 0.0), (B, C, 0.5), (C, A, 0.0), (C, A, 0.5)]


def test_frames_are_equally_spaced_also_between_stations():
    steps = []
    for frame in range(60):
        before, _, gone = stands(frame, 60)
        steps.append((A, B, C).index(before) + gone)
    assert steps[0] == 0 and steps[-1] == 2
    assert all(abs(b - a - 2 / 59) < 1e-12 for a, b in itertools.pairwise(steps))


def test_smooth_easing_is_slow_near_stations_and_half_way_at_half_time():
    gone = [stands(frame, 41, easing="smooth")[2] for frame in range(20)]
    assert gone[0] == 0 and gone[10] == 0.5
    assert gone[1] < 0.01 and 1 - gone[19] < 0.01
    assert gone == sorted(gone)


def test_a_frame_beyond_the_last_is_refused():
    with pytest.raises(ValidationError, match="no frame 7 of 7"):
        stands(7)


@pytest.mark.parametrize("canvas", [(1, 1), (2, 3)])
def test_slerp_returns_its_ends_exactly(canvas: tuple[int, int]):
    one, other = draw_latents(3, 0, 16, canvas), draw_latents(14, 0, 16, canvas)
    assert torch.equal(slerp(one, other, 0.0), one)
    assert torch.equal(slerp(one, other, 1.0), other)


@pytest.mark.parametrize("canvas", [(1, 1), (2, 3)])
def test_slerp_turns_at_a_constant_rate_and_interpolates_lengths(canvas: tuple[int, int]):
    one, other = draw_latents(3, 0, 16, canvas), draw_latents(14, 0, 16, canvas)
    walked = torch.stack([slerp(one, other, step / 8) for step in range(9)]).double()
    lengths = walked.norm(dim=2)
    wanted = torch.stack([torch.lerp(lengths[0], lengths[-1], step / 8) for step in range(9)])
    assert torch.allclose(lengths, wanted, rtol=1e-6)
    turned = torch.nn.functional.cosine_similarity(walked[1:], walked[:-1], dim=2).acos()
    assert torch.allclose(turned, turned[:1].expand_as(turned), rtol=1e-4)


def test_slerp_of_parallel_opposite_and_zero_latents_is_finite():
    z = draw_latents(3, 0, 16)
    assert torch.allclose(slerp(z, 3 * z, 0.5), 2 * z)
    assert torch.equal(slerp(z, z, 0.3), z)
    assert slerp(z, -z, 0.5).isfinite().all()
    assert torch.equal(slerp(0 * z, 0 * z, 0.5), 0 * z)


def test_slerp_is_precise_for_small_angles():
    one = torch.tensor([[1.0, 0.0]])
    near = torch.tensor([[math.cos(1e-6), math.sin(1e-6)]])
    assert math.isclose(slerp(one, near, 0.5)[0, 1].item(), 5e-7, rel_tol=1e-5)

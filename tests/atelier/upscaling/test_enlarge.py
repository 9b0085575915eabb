"""Tiles: equal to the whole, in as many passes as the scale takes, in memory that does not grow with the picture."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from atelier.errors import AtelierError
from atelier.pictures import Pixels
from atelier.upscaling.network import (
    SRVGGNetCompact,
    allocate_print,
    enlarge,
    enlarge_into,
    enlarge_lanczos,
    passes,
    save_upscaler,
)

FLOATS = 65535  # 16 bits tell differences of 1.5e-5


@pytest.fixture(scope="module")
def network() -> SRVGGNetCompact:
    return small_network()


def small_network(scale: int = 2, features: int = 16, blocks: int = 3) -> SRVGGNetCompact:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SRVGGNetCompact(scale, features, blocks).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def whole(network: SRVGGNetCompact, picture: Pixels, count: int) -> torch.Tensor:
    """The picture through the network at once, `count` times: (H, W, 3) in [0, 1]."""
    images = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255).to(memory_format=torch.channels_last)
    for _ in range(count):
        images = network(images).clamp(0, 1)
    return images[0].permute(1, 2, 0)


@pytest.mark.parametrize("tile_px", [7, 16, 33, 256])
@pytest.mark.parametrize("size", [(20, 34), (16, 16), (3, 34), (1, 1)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiles_equal_the_whole_up_to_the_border(size: tuple[int, int], tile_px: int, count: int) -> None:
    network, picture = small_network(features=8, blocks=1), noise(*size)
    result = allocate_print(size[0] * 2**count, size[1] * 2**count, 16)
    enlarge_into(result, network, picture, tile_px)
    difference = np.abs(result / FLOATS - whole(network, picture, count).double().numpy()).max()
    assert difference < 1e-5


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_of_every_scale_equal_the_whole(scale: int) -> None:
    network, picture = small_network(scale), noise(20, 31)
    result = allocate_print(20 * scale**2, 31 * scale**2, 16)
    enlarge_into(result, network, picture, 24)
    assert np.abs(result / FLOATS - whole(network, picture, 2).double().numpy()).max() < 1e-5


def test_in_8_bits_no_value_depends_on_the_tiles() -> None:
    network, picture = small_network(features=48), noise(60, 100)
    levels = (whole(network, picture, 2) * 255).round().to(torch.uint8).numpy()
    for tile_px in (96, 130):
        result = allocate_print(240, 400, 8)
        enlarge_into(result, network, picture, tile_px)
        assert np.array_equal(result, levels), tile_px
    assert np.array_equal(levels, enlarge(network, picture, 4))


def test_a_narrower_context_would_show_seams(network: SRVGGNetCompact) -> None:
    images = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    reach = network.reach_px
    seen = network(images)[:, :, :40] - network(images[:, :, : 20 + reach])[:, :, :40]
    assert seen.abs().max() < 1e-5
    seen = network(images)[:, :, :40] - network(images[:, :, : 20 + reach - 3])[:, :, :40]
    assert seen.abs().max() > 1e-5


def test_no_pass_takes_more_than_a_tile_and_its_receptive_field(network: SRVGGNetCompact) -> None:
    largest = []
    hook = network.register_forward_pre_hook(lambda _, inputs: largest.append(max(inputs[0].shape[2:])))
    enlarge_into(allocate_print(320, 96, 8), network, noise(40, 12), tile_px=16)
    hook.remove()
    assert max(largest) <= 16 + 2 * network.reach_px


PEAK = """
import sys
import numpy as np
from pathlib import Path
from atelier.upscaling.network import load_upscaler
from atelier.upscaling.network import allocate_print
from atelier.upscaling.network import enlarge_into

def kib(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

network, _ = load_upscaler(Path(sys.argv[1]))
enlarge_into(allocate_print(40 * 16, 40 * 16, 8), network, np.zeros((40, 40, 3), np.uint8), 64)
side = int(sys.argv[2])
picture = np.zeros((side, side, 3), np.uint8)
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = kib("VmRSS")
enlarge_into(allocate_print(side * 16, side * 16, 8), network, picture, 64)
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are Linux's to tell")
def test_beside_the_print_itself_memory_does_not_grow_with_the_picture(tmp_path: Path) -> None:
    save_upscaler(tmp_path / "upscaler.safetensors", small_network(4, features=8, blocks=1), {})
    command = [sys.executable, "-c", PEAK, str(tmp_path / "upscaler.safetensors"), "170"]
    grown_kib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print_kib = 2720 * 2720 * 3 // 1024
    # a single float32 copy of the print would be 4 times as much
    assert grown_kib < print_kib * 1.5


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_passes_are_chained(network: SRVGGNetCompact, scale: int) -> None:
    picture = noise(9, 12)
    enlarged = enlarge(network, picture, scale)
    assert enlarged.shape == (9 * scale, 12 * scale, 3)
    assert enlarged.dtype == np.uint8
    assert enlarge_lanczos(picture, scale).shape == enlarged.shape


def test_the_same_picture_gives_the_same_bytes(network: SRVGGNetCompact) -> None:
    picture = noise(30, 30)
    assert np.array_equal(enlarge(network, picture, 4), enlarge(network, picture, 4))


def test_progress_adds_up_to_the_print(network: SRVGGNetCompact) -> None:
    told: list[float] = []
    enlarge_into(allocate_print(160, 200, 8), network, noise(40, 50), 16, told.append)
    assert sum(told) == 160 * 200 and len(told) > 10


def test_where_memory_does_not_suffice_smaller_tiles_make_the_same_print() -> None:
    network, picture = small_network(features=48), noise(90, 300)
    expected = enlarge(network, picture, 2)

    def ask_for_too_much(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[-1] > 150:
            torch.empty(1 << 50, dtype=torch.uint8)  # the allocator itself refuses

    network.register_forward_pre_hook(ask_for_too_much)
    assert np.array_equal(enlarge(network, picture, 2), expected)


def test_an_error_says_that_memory_suffices_for_no_tile(network: SRVGGNetCompact) -> None:
    network = small_network()
    network.register_forward_pre_hook(lambda *_: torch.empty(1 << 50, dtype=torch.uint8))
    with pytest.raises(AtelierError, match="memory does not suffice to enlarge tiles of 32 px"):
        enlarge(network, noise(9, 9), 2)


def test_a_network_that_makes_nan_is_refused() -> None:
    network = small_network()
    network.body[0].bias.fill_(float("nan"))
    with pytest.raises(AtelierError, match="the upscaler returns NaN"):
        enlarge(network, noise(9, 9), 2)


def test_a_scale_that_passes_cannot_make_is_refused() -> None:
    assert passes(2, 8) == 3
    assert passes(4, 4) == 1
    with pytest.raises(AtelierError, match=r"upscale\.scale holds 8; the upscaler enlarges 4 times a pass"):
        passes(4, 8)

"""Others' networks, as spandrel builds them: opened safely, in tiles that show no seams."""

import hashlib
import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
import spandrel
import torch
from torch import nn

from atelier.errors import AtelierError
from atelier.pictures import Pixels, Samples
from atelier.upscaling.external import OVERLAP_PX, External, external_into, open_external, tiles, weights
from atelier.upscaling.network import SRVGGNetCompact, allocate_print, enlarge, load_upscaler, save_upscaler
from tests.foreign import far_sighted, made, saved

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # SwinIR's


def scene(height: int, width: int) -> Pixels:
    """Smooth slopes, edges and some grain: more like a painting than noise is."""
    rows, columns = np.mgrid[:height, :width]
    slopes = np.stack([rows * 2 + columns, columns * 3, rows + 90], axis=2) % 256
    grain = np.random.default_rng(0).integers(-9, 10, (height, width, 3))
    return np.clip(slopes + grain, 0, 255).astype(np.uint8)


def opened(network: nn.Module, path: Path) -> External:
    return open_external(*saved(network, path), CPU)


def enlarged(external: External, picture: Pixels, tile_px: int | None = None, scale: int = 2) -> Samples:
    result = allocate_print(picture.shape[0] * scale, picture.shape[1] * scale, 16)
    external_into(result, external, picture, tile_px)
    return result


@pytest.mark.parametrize(
    ("name", "levels"),
    [("ESRGAN", 0.1), ("SPAN", 0.1), ("PLKSR", 0.1), ("SwinIR", 0.1), ("SAFMN", 1), ("grey ESRGAN", 0.1)],
)
def test_networks_of_several_kinds_make_in_tiles_what_they_make_of_the_whole(
    tmp_path: Path, name: str, levels: float
) -> None:
    network, picture = made(name), scene(40, 240)
    external, as_pickle = (opened(network, tmp_path / file) for file in ("net.safetensors", "net.pth"))
    assert external.architecture == as_pickle.architecture and external.architecture in name
    in_tiles, whole = enlarged(as_pickle, picture, 128), enlarged(external, picture, 4096)
    assert np.abs(in_tiles.astype(int) - whole).max() / 257 < levels


def test_our_own_file_gives_the_same_print_as_an_external_network(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_upscaler(tmp_path / "u.safetensors", SRVGGNetCompact(2, 16, 3), {})
    digest = hashlib.sha256((tmp_path / "u.safetensors").read_bytes()).hexdigest()
    external, picture = open_external(tmp_path / "u.safetensors", digest, CPU), scene(70, 130)
    result = allocate_print(280, 520, 8)
    assert external_into(result, external, picture, 128) == 128
    ours = enlarge(load_upscaler(tmp_path / "u.safetensors")[0], picture, 4)
    differing = result.astype(int) - ours
    assert np.abs(differing).max() <= 1 and (differing != 0).mean() < 1e-4


def test_a_receptive_field_beyond_the_overlap_leaves_hardly_a_seam(tmp_path: Path) -> None:
    external, picture = opened(far_sighted(), tmp_path / "net.safetensors"), scene(40, 320)
    other = picture.copy()
    other[:, : 160 - OVERLAP_PX] = 255 - other[:, : 160 - OVERLAP_PX]
    whole = enlarged(external, picture, 4096)
    assert not np.array_equal(whole[:, 320:], enlarged(external, other, 4096)[:, 320:])  # it does look further
    left, right = enlarged(external, picture[:, :170], 4096), enlarged(external, picture[:, 150:], 4096)
    met = np.concatenate([left[:, :320], right[:, 20:]], axis=1)  # tiles with 10 px around them, as Real-ESRGAN's
    assert seam(enlarged(external, picture, 192), whole) < 1
    assert seam(enlarged(external, picture, 192), whole) < seam(met, whole) / 5


def seam(samples: Samples, whole: Samples) -> float:
    """The largest step between columns, in 8-bit levels and on average over rows, that the whole does not have."""
    columns = ((samples.astype(int) - whole) / 257).mean(axis=(0, 2))
    return float(np.abs(np.diff(columns)).max())


@pytest.mark.parametrize("size", [1, 31, 128, 129, 192, 193, 255, 500, 1013])
@pytest.mark.parametrize("tile_px", [128, 192, 384])
def test_tiles_cover_all_and_overlap_and_their_weights_add_up_to_one(size: int, tile_px: int) -> None:
    spans = tiles(size, tile_px)
    assert (spans[0].start, spans[-1].end) == (0, size)
    assert all(left.end - right.start >= OVERLAP_PX for left, right in itertools.pairwise(spans))
    assert all(span.start % 32 == 0 for span in spans)
    total = torch.zeros(size * 2)
    for span, weight in zip(spans, weights(spans, size, 2), strict=True):
        total[span.start * 2 : span.end * 2] += weight
    assert torch.allclose(total, torch.ones(size * 2))


def test_the_same_picture_gives_the_same_bytes_and_draws_nothing(tmp_path: Path) -> None:
    external, picture = opened(made("SPAN"), tmp_path / "net.pth"), scene(30, 200)
    before = torch.get_rng_state()
    assert np.array_equal(enlarged(external, picture, 128), enlarged(external, picture, 128))
    assert torch.equal(torch.get_rng_state(), before)


def test_another_file_than_the_named_one_is_never_opened(tmp_path: Path) -> None:
    path, digest = saved(made("ESRGAN"), tmp_path / "net.pth")
    with pytest.raises(AtelierError, match=f"has the SHA-256 {digest}, not {'0' * 64}: it is another network"):
        open_external(path, "0" * 64, CPU)
    with pytest.raises(AtelierError, match=r"absent\.pth is missing: upscale\.external\.path names"):
        open_external(tmp_path / "absent.pth", digest, CPU)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def bomb(path: Path) -> None:
    torch.save({"conv.weight": Bomb()}, path)


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 3)), str(path))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (bomb, "net.pth"),
        (script, "net.pth"),
        (lambda path: path.write_bytes(b"no network"), "net.pth"),
        (lambda path: path.write_bytes(b"no network"), "net.safetensors"),
        (lambda path: saved(nn.Linear(3, 4), path), "net.safetensors"),
        (lambda path: torch.save([1, 2], path), "net.pth"),
        (lambda path: saved(made("ESRGAN"), path), "net.ckpt"),
    ],
    ids=["code", "TorchScript", "no pickle", "no safetensors", "unknown", "a list", "another suffix"],
)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_file_that_is_not_a_network_is_refused_and_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: object, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    write(path)
    with pytest.raises(AtelierError, match=re.escape(f"{name} is not a network that spandrel")) as error:
        open_external(path, hashlib.sha256(path.read_bytes()).hexdigest(), CPU)
    assert "\n" not in str(error.value)
    assert not Path("exploded").exists()


def test_a_network_that_does_not_enlarge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="holds a DnCNN network for Restoration"):
        opened(made("DnCNN"), tmp_path / "net.pth")


def test_passes_that_do_not_make_the_scale_are_refused(tmp_path: Path) -> None:
    external = opened(made("ESRGAN ×4"), tmp_path / "net.pth")
    assert enlarged(external, scene(9, 9), scale=4).shape == (36, 36, 3)
    with pytest.raises(AtelierError, match=r"upscale\.scale holds 8; the upscaler enlarges 4 times a pass"):
        enlarged(external, scene(9, 9), scale=8)


def ask_for_too_much(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """What a larger tile asks for is more than any machine has: the allocator itself refuses."""
    if inputs[0].shape[-1] > 230:
        torch.empty(1 << 50, dtype=torch.uint8)


def test_where_memory_does_not_suffice_tiles_are_halved_and_the_print_says_so(tmp_path: Path) -> None:
    external, picture = opened(made("ESRGAN"), tmp_path / "net.safetensors"), scene(20, 500)
    external.descriptor.model.register_forward_pre_hook(ask_for_too_much)
    told: list[float] = []
    result = allocate_print(40, 1000, 8)
    assert external_into(result, external, picture, progress=told.append) == 192
    assert sum(told) == 40 * 1000
    again = allocate_print(40, 1000, 8)
    assert external_into(again, external, picture, 192) == 192
    assert np.array_equal(result, again)
    with pytest.raises(AtelierError, match="memory does not suffice to enlarge tiles of 256 px"):
        external_into(again, external, picture, 256)  # a print that says 256 px is not made of others


def test_a_network_with_its_own_tiles_takes_the_whole_picture(tmp_path: Path) -> None:
    external, picture = opened(made("ESRGAN"), tmp_path / "net.safetensors"), scene(20, 500)
    external.descriptor.tiling = spandrel.ModelTiling.INTERNAL
    widths: list[int] = []
    external.descriptor.model.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[-1]))
    assert external_into(allocate_print(40, 1000, 8), external, picture) is None
    assert widths == [500]


def test_tiles_meet_a_networks_size_requirements(tmp_path: Path) -> None:
    external = opened(made("SAFMN"), tmp_path / "net.safetensors")
    external.descriptor.size_requirements = spandrel.SizeRequirements(minimum=400, multiple_of=48)
    assert external.sides_px() == [480, 480]
    assert enlarged(external, scene(10, 500)).shape == (20, 1000, 3)

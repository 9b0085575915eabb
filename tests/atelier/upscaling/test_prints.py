"""Prints: seamless where the picture is, 8 or 16 bits, and the same again from what they say of themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.pictures import Pixels
from atelier.upscaling.network import SRVGGNetCompact, save_upscaler
from atelier.upscaling.prints import Printer, new_printer, print_again

METHODS = ("learned", "external", "lanczos")


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upscaler") / "upscaler.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_upscaler(path, SRVGGNetCompact(2, 16, 3), {})
    return path


def make_printer(method: str, upscaler: Path, scale: int = 2, bits: int = 8) -> Printer:
    if method == "lanczos":
        return new_printer("lanczos", scale, bits)
    return new_printer(method, scale, bits, upscaler, digest(upscaler))


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [2, 4])
def test_a_seamless_picture_has_a_seamless_print(upscaler: Path, method: str, scale: int) -> None:
    picture, printer = noise(30, 41), make_printer(method, upscaler, scale)
    samples, facts = printer.print(picture, seamless=True)
    for offset in [(1, 0), (15, 20), (29, 7)]:
        rolled, _ = printer.print(np.roll(picture, offset, (0, 1)), seamless=True)
        back = np.roll(rolled, [-scale * pixels for pixels in offset], (0, 1))
        assert np.array_equal(back, samples)
    assert facts.settings["seamless"] is True
    plain, _ = printer.print(picture)
    assert plain.shape == samples.shape and not np.array_equal(plain, samples)


@pytest.mark.parametrize("method", METHODS)
def test_16_bits_do_not_pass_through_8(upscaler: Path, method: str) -> None:
    picture = noise(20, 30) // 4 + 96
    coarse, _ = make_printer(method, upscaler).print(picture)
    fine, facts = make_printer(method, upscaler, bits=16).print(picture)
    assert fine.dtype == np.uint16 and facts.settings["bits"] == 16
    # Pillow rounds its 8 bits twice, between rows and columns too
    assert np.abs(fine / 257 - coarse).max() < (1.5 if method == "lanczos" else 0.51)
    assert (fine % 257 != 0).mean() > 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seamless", [False, True])
def test_a_print_is_made_again_from_its_facts(upscaler: Path, method: str, seamless: bool) -> None:
    picture = noise(24, 31)
    samples, facts = make_printer(method, upscaler, 4, 16).print(picture, seamless)
    network = None if method == "lanczos" else upscaler
    assert np.array_equal(print_again(facts, network, picture), samples)


def test_a_printers_progress_adds_up_to_the_print(upscaler: Path) -> None:
    for method in METHODS:
        told: list[float] = []
        make_printer(method, upscaler).print(noise(20, 30), seamless=True, progress=told.append)
        assert sum(told) == pytest.approx(40 * 60)


def test_another_file_than_the_print_names_is_refused(upscaler: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_upscaler(other, SRVGGNetCompact(2, 8, 1), {})
    for method, words in [("learned", "is not the upscaler"), ("external", "it is another network")]:
        _, facts = make_printer(method, upscaler).print(noise(8, 8))
        with pytest.raises(AtelierError, match=words):
            print_again(facts, other, noise(8, 8))
        with pytest.raises(AtelierError, match=f"made with the network {digest(upscaler)}, which is missing"):
            print_again(facts, None, noise(8, 8))


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("learned", {"method": "magic"}, "enlarged by 'magic'"),
        ("lanczos", {"method": "learned"}, "enlarged by 'learned'"),
        ("external", {"settings": {"tile_px": 10**9}}, "names tiles of 1000000000 px"),
        ("external", {"settings": {"tile_px": True}}, "names tiles of True px"),
        ("external", {"settings": {"tile_px": 129}}, "names tiles of 129 px"),
        ("learned", {"settings": {"bits": 12}}, "names 12 bits a colour"),
        ("learned", {"scale": 3}, r"upscale\.scale holds 3; the upscaler enlarges 2 times a pass"),
    ],
)
def test_impossible_facts_of_a_print_are_refused(
    upscaler: Path, method: str, changes: dict[str, object], words: str
) -> None:
    _, facts = make_printer(method, upscaler).print(noise(8, 8))
    with pytest.raises(AtelierError, match=words):
        print_again(facts.model_copy(update=changes), upscaler, noise(8, 8))


def test_a_print_larger_than_memory_is_refused_before_it_is_begun() -> None:
    picture = np.broadcast_to(np.zeros(3, np.uint8), (300_000, 300_000, 3))
    with pytest.raises(AtelierError, match=r"a print of 2,400,000 × 2,400,000 px needs 16,093\.3 GiB"):
        new_printer("lanczos", 8).print(picture)


def test_a_scale_that_no_passes_make_is_refused_before_anything_is_printed(tmp_path: Path) -> None:
    save_upscaler(tmp_path / "u.safetensors", SRVGGNetCompact(4, 8, 1), {})
    with pytest.raises(AtelierError, match=r"upscale\.scale holds 8"):
        new_printer("learned", 8, 8, tmp_path / "u.safetensors")

"""The explorer in a real browser: every control, and saved pictures that the recipe paints again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atelier.canvas.artworks import load_painter
from atelier.canvas.latents import directions, latent_field
from atelier.canvas.paint import paint
from atelier.canvas.recipe import Move, Recipe, Variation
from atelier.export.onnx_file import convert
from atelier.networks import NetworkConfig, r3gan
from atelier.networks.labels import Labels
from atelier.page.explorer import WEB, explorer_html
from atelier.provenance.facts import PixelFacts, read_pixels, read_provenance
from tests.browser import WIDTHS_PX, check_accessibility, opened, ready, save_picture, slide
from tests.models import SMALL, save_small_generator

SKETCH = NetworkConfig("sketch", 32, {"nz": 20, "ngf": 8, "ndf": 8, "noise": 4})
R3GAN = NetworkConfig("r3gan", 16, {"nz": 12, "preset": "narrow"})  # fewer than 16 numbers, which torch draws otherwise
TOLERANCE = 2  # of 255


@pytest.fixture(scope="module", autouse=True)
def _narrow_r3gan() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(r3gan.PRESETS, "narrow", (16, 1))
        yield


@pytest.fixture(scope="module")
def explorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """The generator's file and its explorer, for each architecture."""
    made = {}
    for network in (SMALL, SKETCH, R3GAN):
        folder = tmp_path_factory.mktemp(network.arch)
        generator, page = folder / "generator.safetensors", folder / "explore.html"
        save_small_generator(generator, network=network)
        page.write_bytes(explorer_html(generator, convert(generator, field=True)))
        made[network.arch] = generator, page
    return made


def check_painted_again(generator: Path, pictures: list[Path]) -> None:
    painter, model = load_painter(generator, torch.device("cpu"))
    for path in pictures:
        provenance, pixels = read_provenance(path), read_pixels(path)
        assert provenance.model == model
        assert provenance.pixels == PixelFacts.of(pixels)
        painted = paint(painter, provenance.latent)
        assert np.abs(painted.astype(int) - pixels).max() <= TOLERANCE, provenance.latent


@pytest.mark.parametrize("arch", ["dcgan", "sketch", "r3gan"])
def test_pictures_of_twenty_seeds_and_five_canvases_are_painted_again(
    arch: str, explorers: dict[str, tuple[Path, Path]], tmp_path: Path, browser: Any
) -> None:
    generator, html = explorers[arch]
    pictures = []
    with opened(html, browser=browser) as page:
        ready(page)
        for seed in range(20) if arch == "sketch" else (0, 2**31 - 1):
            page.fill("#seed", str(seed))
            pictures.append(save_picture(page, tmp_path))
        for rows, columns in ((1, 2), (2, 1), (2, 3), (4, 4), (3, 3)):
            page.select_option("#rows", str(rows))
            page.select_option("#columns", str(columns))
            pictures.append(save_picture(page, tmp_path))
    recipes = [read_provenance(path).latent for path in pictures]
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(pictures)
    assert [recipe.canvas for recipe in recipes[-2:]] == [(4, 4), (3, 3)]
    check_painted_again(generator, pictures)


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_every_control_changes_the_recipe(
    width_px: int, explorers: dict[str, tuple[Path, Path]], tmp_path: Path, browser: Any
) -> None:
    generator, html = explorers["sketch"]
    pictures = []

    def recipe(page: Any) -> Recipe:
        pictures.append(save_picture(page, tmp_path))
        return read_provenance(pictures[-1]).latent

    with opened(html, width_px, browser) as page:
        ready(page)
        check_accessibility(page)
        page.fill("#seed", "5")
        page.fill("#index", "7")
        page.click("#next")
        page.click("#next")
        page.click("#previous")
        assert (recipe(page).seed, recipe(page).index) == (5, 8)
        slide(page, "#truncation", 0.7)
        assert recipe(page).truncation == 0.7
        slide(page, "#direction-2", 1.5)
        page.focus("#picture")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        box = page.locator("#picture").bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 80, box["y"] + 20, steps=3)
        page.mouse.up()
        moves = {move.direction: move.amount for move in recipe(page).moves}
        assert moves == {0: pytest.approx(1.2, abs=0.05), 1: 0.2, 2: 1.5}
        page.click("#reset")
        assert recipe(page).moves == ()
        slide(page, "#strength", 0.5)
        page.click("#neighbours")
        page.wait_for_function("document.querySelectorAll('#grid button').length == 8")
        page.click("#grid button >> nth=3")
        page.wait_for_function("document.querySelectorAll('#grid button').length == 8")
        page.click("#grid button >> nth=1")
        page.wait_for_function("document.querySelectorAll('#grid button').length == 8")
        near = recipe(page)
        assert [(v.number, v.strength) for v in near.variations] == [(3, 0.5), (1, 0.5)]
        page.click("#back")
        assert [v.number for v in recipe(page).variations] == [3]
        page.click("#keep-a")
        page.click("#random")
        page.click("#keep-b")
        slide(page, "#position", 40)
        walk = recipe(page).walk
        assert walk and (walk.frame, walk.frames, walk.stations[0].seed) == (40, 101, 5)
        page.click("#play")
        page.wait_for_function("Number(document.getElementById('position').value) > 45")
        page.click("#play")
        page.click("#leave")
        assert recipe(page).walk is None
        check_accessibility(page)
    check_painted_again(generator, pictures)


def test_a_picture_that_is_ready_too_late_for_a_download_is_offered_as_a_link(
    explorers: dict[str, tuple[Path, Path]], tmp_path: Path, browser: Any
) -> None:
    with opened(explorers["sketch"][1], browser=browser) as page:
        ready(page)
        page.evaluate("Object.defineProperty(navigator, 'userActivation', {value: {isActive: false}})")
        assert read_provenance(save_picture(page, tmp_path)).latent.seed == 1
        assert page.is_visible("#download")
        page.click("#next")
        assert not page.is_visible("#download")


def test_the_scripts_draw_the_latents_that_torch_draws(
    explorers: dict[str, tuple[Path, Path]], tmp_path: Path, browser: Any
) -> None:
    """For counts below and above a block of torch's generator, with all steps of a recipe."""
    script = (WEB / "latents.js").read_text().replace("export ", "")
    page_file = tmp_path / "latents.html"
    page_file.write_text(f"<!doctype html><script>{script}</script>")
    with opened(page_file, browser=browser) as page:
        for arch, (path, _) in explorers.items():
            generator, _ = load_painter(path, torch.device("cpu"))
            recipe = Recipe(
                seed=3, index=4, canvas=(2, 2), truncation=0.8, varied=(Variation(number=1, strength=0.25),),
                variation=Variation(number=2, strength=0.5), moves=(Move(direction=1, amount=-2.5),),
            )  # fmt: skip
            rows = directions(generator)[0][:6].tolist()
            drawn = page.evaluate(
                "([recipe, nz, rows]) => Array.from(latentField(recipe, nz, rows))",
                [recipe.model_dump(mode="json"), generator.nz, rows],
            )
            expected = latent_field(generator, recipe).flatten().numpy()
            assert np.abs(np.float32(drawn) - expected).max() < 1e-6, arch


@pytest.mark.parametrize("network", [SMALL, SKETCH], ids=lambda network: network.arch)
def test_a_select_chooses_the_label_and_walks_pass_between_labels(
    network: NetworkConfig, tmp_path: Path, browser: Any
) -> None:
    generator, html = tmp_path / "generator.safetensors", tmp_path / "explore.html"
    odd = Labels("genre", ("landscape", "</script><b>&", "other"), (30, 25, 5))
    save_small_generator(generator, network=network.with_labels(odd))
    html.write_bytes(explorer_html(generator, convert(generator, field=True)))
    pictures = []
    with opened(html, browser=browser) as page:
        ready(page)
        check_accessibility(page)
        assert page.locator("#label option").all_text_contents() == [*odd.names, "none"]
        pictures.append(save_picture(page, tmp_path))
        for label in (odd.names[1], "none"):
            page.select_option("#label", label)
            pictures.append(save_picture(page, tmp_path))
        page.select_option("#columns", "3")
        page.select_option("#label", "other")
        pictures.append(save_picture(page, tmp_path))
        page.click("#keep-a")
        page.select_option("#label", "landscape")
        page.click("#keep-b")
        slide(page, "#position", 30)
        assert page.locator("#label").is_disabled()
        pictures.append(save_picture(page, tmp_path))
    recipes = [read_provenance(path).latent for path in pictures]
    assert [recipe.label for recipe in recipes] == ["landscape", odd.names[1], "none", "other", None]
    walk = recipes[-1].walk
    assert walk and [station.label for station in walk.stations] == ["other", "landscape"]
    assert len({read_pixels(path).tobytes() for path in pictures[:3]}) == 3
    check_painted_again(generator, pictures)

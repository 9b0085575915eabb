"""Painting the built-in archive: the same seascapes in every process, with the sky above the sea."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from atelier.gallery.painter import paint
from atelier.gallery.scene import describe

SEED, SIZE_PX = 1, 96
SAMPLE = range(40)


@pytest.fixture(scope="module")
def luminances() -> list[np.ndarray]:
    return [np.asarray(paint(SEED, index, SIZE_PX).convert("L"), np.float32) for index in SAMPLE]


def test_a_painting_is_the_same_bytes_in_another_process() -> None:
    code = (
        "import sys; from atelier.gallery.painter import paint; "
        f"sys.stdout.buffer.write(paint({SEED}, 7, 160).tobytes())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert hashlib.sha256(other.stdout).digest() == hashlib.sha256(paint(SEED, 7, 160).tobytes()).digest()


def test_a_painting_does_not_depend_on_what_was_painted_before() -> None:
    first = paint(SEED, 3, SIZE_PX)
    paint(SEED, 4, SIZE_PX)
    assert paint(SEED, 3, SIZE_PX) == first


def test_painting_does_not_use_numpys_global_generator() -> None:
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    paint(SEED, 0, SIZE_PX)
    assert np.random.random() == expected


def test_another_index_or_another_seed_is_another_painting() -> None:
    pictures = {paint(seed, index, SIZE_PX).tobytes() for seed in (1, 2) for index in range(10)}
    assert len(pictures) == 20


def test_a_stroke_that_begins_at_the_edge_is_painted() -> None:
    assert paint(1, 2946, 144).size == (144, 144)  # one of its places is rounded up to the edge


@pytest.mark.parametrize("size_px", [16, 64, 201, 512])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_longer_side_has_size_px_and_the_size_is_as_described(index: int, size_px: int) -> None:
    picture = paint(SEED, index, size_px)
    assert picture.mode == "RGB"
    assert max(picture.size) == size_px
    assert picture.size == describe(SEED, index).size(size_px)


def test_a_larger_painting_shows_the_same_scene() -> None:
    for index in range(6):
        small, large = paint(SEED, index, 128), paint(SEED, index, 384)
        difference = np.asarray(small.resize((16, 16)), np.float32) - np.asarray(large.resize((16, 16)), np.float32)
        assert np.abs(difference).mean() < 8, f"painting {index} changes with its size"


def test_titles_and_artists_are_stable_and_varied() -> None:
    labels = [describe(SEED, index) for index in range(300)]
    assert labels == [describe(SEED, index) for index in range(300)]
    assert len({(label.title, label.artist, label.year) for label in labels}) > 290
    assert len({label.artist for label in labels}) == 8
    assert len({label.aspect for label in labels}) == 5
    assert {label.genre for label in labels} == {"marina"}


def test_the_facts_of_a_work_have_not_changed_since_the_first_version() -> None:
    label = describe(1, 0)
    assert (label.title, label.artist) == (
        "Fair Weather, a Ship under Full Sail off the Lantern Rocks",
        "Anselm Strandvik",
    )
    assert (label.year, label.style, label.size(512)) == (1873, "Realism", (512, 341))


def test_an_artist_keeps_one_style_and_a_working_life() -> None:
    works: dict[str, list[tuple[str, int]]] = {}
    for index in range(300):
        label = describe(SEED, index)
        works.setdefault(label.artist, []).append((label.style, label.year))
    for artist, found in works.items():
        assert len({style for style, _ in found}) == 1, artist
        years = [year for _, year in found]
        assert max(years) - min(years) <= 60, artist


def test_the_sky_is_lighter_than_the_sea_below(luminances: list[np.ndarray]) -> None:
    lighter = [_third(picture, 0) > _third(picture, 2) + 5 for picture in luminances]
    assert np.mean(lighter) >= 0.85


def test_the_strongest_edge_between_rows_is_the_horizon(luminances: list[np.ndarray]) -> None:
    found = [_horizon(picture) for picture in luminances]
    assert np.mean([0.45 <= at <= 0.68 for at in found]) >= 0.8


def test_the_archive_has_light_and_dark_paintings(luminances: list[np.ndarray]) -> None:
    brightness = [picture.mean() for picture in luminances]
    assert min(brightness) < 80 and max(brightness) > 150


def test_no_painting_is_flat_or_overexposed(luminances: list[np.ndarray]) -> None:
    for picture in luminances:
        assert picture.std() > 12
        assert np.mean(picture > 250) < 0.08


def _third(picture: np.ndarray, which: int) -> float:
    rows = len(picture) // 3
    return float(picture[which * rows : (which + 1) * rows].mean())


def _horizon(picture: np.ndarray) -> float:
    """Where, from 0 at the top to 1, the mean of three rows falls most to the next three."""
    rows = picture.mean(1)
    three = np.convolve(rows, np.ones(3) / 3, mode="valid")
    fall = three[:-3] - three[3:]
    inner = slice(len(rows) // 5, -len(rows) // 5)
    return float((np.argmax(fall[inner]) + len(rows) // 5 + 3) / len(rows))

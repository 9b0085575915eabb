"""The upscaler's pictures: reduced, bounded, split without near-duplicates on both sides."""

import io
from collections.abc import Iterator

import imagehash
import numpy as np
import pytest
from PIL import Image

from atelier.data.duplicates import Picture
from atelier.data.shards import Item
from atelier.errors import AtelierError
from atelier.upscaling.data import read_paintings, reduce_painting


def painted(seed: int, width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def archive(images: dict[str, Image.Image]) -> tuple[list[Picture], Iterator[Item]]:
    known = [Picture(id, *image.size, str(imagehash.phash(image))) for id, image in images.items()]

    def items() -> Iterator[Item]:
        for id, image in sorted(images.items()):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            yield Item(id, "png", buffer.getvalue())

    return known, items()


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((300, 200), (150, 100)),  # halved
        ((100, 96), (67, 64)),  # its half is smaller than a patch: reduced by less
        ((64, 64), (64, 64)),  # as small as a patch: as it is
        ((3000, 1200), (512, 512)),  # the middle of its half
    ],
)
def test_a_painting_is_halved_where_a_patch_still_fits(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    pixels = reduce_painting(painted(0, *size), 64)
    assert (pixels.shape[1], pixels.shape[0]) == wanted


def test_a_choice_is_stable_and_disjoint() -> None:
    images = {f"id{number:02d}": painted(number, 130, 130) for number in range(40)}
    first = read_paintings(*archive(images), 32, 30, 1)
    again = read_paintings(*archive(images), 32, 30, 4)
    assert len(first.train) + len(first.held_out) == 30
    assert first.held_out
    assert first.found == 40
    assert first.content_key == again.content_key
    assert all(np.array_equal(a, b) for a, b in zip(first.held_out, again.held_out, strict=True))
    trained = {picture.tobytes() for picture in first.train}
    assert not trained & {picture.tobytes() for picture in first.held_out}
    assert read_paintings(*archive(images), 32, 29, 1).content_key != first.content_key


def test_a_painting_and_its_smaller_copy_are_never_on_both_sides() -> None:
    images = {}
    for number in range(24):
        whole = painted(number, 360, 270)
        images |= {f"a{number:02d}": whole, f"z{number * 7 % 24:02d}": whole.resize((200, 150))}
    pictures = read_paintings(*archive(images), 32, 48, 1)
    train, held_out = ({motif(picture) for picture in side} for side in (pictures.train, pictures.held_out))
    assert len(pictures.train) + len(pictures.held_out) == 48
    assert held_out and not train & held_out


def motif(picture: np.ndarray) -> int:
    """Which of the paintings a picture is, whole or smaller."""
    thumb = np.asarray(Image.fromarray(picture).resize((8, 6), Image.Resampling.BOX)).astype(int)
    wanted = [np.asarray(painted(number, 8, 6)).astype(int) for number in range(24)]
    return int(np.argmin([np.abs(thumb - each).sum() for each in wanted]))


def test_too_few_large_paintings_are_refused() -> None:
    images = {"a": painted(0, 130, 130), "b": painted(1, 130, 50)}
    with pytest.raises(AtelierError, match=r"1 of 2 paintings measure 64 px or more.*lower train_upscaler"):
        read_paintings(*archive(images), 64, 10, 1)

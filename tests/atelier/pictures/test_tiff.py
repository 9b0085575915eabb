"""Murals' files: pyramids that any program opens, the same bytes on any machine, and hostile ones refused unread."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atelier.canvas.recipe import Recipe
from atelier.errors import AtelierError
from atelier.pictures import srgb, tiff
from atelier.provenance.facts import (
    ModelFacts,
    PixelFacts,
    Provenance,
    SoftwareFacts,
    canonical_json,
    read_bands,
    read_pixels,
    read_provenance,
    write_tiff,
)

MADE = Provenance(
    model=ModelFacts(md5="0" * 32, sha256="1" * 64, arch="dcgan", resolution=64, settings={"nz": 100}),
    latent=Recipe(seed=1, index=7, canvas=(20, 40), truncation=1.0),
    software=SoftwareFacts(atelier="0.1.0", torch="2.15.0"),
)
RGB = np.random.default_rng(0).integers(0, 256, (700, 1100, 3), dtype=np.uint8)
NEXT = struct.Struct("<I")


@pytest.fixture(params=["classic", "BigTIFF"])
def mural(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "BigTIFF":
        monkeypatch.setattr(tiff, "MAX_CLASSIC_BYTES", 0)
    return written(tmp_path)


@pytest.fixture
def classic(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path) -> Path:
    np.save(folder / "pixels.npy", RGB)
    write_tiff(folder / "mural.tif", folder / "pixels.npy", MADE, lambda share: None)
    return folder / "mural.tif"


def test_a_mural_holds_its_pixels_and_what_made_them(mural) -> None:
    assert np.array_equal(read_pixels(mural), RGB)
    facts = read_provenance(mural)
    assert facts.pixels == PixelFacts.of(RGB) == PixelFacts.of_bands(read_bands(mural))
    assert facts.model_copy(update={"pixels": None}) == MADE


def test_other_programs_open_it_as_a_pyramid(mural) -> None:
    with Image.open(mural) as picture:
        assert np.array_equal(np.asarray(picture), RGB)
        assert picture.tag_v2[270] == canonical_json(read_provenance(mural))
        assert picture.info["dpi"] == (300, 300) and picture.info["icc_profile"] == srgb()
        sizes = []
        for level in range(picture.n_frames):
            picture.seek(level)
            sizes.append(picture.size)
    assert sizes == [(1100, 700), (550, 350), (275, 175), (137, 87)]
    elsewhere = pyvips.Image.new_from_file(str(mural))
    assert np.array_equal(elsewhere.numpy(), RGB) and elsewhere.get("n-pages") == 4


def test_a_preview_is_the_smallest_level_that_is_large_enough(mural) -> None:
    for side_px, shape in {
        2000: (700, 1100, 3),
        300: (350, 550, 3),
        275: (175, 275, 3),
        1: (87, 137, 3),
    }.items():
        assert tiff.preview(mural, side_px).shape == shape


def test_the_same_bytes_with_one_thread_and_with_four_and_no_date_in_them(classic, tmp_path) -> None:
    program = (
        "import sys, pathlib; from tests.atelier.pictures.test_tiff import written; written(pathlib.Path(sys.argv[1]))"
    )
    for threads in "14":
        (tmp_path / threads).mkdir()
        environment = {**os.environ, "VIPS_CONCURRENCY": threads}
        subprocess.run([sys.executable, "-c", program, tmp_path / threads], check=True, env=environment)
        assert (tmp_path / threads / "mural.tif").read_bytes() == classic.read_bytes()
    with Image.open(classic) as picture:
        assert not {305, 306} & {*picture.tag_v2}, "neither software nor date"


def test_an_interrupted_write_stops_at_once_and_leaves_no_file(tmp_path) -> None:
    np.save(tmp_path / "pixels.npy", RGB)

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tiff(tmp_path / "mural.tif", tmp_path / "pixels.npy", MADE, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["pixels.npy"]


def test_a_mural_whose_pixels_were_edited_no_longer_matches(classic) -> None:
    edited = RGB.copy()
    edited[3, 4] ^= 1
    image = pyvips.Image.new_from_array(edited).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gstr_type, "image-description", canonical_json(read_provenance(classic)))
    layout = {"compression": "deflate", "predictor": "horizontal", "tile": True, "pyramid": True}
    image.tiffsave(str(classic), tile_width=256, tile_height=256, **layout)
    assert PixelFacts.of_bands(read_bands(classic)) == PixelFacts.of(edited) != read_provenance(classic).pixels
    image.tiffsave(str(classic), compression="lzw")
    with pytest.raises(AtelierError, match="TIFF of another kind: another program saved it"):
        read_pixels(classic)
    image.crop(0, 0, 300, 300).tiffsave(str(classic), tile_width=256, tile_height=256, **layout)
    with pytest.raises(AtelierError, match="another size than its provenance names, 1,100 × 700 px"):
        read_pixels(classic)


def test_damaged_tiles_are_reported_in_a_sentence(classic) -> None:
    content = bytearray(classic.read_bytes())
    content[1000:5000] = bytes(4000)
    classic.write_bytes(content)
    assert read_provenance(classic).latent == MADE.latent
    with pytest.raises(AtelierError, match=r"mural\.tif is damaged: its pixels cannot be decoded"):
        read_pixels(classic)


def directory(*entries: tuple[int, int, int, int], following: int = 0, at: int = 8) -> bytes:
    """A classic TIFF whose first directory has these entries: tag, type, count, value."""
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + NEXT.pack(at) + bytes(at - 8) + body + NEXT.pack(following)


def endless() -> bytes:
    """A thousand directories, one after the other."""
    starts = range(8, 8 + 6 * 1000, 6)
    return b"II*\0" + NEXT.pack(8) + b"".join(struct.pack("<HI", 0, start + 6) for start in starts)


HOSTILE = {
    "nothing but a head": (b"II*\0\x08\0\0\0", "cut off"),
    "directories in a circle": (directory(following=8), "circle"),
    "a thousand directories": (endless(), "circle"),
    "a directory outside the file": (b"II*\0" + NEXT.pack(2**32 - 1), "cut off"),
    "a directory beyond all files": (b"II+\0\x08\0\0\0" + b"\xff" * 8, "cut off"),
    "a directory of 65,535 entries": (b"II*\0" + NEXT.pack(8) + b"\xff" * 100, "Atelier does not write"),
    "a directory of 2⁶⁴ − 1 entries": (
        b"II+\0\x08\0\0\0\x10" + bytes(7) + b"\xff" * 99,
        "Atelier does not write",
    ),
    "a description of 4 GB": (directory((270, 2, 2**32 - 1, 8)), "Atelier does not write"),
    "a description of numbers": (directory((270, 4, 1, 8)), "Atelier does not write"),
    "a description outside the file": (directory((270, 2, 1000, 10**9)), "cut off"),
    "no description": (directory((256, 4, 1, 9)), "carries no Atelier provenance"),
    "a description that is no provenance": (directory((270, 2, 4, 0x7B7D7B7D)), "is not atelier-provenance"),
}


@pytest.mark.parametrize(("content", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_with_a_sentence(content, words, tmp_path) -> None:
    path = tmp_path / "hostile.tif"
    path.write_bytes(content)
    with pytest.raises(AtelierError, match=words):
        read_provenance(path)


@pytest.mark.parametrize("tag", [tiff.WIDTH, tiff.HEIGHT, *tiff.AS_WRITTEN])
def test_a_file_with_a_false_layout_is_not_decoded(tag, classic) -> None:
    content = bytearray(classic.read_bytes())
    (start,) = NEXT.unpack_from(content, 4)
    entries = range(start + 2, start + 2 + 12 * content[start], 12)
    (entry,) = [at for at in entries if struct.unpack_from("<H", content, at) == (tag,)]
    content[entry + 8 : entry + 12] = NEXT.pack(2**31 - 1)
    classic.write_bytes(content)
    with pytest.raises(AtelierError, match=r"another program saved it|cut off"):
        read_pixels(classic)


@given(st.sampled_from(tiff.SIGNATURES), st.binary(max_size=300))
def test_any_bytes_raise_atelier_error_only(tmp_path_factory, signature, content) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tif"
    path.write_bytes(signature + content)
    with pytest.raises(AtelierError):
        read_provenance(path)

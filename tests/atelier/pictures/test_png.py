"""Print files: 16 bits a colour, a size on paper, a colour space; and what is refused before it is decoded."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from atelier.canvas.recipe import Recipe
from atelier.errors import AtelierError
from atelier.pictures import png, srgb
from atelier.pictures.compare import pixels_sha256
from atelier.provenance.facts import (
    ModelFacts,
    PixelFacts,
    Provenance,
    SoftwareFacts,
    canonical_json,
    read_bands,
    read_pixels,
    read_provenance,
    write_png,
)

MADE = Provenance(
    model=ModelFacts(md5="0" * 32, sha256="1" * 64, arch="dcgan", resolution=64, settings={"nz": 100}),
    latent=Recipe(seed=1, index=7, canvas=(1, 1), truncation=1.0),
    software=SoftwareFacts(atelier="0.1.0", torch="2.15.0"),
)
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (60, 90, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (60, 90, 3), dtype=np.uint16)
BOTH = pytest.mark.parametrize("pixels", [RGB, RGB16], ids=["8 bits", "16 bits"])


@BOTH
def test_a_print_contains_every_sample_its_size_on_paper_and_its_colour_space(pixels, tmp_path) -> None:
    path = tmp_path / "print.png"
    write_png(path, pixels, MADE, dpi=300)
    assert np.array_equal(read_pixels(path), pixels)
    with Image.open(path) as picture:
        assert picture.size == (90, 60) and picture.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert picture.info["icc_profile"] == srgb()
    elsewhere = pyvips.Image.new_from_file(str(path))
    assert np.array_equal(elsewhere.numpy(), pixels)
    assert elsewhere.xres * 25.4 == pytest.approx(300, abs=0.01)
    assert elsewhere.get("icc-profile-data") == srgb()
    assert read_provenance(path).pixels == PixelFacts.of(pixels) == PixelFacts.of_bands(read_bands(path))


@BOTH
def test_the_same_print_gives_the_same_file_whose_chunks_stand_in_one_order(pixels, tmp_path) -> None:
    for name in ("one.png", "two.png"):
        write_png(tmp_path / name, pixels.copy(), MADE, dpi=240.5)
    content = (tmp_path / "one.png").read_bytes()
    assert content == (tmp_path / "two.png").read_bytes()
    kinds = [kind for kind, _ in chunks(content)]
    assert kinds[:5] == [b"IHDR", b"iCCP", b"pHYs", b"iTXt", b"IDAT"] and kinds[-1] == b"IEND"
    assert set(kinds[4:-1]) == {b"IDAT"}


def test_an_artwork_is_the_file_that_pillow_writes_and_says_that_it_is_srgb(tmp_path) -> None:
    write_png(tmp_path / "artwork.png", RGB, MADE)
    text = PngInfo()
    text.add_itxt("atelier", canonical_json(MADE.model_copy(update={"pixels": PixelFacts.of(RGB)})))
    Image.fromarray(RGB).save(tmp_path / "pillows.png", compress_level=6, pnginfo=text)
    content = (tmp_path / "artwork.png").read_bytes()
    start = content.index(b"iCCP") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    untagged = content[:start] + content[end:]  # as earlier versions wrote artworks
    assert untagged == (tmp_path / "pillows.png").read_bytes()
    with Image.open(tmp_path / "artwork.png") as picture:
        assert picture.info["icc_profile"] == srgb() and "dpi" not in picture.info
    for path in (tmp_path / "artwork.png", tmp_path / "pillows.png"):
        assert read_provenance(path).pixels == PixelFacts.of(read_pixels(path)) == PixelFacts.of(RGB)
        assert pixels_sha256(path) == PixelFacts.of(RGB).sha256


def test_samples_of_16_bits_are_digested_big_ends_first() -> None:
    facts = PixelFacts.of(RGB16)
    assert facts.bits == 16 and facts == PixelFacts.of_bands([RGB16[:7], RGB16[7:8], RGB16[8:]])
    assert PixelFacts.of(np.full((1, 1, 3), 1, np.uint16)) != PixelFacts.of(np.full((1, 1, 3), 256, np.uint16))
    low = PixelFacts.of(np.frombuffer(b"\1\2\3\4\5\6", ">u2").astype(np.uint16).reshape(1, 1, 3)).sha256
    assert low == PixelFacts.of(np.frombuffer(b"\1\2\3\4\5\6", np.uint8).reshape(1, 2, 3)).sha256


def test_the_profile_is_srgb() -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(srgb()))
    same = ImageCms.profileToProfile(Image.fromarray(RGB), profile, ImageCms.createProfile("sRGB"))
    assert np.abs(np.asarray(same).astype(int) - RGB).max() <= 1


def resaved(path: Path, **how: object) -> bytes:
    """The picture as another program saves it that keeps texts it does not know."""
    with Image.open(path) as picture:
        text = PngInfo()
        text.add_itxt("atelier", picture.info["atelier"])
        mode, buffer = how.pop("mode", "RGB"), io.BytesIO()
        picture.convert(str(mode)).save(buffer, format="PNG", pnginfo=text, **how)
    return buffer.getvalue()


def chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, start = [], 8
    while start < len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        found.append((kind, content[start + 8 : start + 8 + length]))
        start += length + 12
    return found


def rebuilt(parts: list[tuple[bytes, bytes]]) -> bytes:
    return png.SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


@pytest.fixture
def artwork(tmp_path: Path) -> Path:
    write_png(tmp_path / "artwork.png", RGB, MADE)
    return tmp_path / "artwork.png"


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_a_picture_of_another_kind_is_named_as_what_it_is(mode, artwork) -> None:
    artwork.write_bytes(resaved(artwork, mode=mode))
    kind = {"L": "grey", "P": "a palette", "RGBA": "RGB and transparency"}[mode]
    with pytest.raises(AtelierError, match=rf"another kind \(90 × 60 px, 8 bits, {kind}\) .* another program"):
        read_pixels(artwork)


def test_a_picture_that_another_program_saved_alike_is_read(artwork) -> None:
    artwork.write_bytes(resaved(artwork, compress_level=1))
    assert np.array_equal(read_pixels(artwork), RGB)


def test_a_header_with_huge_numbers_is_refused_before_anything_is_decoded(artwork) -> None:
    parts = chunks(artwork.read_bytes())
    parts[0] = b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 2, 0, 0, 0)
    artwork.write_bytes(rebuilt(parts))
    with pytest.raises(AtelierError, match=r"2,147,483,647 × 2,147,483,647 px, 16 bits, RGB"):
        read_pixels(artwork)


def test_a_provenance_with_huge_numbers_is_refused_too(artwork) -> None:
    content = artwork.read_bytes().replace(b'"width":90', b'"width":2000000000')
    content = content.replace(b'"height":60', b'"height":2000000000')
    artwork.write_bytes(rebuilt(_with_lengths(content)))
    with pytest.raises(AtelierError, match=r"claims 2,000,000,000 × 2,000,000,000 px, more than"):
        read_pixels(artwork)


def test_pixels_that_unpack_without_end_stop_where_the_picture_ends(artwork) -> None:
    parts = [part for part in chunks(artwork.read_bytes()) if part[0] != b"IDAT"]
    parts.insert(-1, (b"IDAT", zlib.compress(bytes(10**8), 9)))
    artwork.write_bytes(rebuilt(parts))
    try:
        assert not read_pixels(artwork).any()
    except AtelierError as error:
        assert "damaged" in str(error)


@BOTH
@pytest.mark.parametrize("cut", ["half", "checksum"])
def test_damaged_pixels_are_reported_in_a_sentence(pixels, cut, tmp_path) -> None:
    path = tmp_path / "print.png"
    write_png(path, pixels, MADE, dpi=300)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content if cut == "checksum" else content[: len(content) // 2])
    with pytest.raises(AtelierError, match=r"print\.png is damaged: its pixels cannot be decoded"):
        read_pixels(path)


def _with_lengths(content: bytes) -> list[tuple[bytes, bytes]]:
    """Chunks of a file whose text has grown under its old length."""
    start, end = content.index(b"iTXt") + 4, content.index(b"IDAT") - 8
    head = chunks(content[: start - 8])
    return [*head, (b"iTXt", content[start:end]), *chunks(png.SIGNATURE + content[end + 4 :])]

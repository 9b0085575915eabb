import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier.errors import AtelierError
from atelier.pictures import png
from atelier.pictures.compare import pixels_sha256, read_samples
from atelier.provenance.facts import PixelFacts

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp"])
def test_pixels_are_the_same_in_every_format_that_keeps_them(name, tmp_path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name, lossless=True)
    assert pixels_sha256(tmp_path / name) == PixelFacts.of(PIXELS).sha256


def test_colours_of_16_bits_are_not_rounded(tmp_path) -> None:
    deep = PIXELS.astype(np.uint16) * 251
    png.write(tmp_path / "deep.png", deep, "")
    assert pixels_sha256(tmp_path / "deep.png") == PixelFacts.of(deep).sha256
    assert np.array_equal(np.concatenate([*read_samples(tmp_path / "deep.png")]), deep)


def test_a_header_with_an_immense_size_is_not_decoded(tmp_path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    write_png(tmp_path / "bomb.png", header, zlib.compress(bytes(10**6)))
    with pytest.raises(AtelierError, match="60,000 × 60,000 px, more than"):
        pixels_sha256(tmp_path / "bomb.png")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_truncated_picture_is_reported_in_a_sentence(bits, tmp_path) -> None:
    header = struct.pack(">IIBBBBB", 100, 100, bits, 2, 0, 0, 0)
    write_png(tmp_path / "cut.png", header, zlib.compress(bytes(10)))
    with pytest.raises(AtelierError, match="cut"):
        pixels_sha256(tmp_path / "cut.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"BM" + bytes(40), b"II*\0" + bytes(9)])
def test_a_file_that_is_not_a_picture_is_reported_in_a_sentence(content, tmp_path) -> None:
    (tmp_path / "it").write_bytes(content)
    with pytest.raises(AtelierError, match="it "):
        pixels_sha256(tmp_path / "it")


def write_png(path: Path, header: bytes, data: bytes) -> None:
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(
        png.SIGNATURE
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )

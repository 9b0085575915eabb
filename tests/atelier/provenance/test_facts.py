import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atelier.canvas.recipe import Recipe
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.pictures.png import KEYWORD, SIGNATURE
from atelier.provenance.facts import (
    ModelFacts,
    PixelFacts,
    Provenance,
    SoftwareFacts,
    UpscaleFacts,
    canonical_json,
    provenance_of_print,
    read_provenance,
    write_png,
)

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
SOFTWARE = SoftwareFacts(atelier="0.1.0", torch="2.15.0")
RECIPE = Provenance(
    model=ModelFacts(
        md5="0" * 32, sha256="1" * 64, arch="dcgan", resolution=64, settings={"nz": 100, "ngf": 24, "ndf": 12}
    ),
    latent=Recipe(seed=1, index=7, canvas=(1, 8), truncation=0.7),
    software=SOFTWARE,
)
UPSCALE = UpscaleFacts(
    method="learned",
    scale=4,
    upscaler_sha256="2" * 64,
    settings={"features": 48, "passes": 2},
    software=SOFTWARE,
)


@pytest.fixture
def artwork(tmp_path: Path) -> Path:
    write_png(tmp_path / "artwork.png", RGB, RECIPE)
    return tmp_path / "artwork.png"


def test_a_picture_says_what_made_it(artwork) -> None:
    facts = read_provenance(artwork)
    assert facts.model_copy(update={"pixels": None}) == RECIPE
    assert facts.pixels == PixelFacts.of(np.asarray(Image.open(artwork)))


def test_any_png_reader_finds_the_chunk(artwork) -> None:
    text = Image.open(artwork).info["atelier"]
    latent = json.loads(text)["latent"]
    assert (latent["canvas"], latent["index"], latent["seed"], latent["truncation"]) == ([1, 8], 7, 1, 0.7)
    assert text == canonical_json(read_provenance(artwork))
    assert text.isascii() and ": " not in text


def test_the_same_content_gives_the_same_file_anywhere(artwork, tmp_path) -> None:
    write_png(tmp_path / "elsewhere" / "other.png", RGB.copy(), RECIPE)
    assert (tmp_path / "elsewhere" / "other.png").read_bytes() == artwork.read_bytes()
    assert str(tmp_path).encode() not in artwork.read_bytes()


def test_a_picture_of_the_first_format_is_read_with_what_was_so_then(tmp_path) -> None:
    content = json.loads(canonical_json(RECIPE.model_copy(update={"pixels": PixelFacts.of(RGB)})))
    content["format"] = "atelier-provenance/1"
    content["latent"] = {"canvas": [1, 8], "index": 7, "seed": 1, "truncation": 0.7}
    del content["pick"], content["pixels"]["bits"]
    (tmp_path / "old.png").write_bytes(SIGNATURE + claim(json.dumps(content).encode()) + chunk(b"IDAT", b""))
    assert read_provenance(tmp_path / "old.png").latent == RECIPE.latent


def test_a_change_of_one_pixel_no_longer_matches_the_digest(artwork) -> None:
    other = RGB.copy()
    other[0, 0, 0] ^= 1
    assert read_provenance(artwork).pixels != PixelFacts.of(other)


def test_a_print_keeps_all_that_made_the_picture(artwork, tmp_path) -> None:
    original = read_provenance(artwork)
    large = RGB.repeat(4, 0).repeat(4, 1)
    write_png(tmp_path / "print.png", large, provenance_of_print(original, UPSCALE))
    facts = read_provenance(tmp_path / "print.png")
    assert (facts.model, facts.latent, facts.software) == (original.model, original.latent, original.software)
    assert facts.print is not None
    assert facts.print.original == original.pixels
    assert facts.print.upscale == UPSCALE
    assert facts.pixels == PixelFacts.of(large)


def test_a_print_of_a_print_is_no_print(artwork) -> None:
    once = provenance_of_print(read_provenance(artwork), UPSCALE)
    with pytest.raises(ValueError, match="artwork"):
        provenance_of_print(once, UPSCALE)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def claim(text: bytes, head: bytes = KEYWORD + b"\0\0\0\0\0") -> bytes:
    return chunk(b"iTXt", head + text)


def altered(**changes: object) -> bytes:
    content = json.loads(canonical_json(RECIPE.model_copy(update={"pixels": PixelFacts.of(RGB)})))
    for place, value in changes.items():
        *path, last = place.split("__")
        node = content
        for key in path:
            node = node[key]
        node[last] = value
    return claim(json.dumps(content).encode())


HOSTILE = {
    "no PNG": b"GIF89a" + bytes(100),
    "nothing at all": b"",
    "no chunk": SIGNATURE + chunk(b"IDAT", b""),
    "two chunks": SIGNATURE + altered() * 2 + chunk(b"IDAT", b""),
    "cut off": SIGNATURE + altered()[:-9],
    "a wrong checksum": SIGNATURE + altered()[:-1] + b"\0" + chunk(b"IDAT", b""),
    "a compressed bomb": SIGNATURE
    + claim(zlib.compress(bytes(10**7)), KEYWORD + b"\0\1\0\0\0")
    + chunk(b"IDAT", b""),
    "a huge text": SIGNATURE + claim(b" " * 10**6) + chunk(b"IDAT", b""),
    "a length beyond the file": SIGNATURE + struct.pack(">I", 2**32 - 1) + b"iTXt",
    "endless chunks": SIGNATURE + chunk(b"tEXt", b"") * 10_000,
    "deep nesting": SIGNATURE + claim(b"[" * 60_000) + chunk(b"IDAT", b""),
    "deep nesting inside": SIGNATURE + claim(b'{"model":' * 6000 + b"1" + b"}" * 6000) + chunk(b"IDAT", b""),
    "no JSON": SIGNATURE + claim(b"\xff\xfe") + chunk(b"IDAT", b""),
    "another format": SIGNATURE + altered(format="atelier-provenance/99") + chunk(b"IDAT", b""),
    "an unknown key": SIGNATURE + altered(model__path="/etc/passwd") + chunk(b"IDAT", b""),
    "a path for a digest": SIGNATURE + altered(model__md5="../" * 10 + "ab") + chunk(b"IDAT", b""),
    "a digest and a newline": SIGNATURE + altered(model__md5="0" * 32 + "\n") + chunk(b"IDAT", b""),
    "an immense canvas": SIGNATURE + altered(latent__canvas=[10**9, 10**9]) + chunk(b"IDAT", b""),
    "a number that is none": SIGNATURE + altered(latent__truncation=float("nan")) + chunk(b"IDAT", b""),
    "a text for a number": SIGNATURE + altered(latent__seed="1") + chunk(b"IDAT", b""),
    "a negative index": SIGNATURE + altered(latent__index=-1) + chunk(b"IDAT", b""),
    "an integer of many digits": SIGNATURE + altered(latent__seed=10**4000) + chunk(b"IDAT", b""),
    "settings as a tree": SIGNATURE + altered(model__settings={"a": {"b": 1}}) + chunk(b"IDAT", b""),
    "no pixels": SIGNATURE + altered(pixels=None) + chunk(b"IDAT", b""),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_with_a_sentence(content, tmp_path) -> None:
    path = tmp_path / "hostile.png"
    path.write_bytes(content)
    with pytest.raises(AtelierError) as caught:
        read_provenance(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))


def test_a_missing_file_is_a_sentence(tmp_path) -> None:
    with pytest.raises(AtelierError, match="is missing"):
        read_provenance(tmp_path / "none.png")


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_whatever_raise_anything_but_a_sentence(tmp_path_factory, content, as_claim) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(SIGNATURE + (claim(content) + chunk(b"IDAT", b"") if as_claim else content))
    with pytest.raises(AtelierError):
        read_provenance(path)


def test_a_png_saved_by_another_program_carries_nothing(artwork, tmp_path) -> None:
    Image.open(artwork).copy().save(tmp_path / "resaved.png")
    with pytest.raises(AtelierError, match="no Atelier provenance"):
        read_provenance(tmp_path / "resaved.png")
    assert digest(artwork) != digest(tmp_path / "resaved.png")

"""The provenance in a picture: written, read back, refused where it is not valid, and described in words."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from atelier.canvas.recipe import Move, Recipe, Station, Variation, Walk
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
    describe_enlargement,
    describe_recipe,
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


def test_a_written_picture_has_its_provenance_and_its_pixels_digest(artwork) -> None:
    facts = read_provenance(artwork)
    assert facts.model_copy(update={"pixels": None}) == RECIPE
    assert facts.pixels == PixelFacts.of(np.asarray(Image.open(artwork)))


def test_other_png_readers_find_the_chunk_which_is_canonical_json(artwork) -> None:
    text = Image.open(artwork).info["atelier"]
    latent = json.loads(text)["latent"]
    assert (latent["canvas"], latent["index"], latent["seed"], latent["truncation"]) == ([1, 8], 7, 1, 0.7)
    assert text == canonical_json(read_provenance(artwork))
    assert text.isascii() and ": " not in text


def test_equal_pictures_are_equal_files_without_their_path(artwork, tmp_path) -> None:
    write_png(tmp_path / "elsewhere" / "other.png", RGB.copy(), RECIPE)
    assert (tmp_path / "elsewhere" / "other.png").read_bytes() == artwork.read_bytes()
    assert str(tmp_path).encode() not in artwork.read_bytes()


def test_a_change_of_one_pixel_changes_the_digest(artwork) -> None:
    other = RGB.copy()
    other[0, 0, 0] ^= 1
    assert read_provenance(artwork).pixels != PixelFacts.of(other)


def test_a_print_keeps_the_provenance_of_the_artwork(artwork, tmp_path) -> None:
    original = read_provenance(artwork)
    large = RGB.repeat(4, 0).repeat(4, 1)
    write_png(tmp_path / "print.png", large, provenance_of_print(original, UPSCALE))
    facts = read_provenance(tmp_path / "print.png")
    assert (facts.model, facts.latent, facts.software) == (original.model, original.latent, original.software)
    assert facts.print is not None
    assert facts.print.original == original.pixels
    assert facts.print.upscale == UPSCALE
    assert facts.pixels == PixelFacts.of(large)


def test_a_print_cannot_be_printed(artwork) -> None:
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
    "a compressed bomb": SIGNATURE + claim(zlib.compress(bytes(10**7)), KEYWORD + b"\0\1\0\0\0") + chunk(b"IDAT", b""),
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
def test_a_hostile_file_raises_a_short_message_that_names_it(content, tmp_path) -> None:
    path = tmp_path / "hostile.png"
    path.write_bytes(content)
    with pytest.raises(AtelierError) as caught:
        read_provenance(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))


def test_a_missing_file_raises_a_message(tmp_path) -> None:
    with pytest.raises(AtelierError, match="is missing"):
        read_provenance(tmp_path / "none.png")


@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_raise_nothing_but_messages(tmp_path_factory, content, as_claim) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(SIGNATURE + (claim(content) + chunk(b"IDAT", b"") if as_claim else content))
    with pytest.raises(AtelierError):
        read_provenance(path)


def test_a_png_saved_by_another_program_has_no_provenance(artwork, tmp_path) -> None:
    Image.open(artwork).copy().save(tmp_path / "resaved.png")
    with pytest.raises(AtelierError, match="no Atelier provenance"):
        read_provenance(tmp_path / "resaved.png")
    assert digest(artwork) != digest(tmp_path / "resaved.png")


PLAIN = Recipe(seed=1, index=7, canvas=(1, 1), truncation=1.0)
STATIONS = (Station(seed=3, index=0), Station(seed=14, index=2))
LABELLED = (Station(seed=3, index=0, label="marine"), Station(seed=14, index=2, label="none"))
WALK = Walk(stations=STATIONS, frame=11, frames=1200, loop=True, easing="smooth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "picture 7 of seed 1"),
        ({"canvas": (3, 5), "layout": "smooth"}, "picture 7 of seed 1, on 3 × 5 cells, layout smooth"),
        ({"normalise": "batch", "seamless": True}, "picture 7 of seed 1, normalise batch, seamless"),
        (
            {"truncation": 0.7, "moves": (Move(direction=2, amount=-1.5),)},
            "0.7, moved -1.5 along direction 2",
        ),
        ({"canvas": (3, 5), "grown_from": (1, 2)}, "on 3 × 5 cells, grown from 1 × 2"),
        ({"variation": Variation(number=4, strength=0.3)}, "its neighbour 4, 0.3 quarter turns away"),
        (
            {"varied": (Variation(number=4, strength=0.3),), "variation": Variation(number=1, strength=1)},
            "its neighbour 4, 0.3 quarter turns away, its neighbour 1, 1 quarter turns away",
        ),
        ({"label": "marine"}, "picture 7 of seed 1, label marine"),
        ({"label": (("marine", 0.5), ("still life", 0.25))}, "label 0.5 marine + 0.25 still life"),
        (
            {"walk": WALK.model_copy(update={"stations": LABELLED})},
            "through 3-0 (marine) → 14-2 (none) and back, eased",
        ),
        ({"walk": WALK}, "frame 12 of 1,200 of a walk through 3-0 → 14-2 and back, eased"),
    ],
)
def test_a_recipes_description_names_what_is_unusual_in_the_order_of_its_steps(changes, words) -> None:
    assert describe_recipe(PLAIN.model_copy(update=changes)).endswith(words)


def test_an_enlargements_description_names_its_network() -> None:
    software = SoftwareFacts(atelier="0.1.0", torch="2.15.0")
    upscale = UpscaleFacts(
        method="learned",
        scale=4,
        upscaler_sha256="2" * 64,
        settings={"passes": 2, "bits": 16},
        software=software,
    )
    words = "×4 learned, by the network of SHA-256 222222222222…; bits 16, passes 2"
    assert describe_enlargement(upscale) == words


def test_a_recipe_without_a_label_is_the_text_that_it_was_before_there_were_labels() -> None:
    walking = PLAIN.model_copy(update={"walk": WALK})
    assert "label" not in PLAIN.model_dump_json() + walking.model_dump_json()
    labelled = PLAIN.model_copy(update={"label": (("marine", 0.5),)})
    assert Recipe.model_validate_json(labelled.model_dump_json()) == labelled


@pytest.mark.parametrize(
    "label",
    ["two\nlines", "x" * 201, 3, [], [["marine", 0]], [["marine", 2]], [["marine"]], [["a", 0.7], ["b", 0.7]],
     [["a", 0.01]] * 65, {"marine": 1}],
)  # fmt: skip
def test_a_hostile_label_is_refused(label: object) -> None:
    facts = json.loads(PLAIN.model_dump_json())
    Recipe.model_validate_json(json.dumps({**facts, "label": "marine"}))
    with pytest.raises(ValidationError):
        Recipe.model_validate_json(json.dumps({**facts, "label": label}))
    walk = {**json.loads(WALK.model_dump_json()), "stations": [{"seed": 1, "index": 1, "label": label}] * 2}
    with pytest.raises(ValidationError):
        Recipe.model_validate_json(json.dumps({**facts, "walk": walk}))

"""What made a picture, inside the picture: canonical JSON, in an iTXt chunk named `atelier` of a PNG, or as a mural's
ImageDescription.

Content facts only: no date, no path, no revision, so that the same work gives the same bytes.
What is read back is a stranger's claim: bounded, checked against the schema, never used as a path.

What a picture says of itself, in a person's words. What it says is a stranger's claim, so its texts are cleaned.

Knows no file and no history.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self, cast

import numpy as np
from pydantic import AfterValidator, Field, ValidationError

from atelier.canvas.recipe import Facts, Natural, Recipe, Variation
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.pictures import Samples, png, tiff
from atelier.pictures.untrusted import opened, shown
from atelier.pictures.vips import BAND_BYTES
from atelier.text import clean

# earlier formats lack keys, whose defaults are what they meant; format 4 added the grain
Format = Literal[
    "atelier-provenance/1", "atelier-provenance/2", "atelier-provenance/3", "atelier-provenance/4"
]

FORMAT: Format = "atelier-provenance/4"

WHAT = "name a picture that Atelier made"

MAX_PIXELS = 1 << 29  # that are read at once: 3 GiB of 16 bits


def _printable(text: str) -> str:
    """It is told to a person some day, and must not move the cursor then."""
    if not text.isprintable():
        raise ValueError("it holds signs that cannot be shown")
    return text


Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]

Md5 = Annotated[str, Field(pattern=r"\A[0-9a-f]{32}\z")]

Sha256 = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]

Scalar = bool | int | float | Name | None

Settings = Annotated[dict[Name, Scalar | list[Scalar]], Field(max_length=64)]


class ModelFacts(Facts):
    """The generator: its file's digests (dvc.lock names the md5) and how it is built."""

    md5: Md5
    sha256: Sha256
    arch: Name
    resolution: Natural
    settings: Settings

    @classmethod
    def of(cls, generator: Path, header: Mapping[str, Any]) -> Self:
        """Of a generator's file and its header, as `load_generator` gives it."""
        return cls(
            md5=digest(generator, "md5"),
            sha256=digest(generator),
            arch=header["arch"],
            resolution=header["resolution"],
            settings=header["settings"],
        )


class PickFacts(Facts):
    """Why this picture and not its neighbours: among the best `keep` of `of` by a discriminator's score."""

    keep: Annotated[int, Field(ge=1, le=10_000)]
    of: Annotated[int, Field(ge=1, le=10_000)]
    discriminator_sha256: Sha256


class PixelFacts(Facts):
    """The picture itself: SHA-256 of its RGB samples, row by row, big-endian where they have 16 bits."""

    width: Natural
    height: Natural
    sha256: Sha256
    bits: Literal[8, 16] = 8

    @classmethod
    def of(cls, pixels: Samples) -> Self:
        return cls.of_bands([pixels])

    @classmethod
    def of_bands(cls, bands: Iterable[Samples]) -> Self:
        """Of a picture that comes in parts, from the top."""
        sha256, width, height = hashlib.sha256(), 0, 0
        bits: Literal[8, 16] = 8
        for band in bands:
            rows, width, _ = band.shape
            height += rows
            bits = 16 if band.itemsize == 2 else 8
            sha256.update(np.ascontiguousarray(band, band.dtype.newbyteorder(">")).data)
        return cls(width=width, height=height, sha256=sha256.hexdigest(), bits=bits)


class SoftwareFacts(Facts):
    """The versions that painted."""

    atelier: Name
    torch: Name


class UpscaleFacts(Facts):
    """How a picture became a print: the upscaler's digests are None where no network was used.

    `upscaler_md5`, by which DVC keeps the file, is also None where format 1 wrote it.
    """

    method: Name
    scale: Annotated[int, Field(ge=1, le=64)]
    upscaler_sha256: Sha256 | None
    upscaler_md5: Md5 | None = None
    settings: Settings
    software: SoftwareFacts


class PrintFacts(Facts):
    """What a print adds: how it was enlarged, and the pixels of the picture that it enlarges."""

    upscale: UpscaleFacts
    original: PixelFacts


class Provenance(Facts):
    """All that made a picture. `pixels` is None only until it is written; `print` is None in an artwork."""

    format: Format = FORMAT
    model: ModelFacts
    latent: Recipe
    software: SoftwareFacts
    pick: PickFacts | None = None
    pixels: PixelFacts | None = None
    print: PrintFacts | None = None


def provenance_of_print(original: Provenance, upscale: UpscaleFacts) -> Provenance:
    """The provenance of a print of the picture that carries `original`; all that made the picture stays in it."""
    if original.pixels is None or original.print is not None:
        raise ValueError("a print is made of a written artwork")
    facts = PrintFacts(upscale=upscale, original=original.pixels)
    return original.model_copy(update={"pixels": None, "print": facts})


def write_png(path: Path, pixels: Samples, provenance: Provenance, dpi: float | None = None) -> None:
    """Write (H, W, 3) samples of 8 or 16 bits and what made them: whole or not at all, the same bytes every time.

    With `dpi` it is a print: it says how large it is, and that its colours are sRGB.
    """
    facts = provenance.model_copy(update={"pixels": PixelFacts.of(pixels)})
    png.write(path, pixels, canonical_json(facts), dpi)


def write_tiff(path: Path, raw: Path, provenance: Provenance, told: Callable[[float], None]) -> None:
    """Write a mural, whose pixels numpy's file `raw` holds, and what made them; `told` hears which share is written."""
    mapped = np.load(raw, mmap_mode="r")
    (height, width, _), offset = mapped.shape, mapped.offset
    del mapped  # of which only the header was looked at
    with raw.open("rb") as file:
        facts = provenance.model_copy(
            update={"pixels": PixelFacts.of_bands(_rows(file, offset, width, height))}
        )
        tiff.write(path, file, offset, width, height, canonical_json(facts), told)


def read_provenance(path: Path) -> Provenance:
    """The provenance that a picture carries; its pixels are neither decoded nor compared (see `read_bands`).

    Raises AtelierError where the file is absent, neither PNG nor TIFF, or carries nothing that this version can read.
    """
    with opened(path, WHAT) as file:
        is_tiff = tiff.is_tiff(file.read(4))
        file.seek(0)
        text = tiff.text(path, file) if is_tiff else png.text(path, file)
    if text is None:
        raise AtelierError(f"{shown(path)} carries no Atelier provenance: name a picture as Atelier wrote it")
    try:
        facts = Provenance.model_validate_json(text)
    except (ValidationError, ValueError) as error:
        raise AtelierError(
            f"{shown(path)} carries a provenance that is not {FORMAT} ({first_error(error)}): "
            "it was altered, or another version of Atelier made it"
        ) from None
    if facts.pixels is None:
        raise AtelierError(f"{shown(path)} carries a provenance without its pixels' digest: it was altered")
    return facts


def read_bands(path: Path) -> Iterator[Samples]:
    """The pixels that a picture holds, in bands from the top; compared with nothing (see `PixelFacts.of_bands`).

    Raises AtelierError as `read` does, and where the file is damaged or has not the size and depth that its
    provenance names.
    """
    facts = _named(path)
    with opened(path, WHAT) as file:
        is_tiff = tiff.is_tiff(file.read(4))
        if is_tiff:
            yield from tiff.read(path, file, facts.width, facts.height)
        else:
            yield from png.read(path, file, facts.width, facts.height, facts.bits)


def read_pixels(path: Path) -> Samples:
    """All of `read_bands`. Raises AtelierError as it does, and where there are more than are read at once."""
    facts = _named(path)
    if facts.width * facts.height > MAX_PIXELS:
        size = f"{facts.width:,} × {facts.height:,} px"
        raise AtelierError(f"{shown(path)} claims {size}, more than the {MAX_PIXELS:,} that are read at once")
    return cast(Samples, np.concatenate([*read_bands(path)]))


def canonical_json(provenance: Provenance) -> str:
    """ASCII JSON with sorted keys and no spaces: one text for one content."""
    content = provenance.model_dump(mode="json")
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _rows(file: BinaryIO, offset: int, width: int, height: int) -> Iterator[Samples]:
    """The RGB samples that a file holds from `offset` on, some rows at a time."""
    file.seek(offset)
    rows = max(1, BAND_BYTES // (3 * width))
    for top in range(0, height, rows):
        count = min(rows, height - top)
        yield np.frombuffer(file.read(3 * width * count), np.uint8).reshape(count, width, 3)


def _named(path: Path) -> PixelFacts:
    facts = read_provenance(path).pixels
    assert facts is not None  # `read` refuses it
    return facts


def first_error(error: ValueError) -> str:
    """Where a stranger's claim breaks its schema first, and how."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}"[:200]
    return str(error)[:200]


NEUTRAL = {"layout": "random", "normalise": "overlap", "seamless": False}  # said only where it is otherwise


def describe_picture(made: Provenance) -> str:
    """One line: what it is a picture of, and whether it is a print."""
    enlarged = f", as a print ×{made.print.upscale.scale}" if made.print else ""
    return f"{describe_recipe(made.latent)}{enlarged}"


def describe_recipe(recipe: Recipe) -> str:
    """Which latent, and what was done to it, in that order."""
    if recipe.walk:
        walk = recipe.walk
        stations = " → ".join(f"{station.seed}-{station.index}" for station in walk.stations)
        first = f"frame {walk.frame + 1:,} of {walk.frames:,} of a walk through {stations}"
        words = [first + (" and back" if walk.loop else "") + (", eased" if walk.easing == "smooth" else "")]
        words += ["its grain moving"] if walk.grain == "moving" else []
    else:
        words = [f"picture {recipe.index} of seed {recipe.seed}"]
    if recipe.canvas != (1, 1):
        words.append(f"on {recipe.canvas[0]} × {recipe.canvas[1]} cells")
    words += [f"{key} {value}" if key != "seamless" else key for key, value in _unusual(recipe)]
    if recipe.truncation != 1:
        words.append(f"truncation {recipe.truncation:g}")
    if recipe.grown_from:
        words += [
            *map(_near, recipe.grown_varied),
            f"grown from {recipe.grown_from[0]} × {recipe.grown_from[1]}",
        ]
    words += map(_near, recipe.variations)
    words += [f"moved {move.amount:+g} along direction {move.direction}" for move in recipe.moves]
    return ", ".join(words)


def _near(variation: Variation) -> str:
    return f"its neighbour {variation.number}, {variation.strength:g} quarter turns away"


def describe_enlargement(upscale: UpscaleFacts) -> str:
    """How a print was made of a picture."""
    by = f", by the network of SHA-256 {upscale.upscaler_sha256[:12]}…" if upscale.upscaler_sha256 else ""
    return f"×{upscale.scale} {printable(upscale.method)}{by}; {describe_settings(upscale.settings)}"


def describe_settings(values: Settings) -> str:
    """`nz 100, ngf 64`, in alphabetical order."""
    return ", ".join(f"{printable(name)} {printable(value)}" for name, value in sorted(values.items()))


def printable(text: object) -> str:
    """A stranger's text on one line, with nothing in it that would move a terminal's cursor."""
    return shown(clean(str(text)))


def _unusual(recipe: Recipe) -> list[tuple[str, object]]:
    told = ((key, getattr(recipe, key)) for key in NEUTRAL)
    return [(key, value) for key, value in told if value != NEUTRAL[key]]

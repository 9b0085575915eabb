"""The provenance of a picture: what it was made of, stored in the picture itself; its description, and repaint jobs.

It is canonical JSON, in an iTXt chunk named `atelier` of a PNG, or in the ImageDescription of a mural's TIFF. It
contains no date, no path and no git revision, so that the same inputs give the same bytes. What is read from a picture
is untrusted: it is bounded, checked against the schema, never used as a path, and cleaned before it is printed.

`Jobs` and `Answer` are the input and output of `python -m atelier.provenance.repaint`, by which later versions of
Atelier run earlier ones from git to paint pictures again (the contract atelier-repainting/1). Keys may be added there,
with defaults that mean what was true without them; none may change its meaning or be removed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atelier.canvas.recipe import Facts, Label, Name, Natural, Recipe, Variation
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.pictures import BAND_BYTES, Samples, png, tiff
from atelier.progress import ProgressCallback
from atelier.settings.base import PaintingPrecision
from atelier.text import escaped, open_regular, printable

FORMAT: Literal["atelier-provenance/4"] = "atelier-provenance/4"
REPAINT_MODULE = "atelier.provenance.repaint"
MURAL_LOCK = "lock"  # in a mural's folder inside Job.kept: locked by the process that paints there
HINT = "name a picture that Atelier made"  # in messages about a file that cannot be read
MAX_PIXELS = 1 << 29  # read at once: 3 GiB of 16 bits


Md5 = Annotated[str, Field(pattern=r"\A[0-9a-f]{32}\z")]
Sha256 = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
Scalar = bool | int | float | Name | None
Settings = Annotated[dict[Name, Scalar | list[Scalar]], Field(max_length=64)]


class ModelFacts(Facts):
    """The generator: the digests of its file (the MD5 is the one in dvc.lock) and its architecture."""

    md5: Md5
    sha256: Sha256
    arch: Name
    resolution: Natural
    settings: Settings

    @classmethod
    def of(cls, generator: Path, header: Mapping[str, Any]) -> Self:
        """The facts of a generator's file, whose header `load_generator` returned."""
        built = {name: header[name] for name in ("arch", "resolution", "settings")}
        return cls(md5=digest(generator, "md5"), sha256=digest(generator), **built)


class PickFacts(Facts):
    """How the picture was picked: it was among the best `keep` of `of` by a discriminator's score."""

    keep: Annotated[int, Field(ge=1, le=10_000)]
    of: Annotated[int, Field(ge=1, le=10_000)]
    discriminator_sha256: Sha256


class PixelFacts(Facts):
    """The pixels: SHA-256 of the RGB samples, row by row, big-endian if they have 16 bits."""

    width: Natural
    height: Natural
    sha256: Sha256
    bits: Literal[8, 16] = 8

    @classmethod
    def of(cls, pixels: Samples) -> Self:
        """The facts of a picture (H, W, 3)."""
        return cls.of_bands([pixels])

    @classmethod
    def of_bands(cls, bands: Iterable[Samples]) -> Self:
        """The facts of a picture that comes in bands (h, W, 3), from the top."""
        sha256, width, height = hashlib.sha256(), 0, 0
        bits: Literal[8, 16] = 8
        for band in bands:
            rows, width, _ = band.shape
            height += rows
            bits = 16 if band.itemsize == 2 else 8
            sha256.update(np.ascontiguousarray(band, band.dtype.newbyteorder(">")).data)
        return cls(width=width, height=height, sha256=sha256.hexdigest(), bits=bits)


class SoftwareFacts(Facts):
    """The versions of the software that made the picture, and the precision that it was painted in.

    float64, in which all devices paint the same pixels, is not written, as in pictures from before there was a choice.
    """

    atelier: Name
    torch: Name
    precision: PaintingPrecision = Field("float64", exclude_if=lambda precision: precision == "float64")


class UpscaleFacts(Facts):
    """How a picture was enlarged. The digests of the network's file are None if no network was used."""

    method: Name
    scale: Annotated[int, Field(ge=1, le=64)]
    upscaler_sha256: Sha256 | None
    upscaler_md5: Md5 | None = None
    settings: Settings
    software: SoftwareFacts


class PrintFacts(Facts):
    """What a print adds to the provenance: how it was enlarged, and the pixels of the picture before that."""

    upscale: UpscaleFacts
    original: PixelFacts


class Provenance(Facts):
    """All that a picture was made of. `pixels` is None only until it is written, `print` is None in an artwork."""

    format: Literal["atelier-provenance/4"] = FORMAT
    model: ModelFacts
    latent: Recipe
    software: SoftwareFacts
    pick: PickFacts | None = None
    pixels: PixelFacts | None = None
    print: PrintFacts | None = None


class _Extensible(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Job(_Extensible):
    """A picture to paint into the .npy file `to`, (H, W, 3) uint8 or uint16.

    `provenance` is the JSON that the picture carries; `generator` and `upscaler` are the files of the networks that it
    names. `kept` is a folder on the same disk for unfinished murals, where a later process for the same job continues.
    """

    name: str
    provenance: dict[str, Any]
    generator: Path
    upscaler: Path | None = None
    to: Path
    kept: Path | None = None


class Jobs(_Extensible):
    """The contents of the file JOBS.json."""

    format: Literal["atelier-repainting/1"] = "atelier-repainting/1"
    device: str = "cpu"
    jobs: list[Job]


class Answer(_Extensible):
    """One line of the output, printed when a job is done. Lines that are not such JSON are for people.

    `pixels` are the facts of the picture that was painted, and `original` those of the picture that a print enlarges.
    If the job could not be done, `refused` is a sentence that says why, and both are None.
    """

    format: Literal["atelier-repainting/1"] = "atelier-repainting/1"
    name: str
    pixels: PixelFacts | None = None
    original: PixelFacts | None = None
    software: SoftwareFacts
    refused: str | None = None


def provenance_of_print(original: Provenance, upscale: UpscaleFacts) -> Provenance:
    """The provenance of a print, which contains that of the written artwork that was enlarged."""
    if original.pixels is None or original.print is not None:
        raise ValueError("a print is made of a written artwork")
    facts = PrintFacts(upscale=upscale, original=original.pixels)
    return original.model_copy(update={"pixels": None, "print": facts})


def write_png(path: Path, pixels: Samples, provenance: Provenance, dpi: float | None = None) -> None:
    """Write a picture (H, W, 3) and its provenance as a PNG; with `dpi`, for prints, also an sRGB profile."""
    facts = provenance.model_copy(update={"pixels": PixelFacts.of(pixels)})
    png.write(path, pixels, canonical_json(facts), dpi)


def write_tiff(path: Path, raw: Path, provenance: Provenance, on_progress: ProgressCallback) -> None:
    """Write a mural and its provenance as a TIFF, from the .npy file `raw`; `on_progress` gets the share written."""
    mapped = np.load(raw, mmap_mode="r")
    (height, width, _), offset = mapped.shape, mapped.offset
    del mapped  # only the header was read
    with raw.open("rb") as file:
        facts = provenance.model_copy(update={"pixels": PixelFacts.of_bands(_rows(file, offset, width, height))})
        tiff.write(path, file, offset, width, height, canonical_json(facts), on_progress)


def read_provenance(path: Path) -> Provenance:
    """Read the provenance of a picture. Its pixels are neither decoded nor compared with it (see `read_bands`).

    Raises AtelierError if the file is absent, neither PNG nor TIFF, or has no provenance of this format.
    """
    with open_regular(path, HINT) as file:
        is_tiff = tiff.is_tiff(file.read(4))
        file.seek(0)
        text = tiff.text(path, file) if is_tiff else png.text(path, file)
    if text is None:
        raise AtelierError(f"{escaped(path)} carries no Atelier provenance: name a picture as Atelier wrote it")
    try:
        facts = Provenance.model_validate_json(text)
    except (ValidationError, ValueError) as error:
        raise AtelierError(
            f"{escaped(path)} carries a provenance that is not {FORMAT} ({first_error(error)}): "
            "it was altered, or another version of Atelier made it"
        ) from None
    if facts.pixels is None:
        raise AtelierError(f"{escaped(path)} carries a provenance without its pixels' digest: it was altered")
    return facts


def read_bands(path: Path) -> Iterator[Samples]:
    """Read the pixels of a picture in bands (h, W, 3), from the top, without comparing them with their digest.

    Raises AtelierError like `read_provenance`, and if the file is damaged or has another size or depth than it names.
    """
    facts = read_provenance(path).pixels
    assert facts  # otherwise read_provenance raised
    with open_regular(path, HINT) as file:
        is_tiff = tiff.is_tiff(file.read(4))
        if is_tiff:
            yield from tiff.read(path, file, facts.width, facts.height)
        else:
            yield from png.read(path, file, facts.width, facts.height, facts.bits)


def read_pixels(path: Path) -> Samples:
    """Read all pixels of a picture, (H, W, 3). Raises AtelierError like `read_bands`, and for more than MAX_PIXELS."""
    facts = read_provenance(path).pixels
    if facts and facts.width * facts.height > MAX_PIXELS:
        size = f"{facts.width:,} × {facts.height:,} px"
        raise AtelierError(f"{escaped(path)} claims {size}, more than the {MAX_PIXELS:,} that are read at once")
    return cast(Samples, np.concatenate([*read_bands(path)]))


def canonical_json(provenance: Provenance) -> str:
    """ASCII JSON with sorted keys and no spaces: equal provenances give equal texts."""
    content = provenance.model_dump(mode="json")
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _rows(file: BinaryIO, offset: int, width: int, height: int) -> Iterator[Samples]:
    """The 8-bit RGB samples of a file from `offset` on, in bands of some rows."""
    file.seek(offset)
    rows = max(1, BAND_BYTES // (3 * width))
    for top in range(0, height, rows):
        count = min(rows, height - top)
        yield np.frombuffer(file.read(3 * width * count), np.uint8).reshape(count, width, 3)


def first_error(error: ValueError) -> str:
    """The first place where untrusted input violates its schema, and how; at most 200 characters."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}"[:200]
    return str(error)[:200]


def describe_recipe(recipe: Recipe) -> str:
    """Describe a recipe in one line: which picture it is, and what was done to its latents, in order."""
    if recipe.walk:
        walk = recipe.walk
        stations = " → ".join(
            ("a projection" if s.latent else f"{s.seed}-{s.index}")
            + (f" ({_label_in_words(s.label)})" if s.label else "")
            for s in walk.stations
        )
        first = f"frame {walk.frame + 1:,} of {walk.frames:,} of a walk through {stations}"
        words = [first + (" and back" if walk.loop else "") + (", eased" if walk.easing == "smooth" else "")]
        words += ["its grain moving"] if walk.grain == "moving" else []
    else:
        grain = f"picture {recipe.index} of seed {recipe.seed}"
        words = [f"the projection of another picture, with the grain of {grain}" if recipe.latent else grain]
    words += [f"label {_label_in_words(recipe.label)}"] if recipe.label else []
    words += ["on {} × {} cells".format(*recipe.canvas)] if recipe.canvas != (1, 1) else []
    words += [f"layout {recipe.layout}"] if recipe.layout != "random" else []
    words += [f"normalise {recipe.normalise}"] if recipe.normalise != "overlap" else []
    words += ["seamless"] if recipe.seamless else []
    words += [f"truncation {recipe.truncation:g}"] if recipe.truncation != 1 else []
    words += map(_describe_variation, recipe.grown_varied)
    words += ["grown from {} × {}".format(*recipe.grown_from)] if recipe.grown_from else []
    words += map(_describe_variation, recipe.variations)
    words += [f"moved {move.amount:+g} along direction {move.direction}" for move in recipe.moves]
    return ", ".join(words)


def _label_in_words(label: Label) -> str:
    if isinstance(label, str):
        return printable(label)
    return " + ".join(f"{weight:g} {printable(name)}" for name, weight in label)


def _describe_variation(variation: Variation) -> str:
    return f"its neighbour {variation.number}, {variation.strength:g} quarter turns away"


def describe_enlargement(upscale: UpscaleFacts) -> str:
    """Describe in one line how a print was enlarged."""
    by = f", by the network of SHA-256 {upscale.upscaler_sha256[:12]}…" if upscale.upscaler_sha256 else ""
    return f"×{upscale.scale} {printable(upscale.method)}{by}; {describe_settings(upscale.settings)}"


def describe_settings(values: Settings) -> str:
    """Describe settings in alphabetical order, for example `nz 100, preset S`."""
    return ", ".join(f"{printable(name)} {printable(value)}" for name, value in sorted(values.items()))

"""What made a picture, inside the picture: canonical JSON in an iTXt chunk named `atelier` of a PNG.

Content facts only: no date, no path, no revision, so that the same work gives the same bytes.
What is read back is a stranger's claim: bounded, checked against the schema, never used as a path.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import Field, ValidationError

from atelier.errors import AtelierError
from atelier.files import digest, replacing
from atelier.recipe import Facts, Natural, Recipe
from atelier.strangers import opened, shown

Pixels = npt.NDArray[np.uint8]
Format = Literal[
    "atelier-provenance/1", "atelier-provenance/2"
]  # 1 knew fewer keys; all have defaults that were so
FORMAT: Format = "atelier-provenance/2"
KEYWORD = b"atelier"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 1 << 16  # ours are about one KiB
MAX_CHUNKS = 64  # before the pixels; ours are two

Name = Annotated[str, Field(max_length=200)]
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
    def of(cls, rgb: Pixels) -> Self:
        height, width, _ = rgb.shape
        return cls(width=width, height=height, sha256=hashlib.sha256(rgb.tobytes()).hexdigest())


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


def printed(original: Provenance, upscale: UpscaleFacts) -> Provenance:
    """The provenance of a print of the picture that carries `original`; all that made the picture stays in it."""
    if original.pixels is None or original.print is not None:
        raise ValueError("a print is made of a written artwork")
    facts = PrintFacts(upscale=upscale, original=original.pixels)
    return original.model_copy(update={"pixels": None, "print": facts})


def write_png(path: Path, rgb: Pixels, provenance: Provenance) -> None:
    """Write uint8 (H, W, 3) pixels and their provenance: whole or not at all, the same bytes for the same content."""
    facts = provenance.model_copy(update={"pixels": PixelFacts.of(rgb)})
    chunks = PngInfo()
    chunks.add_itxt(KEYWORD.decode(), canonical(facts))
    with replacing(path) as temporary:
        Image.fromarray(rgb).save(temporary, format="PNG", compress_level=6, pnginfo=chunks)


def read(path: Path) -> Provenance:
    """The provenance that a PNG carries; the pixels are neither decoded nor compared (see `PixelFacts.of`).

    Raises AtelierError where the file is absent, no PNG, or carries no provenance that this version can read.
    """
    with opened(path, "name a PNG that Atelier made") as file:
        texts = [body for kind, body in _chunks(path, file) if kind == b"iTXt" and _keyword(body) == KEYWORD]
    if len(texts) != 1:
        many = "no" if not texts else "more than one"
        raise AtelierError(f"{shown(path)} carries {many} Atelier provenance: name a PNG as Atelier wrote it")
    try:
        facts = Provenance.model_validate_json(_text(texts[0]))
    except (ValidationError, ValueError) as error:
        raise AtelierError(
            f"{shown(path)} carries a provenance that is not {FORMAT} ({_first_line(error)}): "
            "it was altered, or another version of Atelier made it"
        ) from None
    if facts.pixels is None:
        raise AtelierError(f"{shown(path)} carries a provenance without its pixels' digest: it was altered")
    return facts


def canonical(provenance: Provenance) -> str:
    """ASCII JSON with sorted keys and no spaces: one text for one content."""
    content = provenance.model_dump(mode="json")
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _chunks(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the text chunks before the pixels; others are skipped unread."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise AtelierError(f"{shown(path)} is no PNG: name a PNG that Atelier made")
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise AtelierError(f"{shown(path)} ends before its pixels: it was cut off")
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            return
        if kind != b"iTXt" or length > MAX_BYTES:
            file.seek(length + 4, 1)
            continue
        body, checksum = file.read(length), file.read(4)
        if struct.pack(">I", zlib.crc32(kind + body)) != checksum:
            raise AtelierError(f"{shown(path)} is damaged: the checksum of a text chunk is wrong")
        yield kind, body
    raise AtelierError(
        f"{shown(path)} holds more than {MAX_CHUNKS} chunks before its pixels: not a PNG of Atelier's"
    )


def _keyword(body: bytes) -> bytes:
    return body.split(b"\0", 1)[0]


def _text(body: bytes) -> bytes:
    """The text after keyword, compression flag and method, language, translated keyword (PNG 1.2, 4.2.3.3)."""
    _, _, rest = body.partition(b"\0")
    if rest[:1] != b"\0":
        raise ValueError("it is compressed")
    return rest[2:].split(b"\0", 2)[2] if rest[2:].count(b"\0") >= 2 else b""


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}"[:200]
    return str(error)[:200]

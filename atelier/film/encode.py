"""Pictures one after another as a film: H.264 in .mp4, VP9 in .webm. Knows arrays, not where frames come from.

The same frames give the same bytes, whatever the number of cores: colours are converted here in whole numbers, and the
encoder works in one thread, since its cuts depend on how many there are.

What a film says of itself, written into it and read back. Knows no generator.

What is read back is a stranger's claim: bounded, checked against the schema, never used as a path.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags
from av.container.input import InputContainer
from av.container.output import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from pydantic import Field, model_validator

from atelier.canvas.recipe import Facts
from atelier.errors import AtelierError
from atelier.files import replacing
from atelier.pictures import Pixels
from atelier.pictures.untrusted import escaped, open_regular
from atelier.provenance.facts import Provenance, first_error

BIT = 16  # of the fixed point in which colours are converted

LUMA = (11966, 40254, 4064)  # 219/255 of ITU-R BT.709's shares of red, green and blue, in 1/65536

BLUE, RED = (-6596, -22189, 28785), (28785, -26145, -2640)  # 224/255 of its differences; each sums to 0

MAX_SIDE_PX = 8192  # a side; beyond that few players follow

MOST_COMMENT = 1 << 18  # signs of it that are read

SAME = {"fflags": "+bitexact"}  # no version of the encoder, no random track ids


@dataclass(frozen=True)
class Kind:
    """A container and its encoder, with settings at which a painting's grain survives."""

    container: str
    codec: str
    options: dict[str, str]
    container_options: dict[str, str]


FORMATS = {
    ".mp4": Kind(
        "mp4",
        "libx264",
        # x264's mbtree reads memory that nothing has written where frames are small: other bytes every time
        {"crf": "16", "preset": "medium", "mbtree": "0"},
        {**SAME, "movflags": "+faststart"},  # the index first: a browser plays what has arrived
    ),
    ".webm": Kind("webm", "libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4"}, SAME),
}


def format_of(path: Path) -> Kind:
    """What a file of this name is to be. Raises AtelierError for other endings than .mp4 and .webm."""
    if (kind := FORMATS.get(path.suffix.lower())) is None:
        raise AtelierError(f"{escaped(path)} ends in no film's name: let it end in {' or '.join(FORMATS)}")
    return kind


def write_film(path: Path, frames: Iterable[Pixels], fps: int, comment: str) -> None:
    """Write frames (H, W, 3), all of one even size, as a film that carries `comment`: whole or not at all."""
    kind = format_of(path)
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", format=kind.container, options=kind.container_options) as film,
    ):
        film.metadata["comment"] = comment
        stream = None
        for index, frame in enumerate(frames):
            if stream is None:
                stream = _stream(film, kind, frame.shape[:2], fps)
            picture = av.VideoFrame.from_ndarray(to_yuv420p(frame), format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, fps)
            film.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("a film has at least one frame")
        film.mux(stream.encode(None))


def read_comment(path: Path) -> str:
    """What a film carries, or nothing: of the file's head alone.

    Raises AtelierError where there is no such file, or it is no film.
    """
    with _reading(path) as film:
        comments = {name.lower(): words for name, words in film.metadata.items()}
    return comments.get("comment", "")[:MOST_COMMENT]


def frames_sha256(path: Path) -> str:
    """The digest of a film's frames as they are encoded, of nothing that is told beside them; none is decoded.

    Raises AtelierError as `read_comment` does.
    """
    sha256 = hashlib.sha256()
    with _reading(path) as film:
        for packet in film.demux(video=0):
            sha256.update(f"{packet.pts} {packet.size} ".encode())
            sha256.update(bytes(packet))
    return sha256.hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[InputContainer]:
    """A film that anybody may have made, by the reader of its own kind."""
    kind = format_of(path)
    with open_regular(path, "name a film that Atelier made") as file:
        try:
            with av.open(
                file, "r", format=kind.container
            ) as film:  # a file, not a name: a name may be an address
                yield film
        except (av.FFmpegError, UnicodeDecodeError, IndexError) as error:  # IndexError: it has no pictures
            raise AtelierError(
                f"{escaped(path)} is no film, or a damaged one ({error}): name another"
            ) from None


def to_yuv420p(frame: Pixels) -> Pixels:
    """RGB (H, W, 3) with even sides → the planes Y, Cb, Cr of BT.709 one below the other, (3 H / 2, W), video range.

    Colour is kept once for each 2×2 pixels, their mean.
    """
    height, width, _ = frame.shape
    if height % 2 or width % 2 or max(height, width) > MAX_SIDE_PX:
        raise ValueError(f"a film's sides are even and at most {MAX_SIDE_PX} px, not {width} × {height}")
    whole = frame.astype(np.int32)
    quarters = whole.reshape(height // 2, 2, width // 2, 2, 3).sum((1, 3), dtype=np.int32)
    parts = [_weighed(whole, LUMA, 16, BIT), *(_weighed(quarters, to, 128, BIT + 2) for to in (BLUE, RED))]
    return np.concatenate([part.ravel() for part in parts]).reshape(height * 3 // 2, width)


def _weighed(colours: npt.NDArray[np.int32], weights: tuple[int, int, int], base: int, bits: int) -> Pixels:
    red, green, blue = (weight * colours[..., channel] for channel, weight in enumerate(weights))
    return ((red + green + blue + (1 << bits - 1) >> bits) + base).astype(np.uint8)


def _stream(film: OutputContainer, kind: Kind, size: tuple[int, int], fps: int) -> VideoStream:
    stream = film.add_stream(kind.codec, rate=fps, options=kind.options)
    if not isinstance(stream, VideoStream):
        raise ValueError(f"{kind.codec} makes no video")
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    coder = stream.codec_context
    coder.thread_count = 1
    coder.flags |= Flags.bitexact.value
    coder.colorspace, coder.color_range = Colorspace.ITU709.value, ColorRange.MPEG.value
    coder.color_primaries, coder.color_trc = ColorPrimaries.BT709.value, ColorTrc.BT709.value
    return stream


MAX_WALKERS, MOST_FPS, LEAST_PX = 256, 240, 16

Walkers = Annotated[int, Field(ge=1, le=MAX_WALKERS)]


class FilmFacts(Facts):
    """The first walker's first frame, how many walk beside it, how fast, how many pixels the longer side has.

    Without the seams of a grid, and at least: pictures are never made smaller.
    """

    format: Literal["atelier-film/1"] = "atelier-film/1"
    first: Provenance
    walkers: tuple[Walkers, Walkers]
    fps: Annotated[int, Field(ge=1, le=MOST_FPS)]
    side: Annotated[int, Field(ge=LEAST_PX, le=MAX_SIDE_PX)] = 512  # the first films did not say

    @model_validator(mode="after")
    def _it_is_a_walk(self) -> Self:
        if self.first.latent.walk is None:
            raise ValueError("its first frame belongs to no walk")
        if self.walkers[0] * self.walkers[1] > MAX_WALKERS:
            raise ValueError(f"there are at most {MAX_WALKERS} walkers")
        return self


def read_facts(path: Path) -> FilmFacts:
    """What a film carries; its frames are not looked at.

    Raises AtelierError where the file is absent, no film, or carries nothing that this version can read.
    """
    try:
        return FilmFacts.model_validate_json(read_comment(path))
    except ValueError as error:
        raise AtelierError(
            f"{escaped(path)} says nothing of a walk that this version knows ({first_error(error)}): name a film as "
            "`atelier walk` wrote it"
        ) from None

"""Write films, H.264 in .mp4 and VP9 in .webm, and read what they were made of.

Equal frames give equal bytes, on any number of cores: colours are converted here in integers, and the encoder runs in
one thread, because its decisions depend on the number of threads.

A film carries its facts as JSON in its comment. What is read from a film is untrusted input: it is bounded, checked
against the schema and never used as a path.
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
from atelier.provenance.facts import Provenance, first_error
from atelier.text import escaped, open_regular

FIXED_POINT_BITS = 16  # in which colours are converted
# ITU-R BT.709 in units of 1/65536: the shares of red, green and blue in luma, times 219/255, and those in the
# differences of blue and red, times 224/255, which sum to 0
LUMA = (11966, 40254, 4064)
BLUE, RED = (-6596, -22189, 28785), (28785, -26145, -2640)
MIN_SIDE_PX, MAX_SIDE_PX = 16, 8192  # few players show larger films
MAX_WALKERS, MAX_FPS = 256, 240
MAX_COMMENT_CHARS = 1 << 18  # read of a film's comment, at most
BITEXACT = {"fflags": "+bitexact"}  # without the encoder's version and random track ids


@dataclass(frozen=True)
class FilmFormat:
    """A container and its codec, with options at which the grain of a painting remains visible."""

    container: str
    codec: str
    options: dict[str, str]
    container_options: dict[str, str]


FORMATS = {
    ".mp4": FilmFormat(
        "mp4",
        "libx264",
        # x264's mbtree reads uninitialised memory where frames are small: other bytes every time
        {"crf": "16", "preset": "medium", "mbtree": "0"},
        {**BITEXACT, "movflags": "+faststart"},  # the index first, so that browsers play while they download
    ),
    ".webm": FilmFormat("webm", "libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4"}, BITEXACT),
}

Walkers = Annotated[int, Field(ge=1, le=MAX_WALKERS)]


class FilmFacts(Facts):
    """What a film was made of: the provenance of its first frame, and its form.

    `first` is the first frame of the first walk; `walkers` are the rows and columns of walks side by side. `side` is
    the longer side of the film in pixels, without the gaps of a grid; pictures are enlarged to it, never reduced.
    """

    format: Literal["atelier-film/1"] = "atelier-film/1"
    first: Provenance
    walkers: tuple[Walkers, Walkers]
    fps: Annotated[int, Field(ge=1, le=MAX_FPS)]
    side: Annotated[int, Field(ge=MIN_SIDE_PX, le=MAX_SIDE_PX)] = 512

    @model_validator(mode="after")
    def _check_walk(self) -> Self:
        if self.first.latent.walk is None:
            raise ValueError("its first frame belongs to no walk")
        if self.walkers[0] * self.walkers[1] > MAX_WALKERS:
            raise ValueError(f"there are at most {MAX_WALKERS} walkers")
        return self


def format_of(path: Path) -> FilmFormat:
    """The format for a file of this name. Raises AtelierError unless it ends in .mp4 or .webm."""
    if (film_format := FORMATS.get(path.suffix.lower())) is None:
        raise AtelierError(f"{escaped(path)} is not named like a film: end the name in {' or '.join(FORMATS)}")
    return film_format


def write_film(path: Path, frames: Iterable[Pixels], fps: int, comment: str) -> None:
    """Write frames (H, W, 3) of one even size as a film with a comment, atomically."""
    film_format = format_of(path)
    options = film_format.container_options
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", format=film_format.container, options=options) as film,
    ):
        film.metadata["comment"] = comment
        stream = None
        for index, frame in enumerate(frames):
            if stream is None:
                stream = _add_stream(film, film_format, frame.shape[:2], fps)
            picture = av.VideoFrame.from_ndarray(to_yuv420p(frame), format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, fps)
            film.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("a film has at least one frame")
        film.mux(stream.encode(None))


def read_facts(path: Path) -> FilmFacts:
    """Read what a film was made of, without looking at its frames.

    Raises AtelierError if the file is absent, no film, or has no facts that this version can read.
    """
    with _open_film(path) as film:
        comments = {name.lower(): words for name, words in film.metadata.items()}
    try:
        return FilmFacts.model_validate_json(comments.get("comment", "")[:MAX_COMMENT_CHARS])
    except ValueError as error:
        raise AtelierError(
            f"{escaped(path)} does not describe a walk of this version ({first_error(error)}): name a film as "
            "`atelier walk` wrote it"
        ) from None


def frames_sha256(path: Path) -> str:
    """SHA-256 of a film's encoded frames and times, without the metadata. Raises AtelierError if it is no film."""
    sha256 = hashlib.sha256()
    with _open_film(path) as film:
        for packet in film.demux(video=0):
            sha256.update(f"{packet.pts} {packet.size} ".encode())
            sha256.update(bytes(packet))
    return sha256.hexdigest()


def to_yuv420p(frame: Pixels) -> Pixels:
    """Convert RGB (H, W, 3) with even sides to BT.709's planes Y, Cb, Cr one below the other, (3 H / 2, W).

    Values are in video range. Cb and Cr are the means of 2×2 pixels.
    """
    height, width, _ = frame.shape
    if height % 2 or width % 2 or max(height, width) > MAX_SIDE_PX:
        raise ValueError(f"a film's sides are even and at most {MAX_SIDE_PX} px, not {width} × {height}")
    whole = frame.astype(np.int32)
    quarters = whole.reshape(height // 2, 2, width // 2, 2, 3).sum((1, 3), dtype=np.int32)
    luma = _weighted_sum(whole, LUMA, 16, FIXED_POINT_BITS)
    differences = [_weighted_sum(quarters, weights, 128, FIXED_POINT_BITS + 2) for weights in (BLUE, RED)]
    return np.concatenate([part.ravel() for part in (luma, *differences)]).reshape(height * 3 // 2, width)


def _weighted_sum(colours: npt.NDArray[np.int32], weights: tuple[int, int, int], offset: int, bits: int) -> Pixels:
    """The weighted sum of the three channels, rounded and divided by 2^bits, plus an offset."""
    red, green, blue = (weight * colours[..., channel] for channel, weight in enumerate(weights))
    return ((red + green + blue + (1 << bits - 1) >> bits) + offset).astype(np.uint8)


@contextmanager
def _open_film(path: Path) -> Iterator[InputContainer]:
    """Open an untrusted film, only with the reader for its name's format."""
    film_format = format_of(path)
    with open_regular(path, "name a film that Atelier made") as file:
        try:
            # a file, not a name, because FFmpeg takes a name for an address
            with av.open(file, "r", format=film_format.container) as film:
                yield film
        except (av.FFmpegError, UnicodeDecodeError, IndexError) as error:  # IndexError: it has no pictures
            raise AtelierError(f"{escaped(path)} is no film, or a damaged one ({error}): name another") from None


def _add_stream(film: OutputContainer, film_format: FilmFormat, size: tuple[int, int], fps: int) -> VideoStream:
    stream = film.add_stream(film_format.codec, rate=fps, options=film_format.options)
    if not isinstance(stream, VideoStream):
        raise ValueError(f"{film_format.codec} makes no video")
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    coder = stream.codec_context
    coder.thread_count = 1
    coder.flags |= Flags.bitexact.value
    coder.colorspace, coder.color_range = Colorspace.ITU709.value, ColorRange.MPEG.value
    coder.color_primaries, coder.color_trc = ColorPrimaries.BT709.value, ColorTrc.BT709.value
    return stream

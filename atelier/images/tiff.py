"""TIFFs of many kinds, and 16-bit samples of any file, as 8-bit images. libvips decodes them.

Pillow reads many TIFFs wrong or not at all, as a comparison of about 1,400 files with tifffile showed. Files that
neither Pillow nor libvips reads right are refused.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from atelier.images import Truncated, Unreadable
from atelier.images.colours import DeclaredSpace, needs_conversion
from atelier.pictures import Pixels, array, from_16_bits, libvips, profile_of

CONVERTED = "converted"  # key of an image's `info`: whether its samples are already sRGB

# tags of TIFF 6.0
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
ORIENTATION, CHANNELS, TILE_WIDTH, TILE_HEIGHT, INK_SET, EXTRAS, FORMAT = 274, 277, 322, 323, 332, 338, 339
PLANAR, TRANSFER_FUNCTION, PRIMARIES, SUBSAMPLING = 284, 301, 319, 530
TAGS = frozenset({
    SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, CHANNELS, TILE_WIDTH, TILE_HEIGHT, INK_SET,
    EXTRAS, FORMAT, PLANAR, SUBSAMPLING,
})  # fmt: skip
NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # the unsigned integer types
MAX_PAGES, MAX_VALUES, MAX_TILE = 1000, 16, 1 << 26
GREY, LAB, CMYK, YCBCR = (0, 1), 8, 5, 6
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # channels by photometric interpretation
OTHER_COLOURS = {
    4: "a mask", 9: "ICC Lab colours", 10: "ITU Lab colours", 32803: "a camera's raw samples",
    32844: "LogL samples", 32845: "LogLuv samples", 34892: "a camera's raw samples",
}  # fmt: skip
PILLOWS_COMPRESSIONS = (34925, 50000)  # LZMA and Zstandard, which libvips's libtiff lacks
OLD_JPEG, JPEG = 6, 7
USUAL_COMPRESSIONS = (1, 2, 3, 4, 5, JPEG, 8, 32773, 32946)  # a failure to decode them means damage
ASSOCIATED, UNASSOCIATED = 1, 2  # alpha


@dataclass(frozen=True, slots=True)
class Layout:
    """The directory of a TIFF's picture, and its place among the file's pages."""

    page: int
    pages: int
    pillow_opens: bool  # all but big-endian BigTIFFs
    tags: dict[int, tuple[int, ...]]

    def one(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return (self.tags.get(tag) or (default,))[0]


def layout_of(content: bytes) -> Layout:
    """The first directory of a TIFF with a full picture, not a preview. Truncated or struct.error if damaged."""
    directories = [*_directories(content)]
    full = [page for page, tags in enumerate(directories) if not (tags.get(SUBFILE) or (0,))[0] & 5]
    if not directories:
        raise Truncated("damaged TIFF: it has no directory")
    page = full[0] if full else 0
    return Layout(page, max(1, len(full)), content[:4] != b"MM\0+", directories[page])


def _directories(content: bytes) -> Iterator[dict[int, tuple[int, ...]]]:
    """The integers of TAGS in each directory of a classic TIFF or BigTIFF. Raises struct.error for bad offsets."""
    ends = "<" if content[:2] == b"II" else ">"
    big = 43 in content[2:4]
    counter, entry, pointer, first = ("Q", "HHQ8s", "Q", 8) if big else ("H", "HHI4s", "I", 4)
    (offset,) = struct.unpack_from(f"{ends}{pointer}", content, first)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        seen.add(offset)
        (count,) = struct.unpack_from(f"{ends}{counter}", content, offset)
        at, tags = offset + struct.calcsize(f"={counter}"), dict[int, tuple[int, ...]]()
        size = struct.calcsize(f"={entry}")
        for start in range(at, at + min(count, 4096) * size, size):
            tag, kind, number, value = struct.unpack_from(f"{ends}{entry}", content, start)
            if tag in (TRANSFER_FUNCTION, PRIMARIES):
                tags[tag] = ()
            if tag in TAGS and kind in NUMBERS and 0 < number <= MAX_VALUES:
                form = f"{ends}{number}{NUMBERS[kind]}"
                if struct.calcsize(form) <= len(value):
                    tags[tag] = struct.unpack_from(form, value)
                else:
                    (place,) = struct.unpack(f"{ends}{pointer}", value)
                    tags[tag] = struct.unpack_from(form, content, place)
        yield tags
        (offset,) = struct.unpack_from(f"{ends}{pointer}", content, at + count * size)


def check_supported(layout: Layout) -> None:
    """Raise Unreadable for a TIFF whose samples are ambiguous or unsupported, Truncated for a damaged one."""
    photometric, channels = layout.one(PHOTOMETRIC, -1), layout.one(CHANNELS, 1)
    compression = layout.one(COMPRESSION, 1)
    bits, formats = set(layout.tags.get(BITS, (1,))), set(layout.tags.get(FORMAT, (1,)))
    width, height = layout.one(WIDTH, 0), layout.one(HEIGHT, 0)
    depth, extras = max(bits), channels - COLOURS.get(photometric, channels)
    packed = not bits <= {1, 2, 4, 8, 16} or (depth < 8 and channels > 1)
    signed, max_extras = 2 in formats and photometric != LAB, 1 if photometric in (*GREY, 3) else 2
    huge_tiles = layout.one(TILE_WIDTH, 0) * layout.one(TILE_HEIGHT, 0) > max(MAX_TILE, 4 * width * height)
    other_inks = photometric == CMYK and layout.one(INK_SET, 1) != 1
    for applies, problem in (
        (not width or not height, Truncated("damaged TIFF: it has no width or no height")),
        (photometric in OTHER_COLOURS, Unreadable(f"TIFF with {OTHER_COLOURS.get(photometric)}, which is not read")),
        (photometric not in COLOURS, Unreadable("TIFF that does not say what its samples mean")),
        (formats & {3}, Unreadable("TIFF with floating-point samples, whose white is not known")),
        (formats & {5, 6}, Unreadable("TIFF with complex samples, which are no picture")),
        (len(bits) != 1, Unreadable("TIFF whose channels differ in depth, which is not read")),
        (depth > 16, Unreadable(f"TIFF with {depth}-bit samples, whose white is not known")),
        (signed, Unreadable("TIFF with signed samples, whose black and white are not known")),
        (packed, Unreadable(f"TIFF with packed {depth}-bit samples, which is not read")),
        (extras < 0, Truncated("damaged TIFF: it has too few channels for its colours")),
        (extras > max_extras, Unreadable(f"TIFF with {channels} channels, whose meaning is not known")),
        (compression == OLD_JPEG, Unreadable("TIFF with JPEG data in the manner of TIFF 6.0, which is not read")),
        (other_inks, Unreadable("TIFF with inks other than cyan, magenta, yellow and black, which is not read")),
        (huge_tiles, Unreadable("TIFF with tiles far larger than its picture")),
    ):
        if applies:
            raise problem


def is_for_pillow(layout: Layout) -> bool:
    """Whether Pillow decodes a TIFF that libvips does not. Raises Unreadable if neither does."""
    photometric, bits = layout.one(PHOTOMETRIC, -1), layout.one(BITS, 1)
    channels, planes = layout.one(CHANNELS, 1), layout.one(PLANAR, 1) == 2
    lab = photometric == LAB and bits == 8
    tiled_planes = planes and channels > 1 and TILE_WIDTH in layout.tags
    other_codec = layout.one(COMPRESSION, 1) in PILLOWS_COMPRESSIONS
    full_colour = photometric == YCBCR and layout.one(COMPRESSION, 1) != JPEG
    if planes and channels not in (1, 3, 4):
        raise Unreadable(f"TIFF with {channels} separate planes, which is not read")
    if full_colour and layout.tags.get(SUBSAMPLING) != (1, 1):
        raise Unreadable(
            "TIFF with YCbCr colours of less detail than its brightness, outside a JPEG, which is not read"
        )
    if not (lab or tiled_planes or other_codec or full_colour):
        return False
    if layout.pillow_opens and ((bits == 8 and channels != 2) or (bits == 16 and photometric == 2 and not planes)):
        return True
    kind = "separate planes in tiles" if tiled_planes else f"compression {layout.one(COMPRESSION, 1)}"
    if not (tiled_planes or other_codec):
        kind = "Lab colours" if lab else "YCbCr colours"
    raise Unreadable(f"TIFF with {kind}, {channels} channels of {bits} bits and this byte order, which is not read")


def decode(content: bytes, layout: Layout) -> Image.Image:
    """Decode a TIFF by libvips. Raises Truncated for a damaged file, Unreadable for an unsupported one."""
    vips = libvips()
    photometric, compression = layout.one(PHOTOMETRIC, -1), layout.one(COMPRESSION, 1)
    # one strip may contain the whole picture
    unlimited = {"unlimited": True} if vips.at_least_libvips(8, 17) else {}
    try:
        image = vips.Image.tiffload_buffer(content, page=layout.page, fail_on="warning", **unlimited)
        samples, profile = array(image), profile_of(image)
    except vips.Error:  # its text may come from another thread
        if compression in USUAL_COMPRESSIONS:
            raise Truncated("damaged TIFF: its pixels cannot be decoded") from None
        raise Unreadable(f"TIFF of compression {compression}, which cannot be decoded") from None
    colours = 3 if photometric == 3 else COLOURS[photometric]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    alpha = channels > colours and layout.one(EXTRAS, 0) in (ASSOCIATED, UNASSOCIATED)
    if channels < colours or samples.dtype not in (np.uint8, np.uint16, np.int16):
        raise Unreadable(f"TIFF of {channels} channels of {samples.dtype}, which is not read")
    if photometric == LAB:  # in libvips L is 0 to 32,767, a and b are -128 to 127 in 256ths
        wide = np.asarray(samples, np.float32)[..., :3] * np.array([255 / 32767, 1 / 256, 1 / 256], np.float32)
        lab = (wide.round().astype(np.int16) & 0xFF).astype(np.uint8)
        return Image.frombytes("LAB", lab.shape[1::-1], lab.tobytes())
    if samples.dtype == np.int16:
        raise Unreadable("TIFF with signed samples, whose black and white are not known")
    return eight_bits(samples, colours, alpha, profile, DeclaredSpace())


def eight_bits(
    samples: npt.NDArray[Any], colours: int, alpha: bool, profile: bytes | None, declared: DeclaredSpace
) -> Image.Image:
    """An image of samples (H, W) or (H, W, channels); 16 bits are converted to sRGB before they are rounded to 8."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    colour, opacity = samples[..., :colours], samples[..., colours] if alpha else None
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours]
    embed_profile = needs_conversion(profile, mode)
    if samples.dtype == np.uint16:
        if embed_profile:
            assert profile is not None
            colour, mode, embed_profile = _convert_by_profile(colour, profile), "RGB", False
        elif declared.space is not None:
            colour = declared.space.to_srgb(colour)
        else:
            colour = _to_8_bits(colour)
        opacity = None if opacity is None else _to_8_bits(opacity)
    if mode == "CMYK":
        image = Image.frombytes("CMYK", colour.shape[1::-1], np.ascontiguousarray(colour).tobytes())
        if opacity is not None:
            raise Unreadable("CMYK with transparency, which is not read")
    else:
        bands = colour if opacity is None else np.concatenate([colour, opacity[..., None]], axis=2)
        image = Image.fromarray(np.ascontiguousarray(bands[..., 0] if bands.shape[2] == 1 else bands))
    if embed_profile:
        image.info["icc_profile"] = profile
    image.info[CONVERTED] = samples.dtype == np.uint16
    return image


def _to_8_bits(samples: npt.NDArray[Any]) -> Pixels:
    """Round 16-bit samples to 8 bits."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _convert_by_profile(colour: npt.NDArray[Any], profile: bytes) -> Pixels:
    """Convert 16-bit samples by their profile to 8-bit sRGB."""
    vips = libvips()
    image = from_16_bits(colour, {1: "grey16", 3: "rgb16", 4: "cmyk"}[colour.shape[2]])
    image = image.copy()  # metadata may be set on a copy only
    image.set_type(vips.GValue.blob_type, "icc-profile-data", profile)
    try:
        converted = array(image.icc_transform("srgb", embedded=True, intent="perceptual", depth=8))
    except vips.Error:
        raise Unreadable("16-bit samples whose colour profile cannot be applied") from None
    return np.repeat(converted[..., None], 3, axis=2) if converted.ndim == 2 else converted[..., :3]

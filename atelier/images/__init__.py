"""Decode and verify image files of unknown origin. Here: the kinds that Atelier reads, and how they are recognised."""

from functools import cache
from importlib.util import find_spec
from pathlib import PurePath

from PIL import features

# Pillow's name of a kind → the extension of its stored files
EXTENSIONS = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tif", "BMP": "bmp", "AVIF": "avif",
    "HEIF": "heic",
}  # fmt: skip
# lower-case file name endings
SUFFIXES = {
    "JPEG": ".jpg .jpeg .jpe .jfif", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp .dib",
    "TIFF": ".tif .tiff .btf .tf8", "AVIF": ".avif .avifs", "HEIF": ".heic .heif .hif",
}  # fmt: skip
_KINDS = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes.split()}
_NEITHER = "neither JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF nor HEIC"

_SIGNATURES: dict[str, bytes | tuple[bytes, ...]] = {
    "JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # + is BigTIFF
}  # fmt: skip
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_UNSUPPORTED_SIGNATURES = (
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"%PDF-", "a PDF"),
    (b"gimp xcf ", "a GIMP picture"),
    (b"v/1\x01", "an OpenEXR picture"),
)


class Unreadable(Exception):
    """A complete picture of a kind that is not supported; the text says which."""


class Truncated(Exception):
    """An incomplete or damaged picture; the text says what is missing."""


def sniff(content: bytes) -> str | None:
    """Detect the kind of a picture from its first bytes: a key of EXTENSIONS, None for anything else."""
    for kind, signatures in _SIGNATURES.items():
        if content.startswith(signatures):
            return kind
    head = content[:64]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and len(content) > 26:
        return "BMP"
    if head[4:8] == b"ftyp":
        box = head[8 : max(int.from_bytes(head[:4]), 16)]
        brands = {box[start : start + 4] for start in range(0, len(box), 4) if start != 4}  # bytes 4 to 8 are a version
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    return None


@cache
def missing_decoder(kind: str) -> str:
    """Why this machine cannot read pictures of a kind, and what to install; empty if it can."""
    if kind == "HEIF" and find_spec("pillow_heif") is None:
        return "HEIC pictures are read where pillow-heif is installed: `uv pip install pillow-heif`"
    if kind in ("AVIF", "WEBP") and not features.check(kind.lower()):
        return f"this Pillow was built without {kind}: `uv pip install --reinstall pillow` installs one with it"
    return ""


def kind_of_name(path: PurePath) -> str | None:
    """The kind of picture by a file's name: a key of EXTENSIONS, None for other files."""
    return _KINDS.get(path.suffix.lower())


def describe_unknown(content: bytes) -> str:
    """Describe bytes that are not a picture of a supported kind."""
    if not content:
        return "an empty answer"
    for start, words in _UNSUPPORTED_SIGNATURES:
        if content.startswith(start):
            return f"{words}, which Atelier does not read: {_NEITHER}"
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if start.startswith(b"<"):
        return "markup, not a bitmap"
    return _NEITHER

"""Make untrusted text safe for terminals, table rows, CSV files, file names, addresses and HTML parsers.

At the end: opening a file that anybody may have made and named.
"""

import errno
import hashlib
import html
import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

from atelier.errors import AtelierError

MAX_CHARS = 500  # of a cleaned text; titles of 250 occur
MAX_TAG_CHARS = 2000  # of a tag's attributes
MAX_SLUG_CHARS = 80
# Latin letters that Unicode does not decompose into a letter and an accent
LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i", "ŋ": "n"}
)

WHAT_INSTEAD = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def clean(text: str) -> str:
    """Return `text` on one line and in Unicode's form NFC, at most MAX_CHARS characters.

    HTML entities are resolved; control characters and lone surrogates are replaced. `printable` also escapes
    characters that change the direction of writing.
    """
    text = html.unescape(text)
    if text.isprintable():  # nearly every text, in a tenth of the time
        return unicodedata.normalize("NFC", " ".join(text.split()))[:MAX_CHARS]
    text = text.encode("utf-8", "replace").decode()
    kept = "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)
    return unicodedata.normalize("NFC", " ".join(kept.split()))[:MAX_CHARS]


def escaped(name: Path | str) -> str:
    """Escape unprintable characters in a name: line ends, terminal escape codes, bytes of no encoding."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(name)
    )


def printable(text: object) -> str:
    """Make untrusted text safe to print: one line, without control characters that a terminal would obey."""
    return escaped(clean(str(text)))


def escape_csv_cell(text: str) -> str:
    """Return `text` on one line; an apostrophe before it keeps spreadsheets from reading it as a formula."""
    text = re.sub(r"[\r\n]", " ", text)
    return f"'{text}" if _is_formula(text) else text


def unescape_csv_cell(text: str) -> str:
    """Remove the apostrophe that `escape_csv_cell` puts before a formula; line breaks that it replaced stay spaces."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    return text.startswith("\t") or text.lstrip().startswith(("=", "+", "-", "@"))


def slug(text: str) -> str:
    """Return `text` as lower-case letters a to z, digits and single hyphens, for example "anna-ancher".

    Where letters have no such form (葛飾北斎), or the slug would be too long, it ends in eight digits of a hash of
    `text`, so that different texts get different slugs. It is "untitled" where `text` has no letter and no digit.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).lower().translate(LATIN))
    lost = any(character.isalnum() and not character.isascii() for character in plain)
    ascii = re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")
    if not lost and len(ascii) <= MAX_SLUG_CHARS:
        return ascii or "untitled"
    folded = unicodedata.normalize("NFKC", text).casefold()
    mark = hashlib.sha256(folded.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{ascii[: MAX_SLUG_CHARS - 9].rstrip('-') or 'untitled'}-{mark}"


def keep_only_tags(page: bytes, names: Sequence[str]) -> str:
    """Return a page of HTML without comments and with all tags but the named ones escaped.

    This bounds the time of Python's html.parser, which is quadratic for unclosed comments, declarations and tags.
    """
    first, *others = page.decode("utf-8", "replace").split("<!--")
    text = first + "".join(other.partition("-->")[2] for other in others)
    no_tag = rf"<(?!/?(?:{'|'.join(names)})(?![\w-])[^<>]{{0,{MAX_TAG_CHARS}}}>)"
    return re.sub(no_tag, "&lt;", text, flags=re.IGNORECASE)


def open_regular(path: Path, hint: str) -> BufferedReader:
    """Open a regular file for reading, without ever blocking as a pipe would.

    Raises AtelierError, which ends with `hint`, if the file is missing, not readable, or a folder, pipe or device.
    """
    try:
        # checked before opening, which may already have an effect on a device, and after it, as files may be replaced
        _refuse_irregular(path, path.stat().st_mode, hint)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        file = os.fdopen(handle, "rb")
    except FileNotFoundError:
        raise AtelierError(f"{escaped(path)} is missing: {hint}") from None
    except PermissionError:
        raise AtelierError(f"{escaped(path)} may not be read: `chmod +r` makes it readable, or {hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        loops = isinstance(error, OSError) and error.errno == errno.ELOOP
        why = "a link that leads back to itself" if loops else getattr(error, "strerror", None) or str(error)
        raise AtelierError(f"{escaped(path)} cannot be opened ({why}): {hint}") from None
    try:
        _refuse_irregular(path, os.fstat(file.fileno()).st_mode, hint)
    except AtelierError:
        file.close()
        raise
    return file


def _refuse_irregular(path: Path, mode: int, hint: str) -> None:
    if not stat.S_ISREG(mode):
        raise AtelierError(f"{escaped(path)} is {WHAT_INSTEAD.get(stat.S_IFMT(mode), 'no file')}: {hint}")

"""Make texts of unknown origin fit for a table row, a terminal, a file name, an address or a parser of HTML."""

import hashlib
import html
import re
import unicodedata
from collections.abc import Sequence

MAX_CHARS = 500  # characters; titles of 250 occur
LONGEST_TAG = 2000  # characters of attributes
LONGEST_SLUG = 80  # characters
# Latin letters that Unicode does not decompose into a letter and an accent
LATIN = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ħ": "h",
        "ı": "i",
        "ŋ": "n",
    }
)


def clean(text: str) -> str:
    """Return `text` on one line and in Unicode's form NFC, at most LONGEST characters.

    HTML entities are resolved; control characters and lone surrogates are left out. What a terminal is shown goes
    through `pictures.strangers.shown` as well, which escapes what would turn the direction of writing.
    """
    text = html.unescape(text)
    if text.isprintable():  # nearly every text, and a tenth of the time
        return unicodedata.normalize("NFC", " ".join(text.split()))[:MAX_CHARS]
    text = text.encode("utf-8", "replace").decode()
    kept = "".join(
        " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text
    )
    return unicodedata.normalize("NFC", " ".join(kept.split()))[:MAX_CHARS]


def escape_csv_cell(text: str) -> str:
    """Return `text` on one line for a CSV that a spreadsheet may open, with an apostrophe before a formula."""
    text = re.sub(r"[\r\n]", " ", text)
    return f"'{text}" if _is_formula(text) else text


def unescape_csv_cell(text: str) -> str:
    """Return the text that `cell` was given."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet may compute a cell that holds this text."""
    return text.startswith("\t") or text.lstrip().startswith(("=", "+", "-", "@"))


def slug(text: str) -> str:
    """Return `text` as lower-case letters a to z, digits and single hyphens, for example "anna-ancher".

    Where letters have no such form (葛飾北斎), or the slug would be too long, it ends in eight digits of a hash of
    `text`, so that different texts have different slugs. It is "untitled" where `text` has no letter and no digit.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).lower().translate(LATIN))
    lost = any(character.isalnum() and not character.isascii() for character in plain)
    ascii = re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")
    if not lost and len(ascii) <= LONGEST_SLUG:
        return ascii or "untitled"
    folded = unicodedata.normalize("NFKC", text).casefold()
    mark = hashlib.sha256(folded.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{ascii[: LONGEST_SLUG - 9].rstrip('-') or 'untitled'}-{mark}"


def keep_only_tags(page: bytes, names: Sequence[str]) -> str:
    """A page of HTML without comments, in which only whole tags of these names are tags; every other `<` is text.

    Python's html.parser takes quadratic time for what never ends: comments, declarations, tags without a `>`.
    """
    first, *others = page.decode("utf-8", "replace").split("<!--")
    text = first + "".join(other.partition("-->")[2] for other in others)
    no_tag = rf"<(?!/?(?:{'|'.join(names)})(?![\w-])[^<>]{{0,{LONGEST_TAG}}}>)"
    return re.sub(no_tag, "&lt;", text, flags=re.IGNORECASE)

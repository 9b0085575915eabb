"""Texts from strangers: made fit for a table row, a file name, an address. Knows no source."""

import html
import re
import unicodedata

LONGEST = 500  # characters; titles of 250 occur


def clean(text: str) -> str:
    """`text` on one line: HTML entities resolved, no control characters or lone surrogates, at most LONGEST."""
    text = html.unescape(text)
    if text.isprintable():  # nearly every text, and a tenth of the time
        return " ".join(text.split())[:LONGEST]
    text = text.encode("utf-8", "replace").decode()
    kept = "".join(
        " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text
    )
    return " ".join(kept.split())[:LONGEST]


def slug(text: str) -> str:
    """Lower-case letters, digits and single hyphens; "untitled" where none of `text` is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:80].rstrip("-") or "untitled"

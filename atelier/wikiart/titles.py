"""Genres and styles as the App layer writes them, titles joined by commas, told apart as slugs."""

from functools import cache

from atelier.text import slug
from atelier.wikiart.slugs import Kind, table


def slugs(kind: Kind, joined: str) -> list[str]:
    """The slugs of "Realism, Trompe-l'œil"; of a title that the shipped table does not know, the likeliest."""
    likeliest = (slug(_plain(title)) for title in joined.split(",") if title.strip())
    return sorted({_known(kind).get(name, name) for name in likeliest})


def is_among(kind: Kind, asked: str, joined: str) -> bool:
    """Whether the genre or style `asked` for is one of those named."""
    return asked in slugs(kind, joined)


def union(*fields: str) -> str:
    """One field of the catalog out of several: "marina, sketch"."""
    return ", ".join(sorted({name for field in fields for name in field.split(", ")} - {""}))


@cache
def _known(kind: Kind) -> dict[str, str]:
    """What a title looks like as a slug → the slug that the site gave it."""
    return {slug(_plain(entry.title)): entry.slug for entry in table(kind) if entry.title} | {
        entry.slug: entry.slug for entry in table(kind)
    }


def _plain(title: str) -> str:
    """Without what is written now so, now so."""
    return title.replace("'", "").replace("’", "").replace("œ", "oe").replace("Œ", "Oe")

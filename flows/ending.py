"""How a flow's command ends for a person: as any command does, and with a sentence where Prefect's server goes away."""

from collections.abc import Iterator
from contextlib import contextmanager

from atelier.ending import with_words as with_words
from atelier.errors import AtelierError


@contextmanager
def server_needed(goes_on: str) -> Iterator[None]:
    """Around a flow: raise AtelierError where Prefect's server goes away or fails for longer than its client waits."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        raise AtelierError(
            f"Prefect's server fails (HTTP {error.response.status_code}): what is finished is kept, and {goes_on}"
        ) from None
    except httpx.TransportError as error:
        raise AtelierError(
            f"Prefect's server has gone ({error}): what is finished is kept, and {goes_on}"
        ) from None


def in_words(error: Exception) -> str:
    """The sentence for a flow's message: of an OSError, what is wrong and with which file; else the error's own."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)

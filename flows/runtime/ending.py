"""How a flow's command ends for a person: as any command does, and with a sentence where Prefect's server goes away."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atelier.ending import with_words as with_words
from atelier.errors import AtelierError

FULL_BYTES = 1e6  # free space with which SQLite can write no more


@contextmanager
def server_needed(goes_on: str) -> Iterator[None]:
    """Around a flow: raise AtelierError where Prefect's server goes away or fails for longer than its client waits."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        full = " because the disk is full" if shutil.disk_usage(Path()).free < FULL_BYTES else ""
        status = error.response.status_code
        raise AtelierError(
            f"Prefect's server fails{full} (HTTP {status}): what is finished is kept, and {goes_on}"
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

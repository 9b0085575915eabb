"""Errors of DVC remotes (S3, Google Cloud, Azure, SSH, WebDAV, ...) as sentences.

Each kind of remote raises its own library's exceptions, most of which derive from Exception alone. They are
distinguished by built-in type, by HTTP status and by the names of their classes, so that no library has to be
installed to recognise its exceptions.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from atelier.errors import AtelierError, TransientError

if TYPE_CHECKING:
    from dvc.repo import Repo

# names of exception classes
REFUSED = re.compile(r"Auth|Credential|Permission|Forbidden|AccessDenied|Token|Login|HostKey|CertVerification")
UNREACHABLE = re.compile(r"Connect|Disconnect|Timeout|Transport|ServiceRe(quest|sponse)|HTTPClientError|Unavailable")
MAX_TEXT = 300


def default_remote(repo: "Repo") -> tuple[str, str] | None:
    """Return the name and the address of the default remote; None where none is set."""
    name = repo.config["core"].get("remote")
    return (name, str(repo.config["remote"].get(name, {}).get("url", name))) if name else None


@contextmanager
def in_words(name: str, address: str) -> Iterator[None]:
    """Turn any exception of a remote into AtelierError: TransientError where it may work later without a change.

    DvcException passes unchanged, because its message is a sentence already.
    """
    from dvc.exceptions import DvcException

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # some libraries log each retry with a traceback
    try:
        yield
    except (AtelierError, DvcException):
        raise
    except Exception as error:  # noqa: BLE001
        raise sentence(name, address, error) from None
    finally:
        logging.disable(before)


def sentence(name: str, address: str, error: Exception) -> AtelierError:
    """Return the exception to raise for one of a remote's: TransientError where it may work later without a change."""
    text = _text(error)
    if isinstance(error, ImportError):
        # the package's name is in the message only
        package = re.search(r"dvc-\w+", text)
        remedy = f"`uv pip install {package[0]}` brings it" if package else "install what is missing"
        return AtelierError(f"{name}, {address}: {text}: {remedy}")
    if is_refused(error):
        return AtelierError(
            f"{name}, {address}, refuses access: {text}: set its credentials, see `dvc remote modify --local {name}`"
        )
    if _is_unreachable(error):
        return TransientError(f"{name}, {address}, cannot be reached: {text}")
    return AtelierError(f"{name}, {address}, cannot be used: {text}: see its settings in .dvc/config")


def is_refused(error: BaseException) -> bool:
    """Whether a remote refused the credentials."""
    return _status(error) in (401, 403) or any(REFUSED.search(kind.__name__) for kind in type(error).__mro__)


def _is_unreachable(error: BaseException) -> bool:
    """Judge by the exception or its cause. A missing local file, such as a key, is a matter of settings."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return False
    status = _status(error)
    if isinstance(error, OSError) or (status is not None and (status >= 500 or status in (408, 429))):
        return True
    if any(UNREACHABLE.search(kind.__name__) for kind in type(error).__mro__):
        return True
    cause = error.__cause__
    return cause is not None and not is_refused(cause) and _is_unreachable(cause)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an exception, from any of the attributes in which libraries keep it."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    values = (getattr(error, key, None) for key in ("status_code", "status", "code"))
    for value in (metadata.get("HTTPStatusCode"), *values):
        if isinstance(value, int):
            return value
    return None


def _text(error: Exception) -> str:
    """Return the exception's message on one line; its class's name where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"

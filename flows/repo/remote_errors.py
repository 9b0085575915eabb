"""Errors of DVC remotes (S3, Google Cloud, Azure, SSH, WebDAV, ...) as sentences.

Each kind of remote raises its own library's exceptions, most of which derive from Exception alone. They are told apart
by HTTP status and by class name, so that no library has to be installed to recognise its exceptions.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from atelier.errors import AtelierError, TransientError

REFUSED = re.compile(
    r"Auth|Credential|Permission|Forbidden|AccessDenied|Token|Login|HostKey|CertVerification"
)
UNREACHABLE = re.compile(
    r"Connect|Disconnect|Timeout|Transport|ServiceRe(quest|sponse)|HTTPClientError|Unavailable"
)
REFUSED_TEXT = re.compile(
    r"access ?denied|forbidden|permission denied|credential|signaturedoesnotmatch|invalidaccesskey|unauthori[sz]ed"
    r"|authenticat|\b40[13]\b", re.IGNORECASE,
)  # fmt: skip
MAX_TEXT = 300


@contextmanager
def in_words(name: str, address: str) -> Iterator[None]:
    """Turn any exception of a remote into AtelierError: TransientError where it may work later without a change.

    DvcException passes, because DVC words it itself.
    """
    from dvc.exceptions import DvcException

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # some libraries log each retry with a traceback
    try:
        yield
    except (AtelierError, DvcException):
        raise
    except ImportError as error:
        package = re.search(r"dvc-\w+", str(error))
        mend = f"`uv pip install {package[0]}` brings it" if package else "install what is missing"
        raise AtelierError(f"{name}, {address}: {error}: {mend}") from None
    except Exception as error:  # noqa: BLE001
        raise _sentence(name, address, error) from None
    finally:
        logging.disable(before)


def is_refusal(text: str) -> bool:
    """Whether what a dvc command printed says that the remote refused the credentials."""
    return REFUSED_TEXT.search(text) is not None


def _sentence(name: str, address: str, error: Exception) -> AtelierError:
    said = _text(error)
    if _is_refused(error):
        return AtelierError(
            f"{name}, {address}, refuses access: {said}: set its credentials, see `dvc remote modify --local {name}`"
        )
    if _is_unreachable(error):
        return TransientError(f"{name}, {address}, cannot be reached: {said}")
    return AtelierError(f"{name}, {address}, cannot be used: {said}: see its settings in .dvc/config")


def _is_refused(error: BaseException) -> bool:
    return _status(error) in (401, 403) or any(REFUSED.search(kind.__name__) for kind in type(error).__mro__)


def _is_unreachable(error: BaseException) -> bool:
    """By the error or by what caused it. A local file that is missing (a key, say) is a matter of settings."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return False
    status = _status(error)
    if isinstance(error, OSError) or (status is not None and (status >= 500 or status in (408, 429))):
        return True
    if any(UNREACHABLE.search(kind.__name__) for kind in type(error).__mro__):
        return True
    cause = error.__cause__
    return cause is not None and not _is_refused(cause) and _is_unreachable(cause)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an exception carries, wherever its library puts it."""
    response = getattr(error, "response", None)
    told = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    found = (getattr(error, key, None) for key in ("status_code", "status", "code"))
    for value in (told.get("HTTPStatusCode"), *found):
        if isinstance(value, int):
            return value
    return None


def _text(error: Exception) -> str:
    """Its message in a line; its class's name where it has none."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= MAX_TEXT else f"{said[:MAX_TEXT]}…"

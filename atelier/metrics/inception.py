"""FID and KID as papers report them, from the features of the Inception network, whose weights are not shipped.

The weights (96 MB, Apache-2.0) are downloaded into torch.hub's cache. Their full SHA-256 is compared before they are
used, also when they come from the cache or from a file that the user names, because torch-fidelity, which builds the
network, unpickles them. torch.hub's own download has no limit of size and compares eight digits.
"""

import hashlib
import io
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import numpy as np
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.metrics.distances import frechet, kid, rounded
from atelier.pictures import Pixels

NAME = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{NAME}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE_BYTES = 95_628_359
TIMEOUT_S = 30.0
ADVICE = "get that file (96 MB) where there is a network and set evaluate.inception_weights to it"
BATCH = 50  # pictures enlarged to 299 px, 54 MB


class InceptionUnavailable(AtelierError):
    """Inception's weights, or the package that builds the network, are missing on this machine."""


class Inception:
    """The Inception network of the FID paper (arXiv 1706.08500). Raises InceptionUnavailable without torch-fidelity."""

    def __init__(self, weights: bytes, device: torch.device) -> None:
        try:
            import torch_fidelity  # an extra
        except ImportError:
            remedy = "`uv pip install 'torch-fidelity>=0.4,<0.5'` (the extra `inception`)"
            raise InceptionUnavailable(f"they need torch-fidelity: {remedy}") from None
        self._device = device if device.type == "cuda" else torch.device("cpu")
        network = torch_fidelity.FeatureExtractorInceptionV3("inception", ["2048"], io.BytesIO(weights))
        self._network = network.to(self._device)

    @torch.inference_mode()
    def features(self, images: Pixels) -> Tensor:
        """Features (n, 2048), float32 on the CPU, of pictures (n, H, W, 3), which may be memory-mapped."""
        pieces = []
        for start in range(0, len(images), BATCH):
            pixels = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2)
            pieces.append(self._network(pixels.to(self._device))[0].cpu())
        return torch.cat(pieces)

    def distances(self, generated: Pixels, training: Pixels, held_out: Pixels) -> dict[str, Any]:
        """FID and KID from all training paintings, as metrics.json has them; each side has at least two pictures.

        The floor is the KID of held-out paintings. FID has none: it falls with more pictures, and they are few.
        """
        ours, theirs, unseen = (self.features(images) for images in (generated, training, held_out))
        floor = kid(unseen, theirs)
        return rounded({"fid": frechet(ours, theirs), "kid": {"value": kid(ours, theirs), "floor": floor}})


def read_inception_weights(given: Path | None) -> bytes:
    """The weights from the file `given`, or from torch's cache, into which they are downloaded if necessary."""
    if given:
        if not given.is_file():
            raise InceptionUnavailable(f"there is no file {given}: {ADVICE}")
        if (content := _verified(given)) is None:
            raise InceptionUnavailable(f"{given} is not the file {NAME}, or damaged, and was not read: {ADVICE}")
        return content
    path = Path(torch.hub.get_dir()) / "checkpoints" / NAME
    if (content := _verified(path)) is None:
        content = _download()
        try:
            write_bytes(path, content)
        except OSError as error:  # the next evaluation downloads them again
            print(f"evaluate: {path} was not kept: {error.strerror}")
    return content


def _verified(path: Path) -> bytes | None:
    if not path.is_file() or path.stat().st_size != SIZE_BYTES:
        return None
    content = path.read_bytes()
    return content if hashlib.sha256(content).hexdigest() == SHA256 else None


def _download() -> bytes:
    """The weights from URL; of an answer that is larger, no more than their size is read."""
    try:
        with build_opener(_Redirects).open(URL, timeout=TIMEOUT_S) as answer:
            announced = answer.headers.get("Content-Length", str(SIZE_BYTES))
            content: bytes = answer.read(SIZE_BYTES + 1) if announced == str(SIZE_BYTES) else b""
    except HTTPError as error:
        reason = f"it answered {error.code}"
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        reason = "no answer in time" if isinstance(cause, TimeoutError) else "no connection"
    else:
        if hashlib.sha256(content).hexdigest() == SHA256:
            return content
        reason = f"it answers with something else than {NAME}"
    raise InceptionUnavailable(f"{URL} cannot be downloaded ({reason}): {ADVICE}")


class _Redirects(HTTPRedirectHandler):
    """Follows redirects without reading what comes with them, which has no limit."""

    def redirect_request(self, request: Request, answer: IO[bytes], *others: Any) -> Request | None:
        answer.close()
        return super().redirect_request(request, answer, *others)

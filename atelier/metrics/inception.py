"""FID and KID as papers report them, on the features of Inception. Its weights are others', and not shipped.

They are 96 MB under Apache-2.0, found where torch keeps such files or asked for once, and held against their SHA-256
before they are read, because what reads them could run code. torch-fidelity builds the network.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.files import write_bytes
from atelier.metrics.distances import frechet, kid
from atelier.pictures import Pixels

NAME = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{NAME}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 95_628_359
TIMEOUT_S = 30.0
PIECE = 1 << 20
ADVICE = "get that file (96 MB) where there is a network and set evaluate.inception_weights to it"
BATCH = 50  # pictures are enlarged to 299 px: 54 MB a batch


class NotHad(AtelierError):
    """Inception cannot be had on this machine."""


@dataclass(frozen=True)
class Distances:
    """Of generated pictures to all training paintings; `kid_floor` is that of the held-out paintings.

    FID has no floor here: it falls with the number of pictures, and the held-out ones are few. KID does not.
    """

    fid: float
    kid: float
    kid_floor: float

    def to_metrics(self) -> dict[str, Any]:
        """Plain nested numbers, rounded to 6 significant digits, for metrics.json."""
        fid, value, floor = (float(f"{number:.6g}") for number in (self.fid, self.kid, self.kid_floor))
        return {"fid": fid, "kid": {"value": value, "floor": floor}}


class Inception:
    """The network of FID's paper (arXiv 1706.08500), of these weights, which `read_weights` has checked.

    Raises NotHad without torch-fidelity.
    """

    def __init__(self, weights: bytes, device: torch.device) -> None:
        try:
            import torch_fidelity
        except ImportError:
            raise NotHad("they need torch-fidelity: `pip install 'atelier-studio[inception]'`") from None
        self._device = device if device.type == "cuda" else torch.device("cpu")
        network = torch_fidelity.FeatureExtractorInceptionV3("inception", ["2048"], io.BytesIO(weights))
        self._network = network.to(self._device)

    @torch.inference_mode()
    def features(self, images: Pixels) -> Tensor:
        """Of pictures (n, H, W, 3), which may be memory-mapped: (n, 2048), float32 on the CPU."""
        pieces = []
        for start in range(0, len(images), BATCH):
            pixels = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2)
            pieces.append(self._network(pixels.to(self._device))[0].cpu())
        return torch.cat(pieces)

    def distances(self, generated: Pixels, training: Pixels, held_out: Pixels) -> Distances:
        """Each side holds at least two pictures."""
        ours, theirs, unseen = (self.features(images) for images in (generated, training, held_out))
        return Distances(frechet(ours, theirs), kid(ours, theirs), kid(unseen, theirs))


def read_weights(given: Path | None) -> bytes:
    """The weights: of the file that is given, or of torch's cache, into which they are downloaded if need be.

    Raises NotHad where that fails, or the given file is another.
    """
    if given:
        if not given.is_file():
            raise NotHad(f"there is no file {given}: {ADVICE}")
        if (content := _known(given)) is None:
            raise NotHad(f"{given} is not the file {NAME}, or damaged, and was not read: {ADVICE}")
        return content
    path = Path(torch.hub.get_dir()) / "checkpoints" / NAME
    if (content := _known(path)) is None:
        content = _download()
        _keep(path, content)
    return content


def _known(path: Path) -> bytes | None:
    """What is in the file, if that is the file that is meant."""
    if not path.is_file() or path.stat().st_size != SIZE:
        return None
    content = path.read_bytes()
    return content if hashlib.sha256(content).hexdigest() == SHA256 else None


def _download() -> bytes:
    content = bytearray()
    try:
        with requests.get(URL, stream=True, timeout=TIMEOUT_S) as answer:
            answer.raise_for_status()
            for piece in answer.iter_content(PIECE):
                content += piece
                if len(content) > SIZE:
                    break
    except requests.RequestException as error:
        raise NotHad(f"{URL} cannot be downloaded ({_reason(error)}): {ADVICE}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise NotHad(f"{URL} answers with something else than {NAME}: {ADVICE}")
    return bytes(content)


def _keep(path: Path, content: bytes) -> None:
    try:
        write_bytes(path, content)
    except OSError as error:  # the next evaluation downloads them again
        print(f"evaluate: {path} was not kept: {error.strerror}")


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"it answered {error.response.status_code}"
    return "no answer in time" if isinstance(error, requests.Timeout) else "no connection"

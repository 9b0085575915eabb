"""Models in models/ to paint with or to train on from: directories that never change, named after their content.

`models/<name>-<hash>` has generator.safetensors, model.json and, in most cases, discriminator.safetensors. The hash is
one of these files' content: the path in params.yaml, which DVC compares, identifies the weights. Imports no torch.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atelier.errors import AtelierError
from atelier.files import digest

GENERATOR_FILE = "generator.safetensors"
DISCRIMINATOR_FILE = "discriminator.safetensors"
FACTS_FILE = "model.json"
BASE_MODEL = Path("models/base-64-a307d11006225ade")  # by tools/make_base.py; its README.md is the model card
GALLERY_BASE_MODEL = Path("models/seascapes-64-8e2929f5f0563c42")  # BASE_MODEL, trained further on seascapes as well
SHIPPED_MODELS = (BASE_MODEL, GALLERY_BASE_MODEL)  # both of BASE_NETWORK, and in git
BASE_NETWORK: Mapping[str, Any] = {
    "arch": "sketch", "resolution": 64, "settings": {"nz": 100, "ngf": 24, "ndf": 24, "noise": 8},
}  # fmt: skip
HASH_DIGITS = 16
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
STORED_NAME = re.compile(rf"({MODEL_NAME.pattern})-([0-9a-f]{{{HASH_DIGITS}}})")


def start_path(init_from: str | None, network: Mapping[str, Any], source: str = "folder") -> Path | None:
    """Return the directory of the model that `train.init_from` means; None for random weights.

    `auto` is the base model of `scrape.source`, where `network` (its arch, resolution and settings) is BASE_NETWORK.
    """
    if init_from == "auto":
        base = GALLERY_BASE_MODEL if source == "gallery" else BASE_MODEL
        return base if network == BASE_NETWORK else None
    return BASE_MODEL if init_from == "base" else named_path(init_from)


def named_path(init_from: str | None) -> Path | None:
    """Return `train.init_from` as a path; None where it is "auto", "base" or None."""
    return Path(init_from) if init_from and init_from not in ("auto", "base") else None


def store_model(folder: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """Create a model directory in `folder`, call `fill` on it to write its files, and return its final path.

    If the model exists already, its path is returned. Raises AtelierError if `name` does not match MODEL_NAME, or a
    directory of the final name has other content.
    """
    if not MODEL_NAME.fullmatch(name):
        raise AtelierError(
            f"the name {name!r} does not fit: use up to 40 of a-z, 0-9, - and _, beginning with a letter or digit"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
        directory = Path(temporary) / name
        directory.mkdir()
        fill(directory)
        path = folder / f"{name}-{content_hash(directory)}"
        if not path.exists():
            directory.rename(path)
        elif content_hash(path) != content_hash(directory):
            raise AtelierError(
                f"{path} was changed and no longer matches the hash in its name: remove it and import again"
            )
    return path


def content_hash(directory: Path) -> str:
    """Return the first HASH_DIGITS hex digits of a SHA-256 over the model's files; other files do not count."""
    lines = [
        f"{name} {digest(directory / name)}\n"
        for name in (GENERATOR_FILE, DISCRIMINATOR_FILE, FACTS_FILE)
        if (directory / name).is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:HASH_DIGITS]

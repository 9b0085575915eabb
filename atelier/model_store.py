"""Models that are kept, to train on from: directories that nothing changes, named after what they hold.

`models/<name>-<hash>` holds generator.safetensors, perhaps discriminator.safetensors, and model.json. The hash is of
these files' content, so that the path in params.yaml says which weights are meant, and DVC, which sees the path, needs
to see nothing else: other weights have another name. Knows files alone, neither stages nor what networks are.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from atelier.errors import AtelierError
from atelier.files import digest

GENERATOR_FILE, DISCRIMINATOR_FILE, FACTS_FILE = (
    "generator.safetensors",
    "discriminator.safetensors",
    "model.json",
)
BASE_MODEL = Path(
    "models/base-64-a307d11006225ade"
)  # made by tools/make_base.py; its README.md is the model card
HASH_DIGITS = 16
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
STORED_NAME = re.compile(rf"({MODEL_NAME.pattern})-([0-9a-f]{{{HASH_DIGITS}}})")


def store_model(folder: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """A new model directory in `folder`, with the files that `fill` writes into the directory it is given.

    Where the same model is there already, that is it. Raises AtelierError for a name that is none.
    """
    if not MODEL_NAME.fullmatch(name):
        raise AtelierError(
            f"the name {name!r} does not fit: up to 40 of a-z, 0-9, - and _, the first no sign"
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
                f"{path} was changed, its name does not fit it any more: remove it and import again"
            )
    return path


def content_hash(directory: Path) -> str:
    """The first hex digits of a SHA-256 over a model directory's files, less what an operating system may add."""
    lines = [
        f"{name} {digest(directory / name)}\n"
        for name in (GENERATOR_FILE, DISCRIMINATOR_FILE, FACTS_FILE)
        if (directory / name).is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:HASH_DIGITS]

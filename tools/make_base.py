"""Make the base model models/base-64-<hash> from a trained one: `python tools/make_base.py data/model`.

Weights are stored as float16, which halves the files; networks compute with them as float32. Prints the new
directory's name, which goes into `BASE_MODEL` of atelier/model_store.py, and how far float16 moves a picture.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from atelier.files import digest, write_json
from atelier.model_store import DISCRIMINATOR_FILE, FACTS_FILE, GENERATOR_FILE, store_model
from atelier.networks import FORMAT, load_generator, read_model, save_weights
from atelier.networks.latent_field import render_seed

MAX_BYTES = 6_000_000  # of both networks together


def save_as_float16(source: Path, target: Path) -> None:
    """Write a copy of a model file with float16 weights. Raises ValueError where one is beyond float16's range."""
    header, tensors = read_model(source)
    half = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    if not all(value.isfinite().all() for value in half.values()):
        raise ValueError(f"{source} holds weights that float16 cannot: it is not made smaller")
    save_weights(target, half, FORMAT, {key: value for key, value in header.items() if key != "format"})


def fill(source: Path, directory: Path) -> None:
    """Write both networks and model.json of the model in `source` into `directory`, see atelier.model_store."""
    for name in (GENERATOR_FILE, DISCRIMINATOR_FILE):
        save_as_float16(source / name, directory / name)
    header, _ = read_model(directory / GENERATOR_FILE)
    facts = {key: value for key, value in header.items() if key != "format"}
    facts |= {f"{name.split('.')[0]}_sha256": digest(directory / name) for name in (GENERATOR_FILE, DISCRIMINATOR_FILE)}
    write_json(directory / FACTS_FILE, facts)


def main(source: Path, name: str) -> None:
    """Make the model directory in models/ and print its name, its size and what float16 changes.

    Raises ValueError where weights are beyond float16's range, or the files take more than MAX_BYTES.
    """
    path = store_model(Path("models"), name, lambda directory: fill(source, directory))
    size = sum((path / each).stat().st_size for each in (GENERATOR_FILE, DISCRIMINATOR_FILE))
    if size > MAX_BYTES:
        raise ValueError(f"{path} takes {size:,} bytes; a base model takes at most {MAX_BYTES:,}")
    pictures = []
    for directory in (source, path):
        generator, _ = load_generator(directory / GENERATOR_FILE)
        with torch.inference_mode():
            pictures.append(np.concatenate([*render_seed(generator, 1, 64)]).astype(int))
    moved = np.abs(pictures[0] - pictures[1])
    print(f"{path}: {size:,} bytes; float16 moves a value by {moved.mean():.3f} of 255, by {moved.max()} at most")
    print(json.dumps(json.loads((path / FACTS_FILE).read_text()).get("settings")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "base-64")

"""`python -m atelier.comparing`: two generators over one data set, and which of them is better beyond chance."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atelier.canvas import painted
from atelier.contest import Contest, contest
from atelier.dataset import PackedDataset, open_dataset
from atelier.devices import pick_device
from atelier.errors import AtelierError
from atelier.files import digest, write_json
from atelier.networks import load_generator
from atelier.progress import Progress


def compare(
    champion: Path, challenger: Path, dataset: PackedDataset, *, samples: int, seed: int, device: torch.device
) -> Contest:
    """Both paint the same seeds, and are held against the held-out paintings.

    Raises AtelierError where a model cannot be read or paints another size.
    """
    with Progress("compare", 2 * samples, "pictures") as progress:
        pictures = []
        for path in (champion, challenger):
            pieces = []
            generator, header = load_generator(path, device)
            if header["resolution"] != dataset.resolution:
                raise AtelierError(
                    f"{path} paints {header['resolution']} px, the dataset holds {dataset.resolution} px: "
                    "only models of the data's size can be compared"
                )
            for piece in painted(generator, header["settings"]["nz"], seed, samples):
                pieces.append(piece)
                progress.advance(len(piece))
            pictures.append(np.concatenate(pieces))
        return contest(pictures[0], pictures[1], dataset.held_out.images, seed=seed, device=device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Say what came of it; 0 in any case but a mistake, which is 1 with a sentence."""
    parser = argparse.ArgumentParser(prog="atelier.comparing")
    parser.add_argument("champion", type=Path)
    parser.add_argument("challenger", type=Path)
    parser.add_argument("--dataset", type=Path, default=Path("data/dataset"))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="a file for the result")
    given = parser.parse_args(arguments)
    try:
        device, _ = pick_device(given.device)
        result = compare(
            given.champion,
            given.challenger,
            open_dataset(given.dataset),
            samples=given.samples,
            seed=given.seed,
            device=device,
        )
        if given.json:
            models = {"champion": digest(given.champion), "challenger": digest(given.challenger)}
            write_json(
                given.json,
                {**_rounded(asdict(result)), "wins": result.wins, "reason": result.reason, "sha256": models},
            )
    except AtelierError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    print(result.reason)
    print(
        f"{given.challenger} is better than {given.champion}, beyond chance"
        if result.wins
        else f"{given.champion} stays: {given.challenger} is not better beyond chance"
    )


def _rounded(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _rounded(value) if isinstance(value, dict) else float(f"{value:.6g}")
        for name, value in tree.items()
    }


if __name__ == "__main__":
    main()

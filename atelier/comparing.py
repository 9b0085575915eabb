"""`python -m atelier.comparing`: compare two generators on one data set, and say which is better beyond chance."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atelier.canvas.rendering import Pixels, painted
from atelier.contest import MEANING, Contest, contest
from atelier.dataset import PackedDataset, open_dataset
from atelier.devices import deterministic
from atelier.ending import with_words
from atelier.errors import AtelierError
from atelier.files import digest, write_json
from atelier.metrics.features import Features, Seen, Space
from atelier.networks import load_generator
from atelier.pictures.panels import Panel, write_panels
from atelier.pictures.sheets import grid
from atelier.progress import Progress

SPACE_PAINTINGS = 240  # training paintings that set the scale of the features
AT_ONCE = 100  # pictures between two reports of progress


def paint_both(
    champion: Path, challenger: Path, dataset: PackedDataset, *, samples: int, seed: int, device: torch.device
) -> tuple[Pixels, Pixels]:
    """Paint `samples` pictures (n, H, W, 3) with each model, both from the same latents.

    Raises AtelierError if a model cannot be read or paints another size.
    """
    pictures = []
    with Progress("compare", 2 * samples, "pictures") as progress:
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
    return pictures[0], pictures[1]


def features_of(
    pictures: tuple[Pixels, Pixels], dataset: PackedDataset, device: torch.device, seed: int
) -> tuple[Seen, Seen, Seen]:
    """Compute the features of both models' pictures and of the held-out paintings, in the training paintings' space."""
    network = Features(device)
    training, held_out = dataset.train.images, dataset.held_out.images
    sample = np.sort(np.random.default_rng(seed).permutation(len(training))[:SPACE_PAINTINGS])
    sets = [training[sample], *pictures, held_out]
    features = []
    with Progress("compare", sum(map(len, sets)), "pictures seen") as progress:
        for images in sets:
            sharp, coarse = [], []
            for start in range(0, len(images), AT_ONCE):
                piece = images[start : start + AT_ONCE]
                sharp.append(network(piece))
                coarse.append(network(piece, coarse=True))
                progress.advance(len(piece))
            features.append((torch.cat(sharp), torch.cat(coarse)))
    space = Space(*features[0])
    champion, challenger, real = (space(*both) for both in features[1:])
    return champion, challenger, real


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare two models and print the result; exit with 1 and a sentence for a mistake, else 0."""
    given = _given(arguments)
    if status := with_words(lambda: _compared(given), ""):
        sys.exit(status)


def _compared(given: argparse.Namespace) -> int:
    device, _ = deterministic(given.device)  # a promotion depends on it
    dataset = open_dataset(given.dataset)
    pictures = paint_both(
        given.champion, given.challenger, dataset, samples=given.samples, seed=given.seed, device=device
    )
    result = contest(
        *features_of(pictures, dataset, device, given.seed),
        confidence=given.confidence,
        seed=given.seed,
    )
    if given.json:
        models = {"champion": digest(given.champion), "challenger": digest(given.challenger)}
        write_json(given.json, {**_rounded(result.to_json()), "sha256": models})
    if given.sheet:
        write_panels(given.sheet, f"The same seeds: {outcome(result)}", side_by_side(result, pictures), 2)
    print(f"{MEANING}\n\n{result.reason}")
    print(
        f"{given.challenger} is better than {given.champion}, beyond chance"
        if result.wins
        else f"{given.champion} stays: {given.challenger} is not better beyond chance"
    )
    return 0


def outcome(result: Contest) -> str:
    """A short sentence that names the winner."""
    return "the challenger is better" if result.wins else "the champion stays"


def side_by_side(result: Contest, pictures: tuple[Pixels, Pixels]) -> list[Panel]:
    """A panel for each model: its first pictures, with its distances from the paintings above them."""
    return [
        Panel(
            name,
            tuple(
                f"{distance} {getattr(gain, name):.4g}{f', {gain.verdict}' if name == 'challenger' else ''}"
                for distance, gain in result.gains.items()
            ),
            grid(painted_by),
        )
        for name, painted_by in zip(("champion", "challenger"), pictures, strict=True)
    ]


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.comparing")
    parser.add_argument("champion", type=Path)
    parser.add_argument("challenger", type=Path)
    parser.add_argument("--dataset", type=Path, default=Path("data/dataset"))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--confidence", type=_share, default=0.95, help="share of resamplings that must agree"
    )
    parser.add_argument("--json", type=Path, help="a file for the result")
    parser.add_argument("--sheet", type=Path, help="a PNG for pictures of both, side by side")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    if not 0 < (share := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1")
    return share


def _rounded(value: Any) -> Any:
    """The same tree with its floats rounded to 6 significant digits."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()

"""`python -m atelier.metrics.compare`: say which of two generators is better on one data set, beyond chance."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.data.dataset import PackedDataset, open_dataset
from atelier.device import pick_deterministic_device
from atelier.errors import AtelierError, run_for_exit_code
from atelier.files import digest, write_json
from atelier.metrics.bootstrap import MEANING, Contest, contest
from atelier.metrics.distances import kid
from atelier.metrics.features import Features, Seen, Space
from atelier.metrics.panel import BLURS_PX, kid_in_words
from atelier.networks import load_generator
from atelier.networks.latent_field import render_seed
from atelier.pictures import Pixels
from atelier.pictures.blur import blurred_pictures
from atelier.pictures.sheets import Panel, grid, write_panels
from atelier.progress import Progress

SPACE_PAINTINGS = 240  # training paintings that set the scale of the features
MOST_BLURRED = 60  # training paintings behind each blur that the pictures are compared with
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
            for piece in render_seed(generator, seed, samples):
                pieces.append(piece)
                progress.advance(len(piece))
            pictures.append(np.concatenate(pieces))
    return pictures[0], pictures[1]


@dataclass(frozen=True)
class Compared:
    """Features of both models' pictures and of the held-out paintings, in the training paintings' space.

    `floor` is the kid of training paintings, `of_blurred` that of training paintings by the sigma in px of their blur.
    """

    champion: Seen
    challenger: Seen
    held_out: Seen
    floor: float
    of_blurred: dict[float, float]

    def in_words(self, value: float) -> str:
        """Say how far off a kid is."""
        return kid_in_words(value, self.floor, 0.0, self.of_blurred)


def compare(
    pictures: tuple[Pixels, Pixels], dataset: PackedDataset, device: torch.device, seed: int
) -> Compared:
    """Compute the features of the two models' pictures and of paintings, with a progress bar."""
    network = Features(device)
    training, held_out = dataset.train.images, dataset.held_out.images
    sample = training[np.sort(np.random.default_rng(seed).permutation(len(training))[:SPACE_PAINTINGS])]
    soft = {sigma_px: blurred_pictures(sample[:MOST_BLURRED], sigma_px) for sigma_px in BLURS_PX.values()}
    sets = [sample, *pictures, held_out]
    with Progress("compare", sum(map(len, sets)), "pictures seen") as progress:
        features = [_both_features(images, network, progress) for images in sets]
    space = Space(*features[0])
    known, champion, challenger, real = (space(*both) for both in features)
    of_blurred = {}
    for sigma_px, images in soft.items():
        sharp = network(images)
        of_blurred[sigma_px] = kid(
            space(sharp, sharp).sharp, real.sharp
        )  # coarse features do not matter here
    return Compared(champion, challenger, real, kid(known.sharp, real.sharp), of_blurred)


def _both_features(images: Pixels, network: Features, progress: Progress) -> tuple[Tensor, Tensor]:
    sharp, coarse = [], []
    for start in range(0, len(images), AT_ONCE):
        piece = images[start : start + AT_ONCE]
        sharp.append(network(piece))
        coarse.append(network(piece, coarse=True))
        progress.advance(len(piece))
    return torch.cat(sharp), torch.cat(coarse)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare two models and print the result; exit with 1 and a sentence for a mistake, else 0."""
    given = _given(arguments)
    if status := run_for_exit_code(lambda: _compared(given), ""):
        sys.exit(status)


def _compared(given: argparse.Namespace) -> int:
    device, _ = pick_deterministic_device(given.device)  # a promotion depends on it
    dataset = open_dataset(given.dataset)
    pictures = paint_both(
        given.champion, given.challenger, dataset, samples=given.samples, seed=given.seed, device=device
    )
    compared = compare(pictures, dataset, device, given.seed)
    result = contest(
        compared.champion,
        compared.challenger,
        compared.held_out,
        confidence=given.confidence,
        seed=given.seed,
    )
    if given.json:
        models = {"champion": digest(given.champion), "challenger": digest(given.challenger)}
        write_json(given.json, {**_rounded(result.to_json()), "sha256": models})
    if given.sheet:
        write_panels(given.sheet, f"The same seeds: {outcome(result)}", side_by_side(result, pictures), 2)
    print(
        f"{MEANING}\n\n"
        f"{given.champion}, by kid, is {compared.in_words(result.kid.champion)}\n"
        f"{given.challenger}, by kid, is {compared.in_words(result.kid.challenger)}\n"
        f"{result.reason}"
    )
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
    parser = argparse.ArgumentParser(prog="atelier.metrics.compare")
    parser.add_argument("champion", type=Path)
    parser.add_argument("challenger", type=Path)
    parser.add_argument("--dataset", type=Path, default=Path("data/dataset"))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--confidence", type=_share, default=0.95, help="how sure the verdict must be, from 0 to 1"
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

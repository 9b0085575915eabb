"""`python -m atelier.metrics.compare CHAMPION CHALLENGER`: which of two generators is better on one data set.

Both paint from the same latents, and both are compared with the same held-out paintings by two distances, `kid` and
`kid_coarse`. A paired bootstrap (Efron and Tibshirani 1993, chapter 16) gives the interval of each gain: every round
resamples latents and paintings with replacement, the same ones for both models and both distances. By Bonferroni's
rule each interval is wider than the requested confidence: both hold together with it. The nightly flow runs this as a
process of its own, because it needs torch.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atelier.data.dataset import PackedDataset, open_dataset
from atelier.device import pick_deterministic_device
from atelier.errors import AtelierError, counted, run_for_exit_code
from atelier.files import digest, write_json
from atelier.metrics.comparison import MEANING, Comparison, Gain
from atelier.metrics.distances import kernel, kid, random_rows, rounded
from atelier.metrics.features import FeatureExtractor, FeatureSet, FeatureSpace, judge_for
from atelier.metrics.panel import BLURS_PX, kid_in_words, paint_samples
from atelier.networks import read_model
from atelier.networks.efficientnet import LITE0, LiteVariant
from atelier.paths import DATASET
from atelier.pictures import Pixels
from atelier.pictures.filters import blur_pictures
from atelier.pictures.sheets import Panel, grid, write_panels
from atelier.progress import Progress

ROUNDS = 2000
MIN_PICTURES = 10  # on each side; a bootstrap of fewer is not reliable
SPACE_PAINTINGS = 240  # training paintings that set the scale of the features
MAX_BLURRED = 60  # training paintings behind each blur that the pictures are compared with
PICTURES_AT_ONCE = 100  # between two reports of progress


def paired_bootstrap(
    champion: FeatureSet, challenger: FeatureSet, held_out: FeatureSet, *, confidence: float, seed: int
) -> Comparison:
    """Compare the features of pictures by two generators, painted from the same latents in the same order.

    `confidence` is the probability that both intervals contain the true gain; `seed` draws the resamplings.
    Raises AtelierError if a side has fewer than ten pictures.
    """
    pictures, paintings = len(champion), len(held_out)
    if pictures != len(challenger):
        raise ValueError(f"{pictures} and {len(challenger)} pictures are not of the same latents")
    if min(pictures, paintings) < MIN_PICTURES:
        raise AtelierError(
            f"comparing two models takes {MIN_PICTURES} generated pictures and {MIN_PICTURES} held-out paintings; "
            f"there are {counted(pictures, 'picture')} and {counted(paintings, 'painting')}: "
            "raise augment.held_out, or use more paintings"
        )
    random = np.random.default_rng(seed)
    of_pictures, of_paintings = _counts(pictures, random), _counts(paintings, random)
    each = (1 + confidence) / 2  # the confidence of each interval, so that both hold together with `confidence`

    def kids(generated: Tensor, real: Tensor) -> Tensor:
        """The KID of each round, from features (n, F)."""
        across = ((of_pictures @ kernel(generated, real)) * of_paintings).sum(1) / (pictures * paintings)
        return _mean_kernel(generated, of_pictures) + _mean_kernel(real, of_paintings) - 2 * across

    def gain(champion: Tensor, challenger: Tensor, held_out: Tensor) -> Gain:
        first, second = kids(champion, held_out), kids(challenger, held_out)
        low, high = np.quantile((first - second)[1:].numpy(), [(1 - each) / 2, (1 + each) / 2])
        return Gain(float(first[0]), float(second[0]), float(low), float(high))

    return Comparison(
        kid=gain(champion.sharp, challenger.sharp, held_out.sharp),
        kid_coarse=gain(champion.coarse, challenger.coarse, held_out.coarse),
        confidence=confidence,
    )


def _counts(size: int, random: np.random.Generator) -> Tensor:
    """How often each of `size` items is drawn in each round, (1 + ROUNDS, size); the first round is the data."""
    drawn = random.multinomial(size, np.full(size, 1 / size), ROUNDS)
    return torch.from_numpy(np.concatenate([np.ones((1, size), np.int64), drawn])).double()


def _mean_kernel(features: Tensor, counts: Tensor) -> Tensor:
    """The mean kernel between different pictures in each round; two copies of one picture are not a pair."""
    pairs = kernel(features, features).fill_diagonal_(0)
    squares = counts.square().sum(1)
    return ((counts @ pairs) * counts).sum(1) / (counts.sum(1).square() - squares)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare two models and print the result; exit with 1 and a sentence for a mistake, else 0."""
    options = _options(arguments)
    if status := run_for_exit_code(lambda: _compare(options), ""):
        sys.exit(status)


def _compare(options: argparse.Namespace) -> int:
    device, _ = pick_deterministic_device(options.device)  # a promotion depends on the result
    dataset = open_dataset(options.dataset)
    with Progress("compare", 2 * options.samples, "pictures") as progress:
        first, second = (
            paint_samples(model, dataset, options.samples, options.seed, device, progress)  # of the same latents
            for model in (options.champion, options.challenger)
        )
    pictures = (first, second)
    judge = judge_for(*(read_model(model)[0] for model in (options.champion, options.challenger)))
    features, in_words = extract_features(pictures, dataset, device, options.seed, judge)
    result = paired_bootstrap(*features, confidence=options.confidence, seed=options.seed)
    if judge != LITE0:
        print(f"Judged by the features {judge.version}, because a model was trained by those of {LITE0.version}.")
    if options.json:
        sha256 = {"champion": digest(options.champion), "challenger": digest(options.challenger)}
        write_json(options.json, {**rounded(result.to_json()), "sha256": sha256, "features": judge.version})
    if options.sheet:
        winner = "the challenger is better" if result.wins else "the champion stays"
        write_panels(options.sheet, f"The same seeds: {winner}", side_by_side(result, pictures), columns=2)
    stays = f"{options.champion} stays: {options.challenger} is not better beyond chance"
    print(
        f"{MEANING}\n\n"
        f"{options.champion}, by kid, is {in_words(result.kid.champion)}\n"
        f"{options.challenger}, by kid, is {in_words(result.kid.challenger)}\n"
        f"{result.reason}"
    )
    print(f"{options.challenger} is better than {options.champion}, beyond chance" if result.wins else stays)
    return 0


def extract_features(
    pictures: tuple[Pixels, Pixels], dataset: PackedDataset, device: torch.device, seed: int,
    judge: LiteVariant = LITE0,
) -> tuple[list[FeatureSet], Callable[[float], str]]:  # fmt: skip
    """Compute the features of both models' pictures and of held-out paintings, in the training paintings' space.

    The function that is returned with them describes a kid by the blur of training paintings that score the same.
    """
    network = FeatureExtractor(device, judge)
    training, held_out = dataset.train.images, dataset.held_out.images
    sample = training[random_rows(np.random.default_rng(seed), len(training), SPACE_PAINTINGS)]
    sets = [sample, *pictures, held_out]
    with Progress("compare", sum(map(len, sets)), "pictures measured") as progress:
        features = [_sharp_and_coarse(images, network, progress) for images in sets]
    space = FeatureSpace(*features[0])
    paintings, *compared = (space(*both) for both in features)
    real = compared[-1]
    of_blurred = {}
    for sigma_px in BLURS_PX.values():
        sharp = network(blur_pictures(sample[:MAX_BLURRED], sigma_px))
        of_blurred[sigma_px] = kid(space(sharp, sharp).sharp, real.sharp)  # its coarse features are not used
    floor = kid(paintings.sharp, real.sharp)
    return compared, lambda value: kid_in_words(value, floor, 0.0, of_blurred)


def _sharp_and_coarse(images: Pixels, network: FeatureExtractor, progress: Progress) -> tuple[Tensor, Tensor]:
    pieces = []
    for start in range(0, len(images), PICTURES_AT_ONCE):
        piece = images[start : start + PICTURES_AT_ONCE]
        pieces.append(network.sharp_and_coarse(piece))
        progress.advance(len(piece))
    sharp, coarse = zip(*pieces, strict=True)
    return torch.cat(sharp), torch.cat(coarse)


def side_by_side(result: Comparison, pictures: tuple[Pixels, Pixels]) -> list[Panel]:
    """A panel for each model: its first pictures, with its distances from the paintings above them."""
    before = tuple(f"{name} {gain.champion:.4g}" for name, gain in result.gains.items())
    after = tuple(f"{name} {gain.challenger:.4g}, {gain.verdict}" for name, gain in result.gains.items())
    return [Panel("champion", before, grid(pictures[0])), Panel("challenger", after, grid(pictures[1]))]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="atelier.metrics.compare")
    parser.add_argument("champion", type=Path)
    parser.add_argument("challenger", type=Path)
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--confidence", type=_share, default=0.95, help="confidence of the result, between 0 and 1")
    parser.add_argument("--json", type=Path, help="a file for the result")
    parser.add_argument("--sheet", type=Path, help="a PNG for pictures of both, side by side")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    if not 0 < (share := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


if __name__ == "__main__":
    main()

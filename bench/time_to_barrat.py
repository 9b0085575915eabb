"""Measure after how many seconds a training is better than art-DCGAN's recipe of 2018 ever gets.

    python bench/time_to_barrat.py DATASET --out FOLDER [--seconds 600] [--challengers "from nothing"] [--seeds 5]

DATASET is a folder as the stage augment writes it. All recipes train on the same paintings for `--seconds` of an idle
thread, or of the GPU: images times the seconds of one image, which are measured once, in turns. So other work on the
machine changes no training's length, and all seeds of a recipe see equally many images.

The recipe of 2018 is robbiebarrat/art-DCGAN's main.lua: batch 64, Adam with a rate of 2e-4 and β1 of .5, mirror images,
no augmentation, no average of weights, a generator of width 160 and a discriminator of 40 at 128 px. `--widths` are
32/16 by default, which one thread trains seven times as fast as 64/64, the widths of dcgan.torch for 64 px; 32/8 are
too narrow (RESULTS.md). Atelier's own step trains it, which is faster than the code of 2018. At its best is, for each
seed and measure, the snapshot with the lowest value.

Pictures are judged by features of EfficientNet-Lite1, which train no network and chose no setting: KID of 600 pictures
against the training paintings, sharp, and coarse (both sides blurred by σ = 1 px), since KID alone rewards noise. A
challenger is better from the first snapshot at which, and at all later ones, all its seeds are below all seeds of the
recipe at its best, by both measures. By chance that has a probability of 1 in 252 for five seeds at any one snapshot.

FOLDER keeps race.json, with the curve of each training that has ended, and sheets. The same command goes on with what
is missing; `--at-most N` stops after N trainings. Rows appear once all trainings of a challenger are there.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from trials import PICTURES, RECIPES, SEED, SHOWN, column, prepared, recipe_names, seen, timers

from atelier.data.dataset import PackedDataset, open_dataset
from atelier.device import keep_freed_memory, pick_deterministic_device
from atelier.files import digest, write_json
from atelier.metrics.distances import kid
from atelier.metrics.features import FeatureExtractor, Reference
from atelier.networks.efficientnet import LITE1
from atelier.networks.latent_field import render_seed
from atelier.pictures import Pixels
from atelier.pictures.sheets import write_sheet
from atelier.training.trainer import Trainer

BARRAT = "art-DCGAN"
SNAPSHOTS_AT = [2 ** (-step / 2) for step in reversed(range(9))]  # shares of the seconds
MEASURES = ("kid", "kid_coarse")
ROUNDS = 9  # times that each recipe has its turn

Settings = Mapping[str, Any]


def main() -> None:
    """Train what is missing, and print a row for each challenger that is complete."""
    torch.set_num_threads(1)
    keep_freed_memory()
    given = _given()
    device, _ = pick_deterministic_device(given.device)
    dataset = open_dataset(given.dataset)
    recipes = {BARRAT: _barrat(*given.widths), **{name: RECIPES[name] for name in given.challengers}}
    race = Race(given.out, dataset, device, given.dataset, given.seconds, recipes)
    missing = [(name, seed) for seed in range(given.seeds) for name in recipes if not race.curve(name, seed)]
    now = missing if given.at_most is None else missing[: given.at_most]
    for name, seed in now:
        race.train(name, seed)
    left = len(missing) - len(now)
    print(f"{left} of {len(recipes) * given.seeds} trainings are missing", file=sys.stderr)
    print(HEADER)
    for name in given.challengers:
        curves = [[race.curve(recipe, seed) for seed in range(given.seeds)] for recipe in (BARRAT, name)]
        if all(map(all, curves)):
            print(row(name, *curves))


class Race:
    """The trainings of some recipes for equal seconds, and race.json in `folder`, which has the results."""

    def __init__(
        self, folder: Path, dataset: PackedDataset, device: torch.device, data: Path, seconds: float,
        recipes: Mapping[str, Settings],
    ) -> None:  # fmt: skip
        self._dataset, self._device, self._seconds, self._recipes = dataset, device, seconds, recipes
        self._folder, self._path, self._judge = folder, folder / "race.json", None
        folder.mkdir(parents=True, exist_ok=True)
        terms = {
            "dataset_sha256": digest(data / "images.npy"), "device": device.type, "seconds": seconds,
            "snapshots_at": SNAPSHOTS_AT, "pictures": PICTURES,
        }  # fmt: skip
        self._kept = json.loads(self._path.read_bytes()) if self._path.exists() else {**terms, "recipes": {}}
        if changed := sorted(key for key in terms if self._kept[key] != terms[key]):
            sys.exit(f"{self._path} is of a race with other {', '.join(changed)}: choose another --out")
        for name, settings in recipes.items():
            found = self._kept["recipes"].setdefault(name, {"settings": settings, "cost": None, "curves": {}})
            if found["settings"] != json.loads(json.dumps(settings)):
                sys.exit(f"{self._path} has {name} with other settings: choose another --out")

    def curve(self, name: str, seed: int) -> list[dict[str, float]]:
        """The snapshots of a training that has ended; none otherwise."""
        found: list[dict[str, float]] = self._kept["recipes"][name]["curves"].get(str(seed), [])
        return found

    def train(self, name: str, seed: int) -> None:
        """Train one seed of a recipe, judge each snapshot, and add its curve to race.json."""
        warm_s, later_s = self._cost(name)
        dataset = seen(self._dataset, name)
        plan, start = prepared(dataset, self._recipes[name], seed, self._device)
        images = self._seconds / (plan.warm_start * warm_s + (1 - plan.warm_start) * later_s)
        plan = replace(plan, images=max(math.floor(images / plan.batch), 1) * plan.batch)

        def seconds_of(steps: int) -> float:
            warm = min(steps, plan.warm_steps)
            return plan.batch * (warm * warm_s + (steps - warm) * later_s)

        curve: list[dict[str, float]] = []
        with tempfile.TemporaryDirectory() as states:
            trainer = Trainer(plan, dataset, self._device, Path(states), start)
            while trainer.images_seen < plan.images:
                trainer.advance()
                ended = trainer.images_seen >= plan.images
                share = SNAPSHOTS_AT[min(len(curve), len(SNAPSHOTS_AT) - 1)]
                if ended or (share < 1 and seconds_of(trainer.step) >= share * self._seconds):
                    pictures = np.concatenate([*render_seed(trainer.averaged_generator(), SEED, PICTURES)])
                    snapshot = {"kimg": trainer.kimg, "seconds": seconds_of(trainer.step), **self._scores(pictures)}
                    curve.append(snapshot)
                    sheet = f"{name.replace(' ', '-')}-{seed}-{round(snapshot['seconds']):04}.png"
                    write_sheet(self._folder / sheet, pictures[:SHOWN])
                    scores = ", ".join(f"{key} {value:.4g}" for key, value in snapshot.items())
                    print(f"{name}, seed {seed}: {scores}", file=sys.stderr, flush=True)
        self._kept["recipes"][name]["curves"][str(seed)] = curve
        write_json(self._path, self._kept)

    def _scores(self, pictures: Pixels) -> dict[str, float]:
        self._judge = self._judge or Judge(np.array(self._dataset.train.images), self._device)
        return self._judge.scores(pictures)

    def _cost(self, name: str) -> tuple[float, float]:
        """Seconds an image of an idle device, in the warm start and after it.

        The recipe of 2018 takes the least of several measurements; the others as many times that as they took longer
        than it in turns, the median of them.
        """
        recipe = self._kept["recipes"][name]
        if recipe["cost"] is None:
            timed = {
                each: [timer for _, timer in timers(seen(self._dataset, each), self._recipes[each], self._device)]
                for each in {BARRAT, name}
            }
            rounds = [{each: [timer() for timer in found] for each, found in timed.items()} for _ in range(ROUNDS)]
            barrat = self._kept["recipes"][BARRAT]
            if barrat["cost"] is None:
                least = min(one[BARRAT][-1] for one in rounds)
                barrat["cost"] = [least, least]
            if name != BARRAT:
                kinds = range(len(timed[name]))
                ratios = [statistics.median(one[name][kind] / one[BARRAT][-1] for one in rounds) for kind in kinds]
                recipe["cost"] = [ratios[0] * barrat["cost"][-1], ratios[-1] * barrat["cost"][-1]]
            write_json(self._path, self._kept)
        warm_s, later_s = recipe["cost"]
        return warm_s, later_s


class Judge:
    """Compares pictures with the paintings (n, H, W, 3) by the features of EfficientNet-Lite1."""

    def __init__(self, paintings: Pixels, device: torch.device) -> None:
        self._features = FeatureExtractor(device, LITE1)
        self._paintings = [(Reference.of(found), found) for found in self._features.sharp_and_coarse(paintings)]

    def scores(self, pictures: Pixels) -> dict[str, float]:
        """The KID of the pictures, and that after a blur."""
        found = zip(MEASURES, self._features.sharp_and_coarse(pictures), self._paintings, strict=True)
        return {
            name: kid(reference.standardise(features), reference.standardise(paintings))
            for name, features, (reference, paintings) in found
        }


Curves = Sequence[Sequence[Mapping[str, float]]]  # of each seed: its snapshots
HEADER = (
    "| challenger | better after | its KID and coarse KID then | and at the end "
    "| art-DCGAN's at its best | after | times sooner |\n" + "|---" * 7 + "|"
)


def row(name: str, barrat: Curves, challenger: Curves) -> str:
    """The table's row: means over the seeds, and ranges."""
    bests = [best(barrat, measure) for measure in MEASURES]
    reached_s = statistics.mean(snapshot["seconds"] for found in bests for snapshot in found)
    of_barrat = "; ".join(
        column([snapshot[measure] for snapshot in found]) for measure, found in zip(MEASURES, bests, strict=True)
    )
    at_end = _scores_at(challenger, -1)
    if (index := better_from(barrat, challenger)) is None:
        never = f"not within {challenger[0][-1]['seconds']:.0f} s"
        return f"| {name} | {never} | | {at_end} | {of_barrat} | {reached_s:.0f} s | |"
    first = challenger[0][index]
    after = f"{'' if index else 'at most '}{first['seconds']:.3g} s ({first['kimg']:.3g} kimg)"  # 0: none was earlier
    return (
        f"| {name} | {after} | {_scores_at(challenger, index)} | {at_end} "
        f"| {of_barrat} | {reached_s:.0f} s | {reached_s / first['seconds']:.1f} |"
    )


def better_from(barrat: Curves, challenger: Curves) -> int | None:
    """The snapshot from which on all seeds of the challenger are below all of the other's best, by each measure."""
    limits = {measure: min(snapshot[measure] for snapshot in best(barrat, measure)) for measure in MEASURES}
    better = [
        all(snapshot[measure] < limits[measure] for snapshot in snapshots for measure in MEASURES)
        for snapshots in zip(*challenger, strict=True)
    ]
    first = len(better) - better[::-1].index(False) if False in better else 0
    return first if first < len(better) else None


def best(curves: Curves, measure: str) -> list[Mapping[str, float]]:
    """Each seed's snapshot with the lowest value."""
    return [min(curve, key=lambda snapshot: snapshot[measure]) for curve in curves]


def _scores_at(curves: Curves, index: int) -> str:
    return "; ".join(column([curve[index][measure] for curve in curves]) for measure in MEASURES)


def _barrat(ngf: int, ndf: int) -> dict[str, Any]:
    """The settings of `train` for the recipe of 2018, with these widths."""
    return {
        "arch": "dcgan", "dcgan": {"nz": 100, "ngf": ngf, "ndf": ndf}, "init_from": None, "batch": 64,
        "optimizer": "adam", "lr": 2e-4, "lr_discriminator": None, "lr_decay": 0.0, "beta1": 0.5, "beta2": 0.999,
        "loss": "nonsaturating", "ema": 0.0, "augment": [], "augment_probability": 0.0, "warm_start": 0.0,
    }  # fmt: skip


def _widths(text: str) -> tuple[int, int]:
    ngf, _, ndf = text.partition("/")
    return int(ngf), int(ndf)


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/time_to_barrat.py")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder for race.json and the sheets")
    parser.add_argument("--seconds", type=float, default=600, help="length of every training, on an idle device")
    parser.add_argument(
        "--challengers", type=recipe_names, default=["from nothing"],
        help=f"some of, with commas between: {', '.join(RECIPES)}",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--widths", type=_widths, default=(32, 16), help="of the recipe of 2018; 160/40 on a GPU")
    parser.add_argument("--device", default="cpu", help="cpu, one thread, or cuda")
    parser.add_argument("--at-most", type=int, help="so many trainings in this run")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""The upscaler's gain over Lanczos on held-out paintings, after ten minutes of training on two CPU cores.

    python bench/upscaler.py [--paintings ../shared/paintings] [--folds 4] [--only 0] [--scale 2 4] [--larger]

The 30 largest paintings of the folder (WikiArt's own are smaller) are cut into folds, near-duplicates in one. Each
network is trained on all other paintings of the folder without near-duplicates of held-out ones (--larger: on the other
folds only); a line is printed for every held-out painting. ×4 is measured twice: by two passes of the network for ×2,
as prints are made by default, and by a network of that scale. Finished networks in the scratch folder are measured
again without training; a stopped training goes on.
"""

import argparse
import csv
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from atelier.data.duplicates import Picture, group_near_duplicates
from atelier.device import keep_freed_memory, pick_deterministic_device
from atelier.images.verify import ImageLimits, Verified, verify
from atelier.pictures import Pixels
from atelier.progress import Progress
from atelier.settings.schema import TrainUpscaler
from atelier.upscaling.data import reduce_painting
from atelier.upscaling.network import SRVGGNetCompact, enlarge, enlarge_lanczos
from atelier.upscaling.train import UpscalerTrainer, crop_to_multiple, psnr_y, shrink_bicubic
from tasks.states import key_of

LARGER = 30
# less than ten minutes of two idle cores with AVX-512
CONFIGS = {
    2: TrainUpscaler(scale=2, steps=9000, features=48, blocks=8, patch_px=32, batch=8, lr=1e-3, blur_px=0.5, seed=0),
    4: TrainUpscaler(scale=4, steps=7500, features=48, blocks=8, patch_px=32, batch=8, lr=1e-3, blur_px=0.5, seed=0),
}
SCALES_BY_NETWORK = {
    2: (2, 4),
    4: (4,),
}  # by a network's scale: at twice its own in two passes, as prints are made


@dataclass(frozen=True)
class Painting:
    """A painting's file and size, its title, and its pixels, reduced as stage train_upscaler does."""

    known: Picture
    title: str
    pixels: Pixels


def main() -> None:
    """Train and measure; print a line for each painting, then the means of each fold and of all."""
    options = _options()
    torch.set_num_threads(options.threads)
    pick_deterministic_device("cpu")
    keep_freed_memory()
    for own_scale in options.scale:
        config = CONFIGS[own_scale].model_copy(update={"steps": options.steps or CONFIGS[own_scale].steps})
        paintings = read(options.paintings, config.patch_px * own_scale)
        gains: dict[str, list[float]] = {}
        for fold in options.only if options.only is not None else range(options.folds):
            train, held_out = split(paintings, options.folds, fold, options.larger)
            print(
                f"upscaler  fold {fold}: {len(train):,} paintings to learn from, {len(held_out)} held out",
                flush=True,
            )
            network = trained(config, [painting.pixels for painting in train], options.scratch)
            for scale in SCALES_BY_NETWORK[own_scale]:
                name = f"x{scale}, {'one pass' if scale == own_scale else 'two passes'}"
                found = list(gains_of(network, held_out, scale))
                for title, gain in found:
                    print(f"upscaler  {name:14}  {gain:+.2f} dB  {title}", flush=True)
                _print_summary(f"{name}, fold {fold}", [gain for _, gain in found])
                gains.setdefault(name, []).extend(gain for _, gain in found)
        for name, all_gains in gains.items():
            _print_summary(name, all_gains)


def read(folder: Path, smallest_px: int) -> list[Painting]:
    """Read the paintings of the folder's catalog that are large enough to train on, the largest first."""
    with (folder / "catalog.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows.sort(key=lambda row: (-int(row["width"]) * int(row["height"]), row["file"]))
    paintings = []
    for row in rows:
        verdict = verify((folder / row["file"]).read_bytes(), ImageLimits(64, 10**9))
        assert isinstance(verdict, Verified) and verdict.image, row["file"]
        known = Picture(row["file"], verdict.width, verdict.height, verdict.phash)
        if min(known.width, known.height) >= smallest_px:
            paintings.append(Painting(known, row["title"], reduce_painting(verdict.image, smallest_px)))
    return paintings


def split(
    paintings: Sequence[Painting], folds: int, fold: int, larger_alone: bool
) -> tuple[list[Painting], list[Painting]]:
    """Split paintings into training and held-out ones; near-duplicates of held-out paintings are in neither."""
    larger = {painting.known.id for painting in paintings[:LARGER]}
    motifs = group_near_duplicates([painting.known for painting in paintings])
    motifs.sort(key=lambda family: hashlib.sha256(family[0].id.encode()).digest())
    ours = [family for family in motifs if any(known.id in larger for known in family)]
    seen = {known.id for family in ours[fold::folds] for known in family}
    train = [p for p in paintings if p.known.id not in seen and (not larger_alone or p.known.id in larger)]
    return train, [p for p in paintings if p.known.id in seen & larger]


def trained(config: TrainUpscaler, pictures: list[Pixels], scratch: Path) -> SRVGGNetCompact:
    """Train a network, or load it from the scratch folder; print the time that its training took."""
    content = hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()
    facts = {**config.model_dump(exclude={"paintings", "device"}), "pictures": content}
    state = scratch / key_of(facts) / "state.safetensors"
    state.parent.mkdir(parents=True, exist_ok=True)
    took = state.with_name("took.json")
    trainer = UpscalerTrainer(config, pictures, torch.device("cpu"), state)
    trainer.resume()
    wall_s, cpu_s = json.loads(took.read_text()) if took.exists() else (0.0, 0.0)
    if trainer.step < config.steps:
        began = time.perf_counter(), time.process_time()
        with Progress(f"x{config.scale}", config.steps, "steps", start=trainer.step) as progress:
            trainer.train(progress)
        wall_s += time.perf_counter() - began[0]
        cpu_s += time.process_time() - began[1]
        took.write_text(json.dumps([wall_s, cpu_s]))
    print(f"upscaler  x{config.scale}: {config.steps:,} steps of {config.batch} patches, {wall_s / 60:.1f} minutes, "
          f"{cpu_s / 60:.1f} of processor time", flush=True)  # fmt: skip
    return trainer.network.eval().requires_grad_(False)


def gains_of(network: SRVGGNetCompact, held_out: Sequence[Painting], scale: int) -> Iterator[tuple[str, float]]:
    """Each painting's title and its gain in PSNR-Y over Lanczos, in dB."""
    for painting in held_out:
        large = crop_to_multiple(painting.pixels, scale)
        small = shrink_bicubic(large, scale)
        ours = psnr_y(enlarge(network, small, scale), large, scale)
        yield painting.title, ours - psnr_y(enlarge_lanczos(small, scale), large, scale)


def _print_summary(name: str, gains: Sequence[float]) -> None:
    above = sum(gain > 0 for gain in gains)
    print(f"upscaler  {name}: {fmean(gains):+.2f} dB over Lanczos, the mean of {len(gains)} paintings, "
          f"{min(gains):+.2f} to {max(gains):+.2f}, {above} above it", flush=True)  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the upscaler against Lanczos on held-out paintings")
    parser.add_argument("--paintings", type=Path, default=Path("../shared/paintings"))
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--only", type=int, nargs="+", help="folds, from 0; all without it")
    parser.add_argument("--scale", type=int, nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--steps", type=int, help="another length, to try things out")
    parser.add_argument("--larger", action="store_true", help="learn from the larger paintings alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, default=Path(".atelier/bench-upscaler"))
    return parser.parse_args()


if __name__ == "__main__":
    main()

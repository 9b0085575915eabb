"""What has to be measured on a GPU, in at most ten minutes: its tests, kernels a step, images a second, and more.

    python bench/gpu.py [--minutes 10] [--dataset DATASET --out FOLDER]

1. `pytest -m gpu`.
2. How many kernels one step of a discriminator with gradient penalties starts (R3GAN preset S, 64 px, batch 8), with
   the convolutions of atelier/networks/conv.py and with torch's own, and how long it takes.
3. What a snapshot takes, by parts; pictures in float64 and in float32; steps of the upscaler with batches that threads
   draw in advance, and without.
4. With a DATASET as the stage augment writes it, best of 128 px: a training with `train.discriminator: features` of
   four minutes (half a minute without a GPU), whose sheets go into FOLDER, and its scores by EfficientNet-Lite1.
5. `bench/train.py` for all networks of 128 px: ours has to reach 5,000 images a second with dcgan 160/40, and 1,500
   with r3gan S. Its last rows are `train.deterministic: false`.

Without a GPU the same runs on the CPU, smaller, to try the script; kernels are then calls of torch's operations.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from train import Case, dcgan, our_trainer, torch_convolutions

from atelier.data.dataset import open_dataset
from atelier.device import pick_deterministic_device
from atelier.networks import NetworkConfig, make_networks
from atelier.networks.latent_field import draw_inputs, in_double_precision, render
from atelier.progress import Progress
from atelier.settings.edit import PRESETS
from atelier.settings.schema import TrainUpscaler
from atelier.settings.training import Train
from atelier.training.config import pick_precision, training_plan
from atelier.training.losses import Relativistic
from atelier.training.trainer import Trainer
from atelier.upscaling import train as upscaling

BATCH, REPEATS = 8, 5
FEATURES_MINUTES = 4
FEATURES = {
    "discriminator": "features", "arch": "sketch", "sketch": {"ngf": 64}, "init_from": None, "batch": 64,
    "kimg": 100_000, "snapshot_kimg": 50, "lr_decay": 0.0, "warm_start": 0.0,
}  # fmt: skip


def main() -> None:
    """Run the parts one after the other, each in what is left of the time."""
    parser = argparse.ArgumentParser(prog="bench/gpu.py")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--out", type=Path, default=Path("features"))
    given = parser.parse_args()
    end_s = time.monotonic() + 60 * given.minutes
    has_gpu = torch.cuda.is_available()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if has_gpu else 'no GPU'}", flush=True)
    _run(end_s, "-m", "pytest", "-q", "-m", "gpu", "tests")
    device = torch.device("cuda" if has_gpu else "cpu")
    _count_kernels(device)
    pick_deterministic_device(device.type)
    _time_parts(device)
    if given.dataset:
        left_minutes = max(end_s - time.monotonic(), 1) / 60
        _train_by_features(given.dataset, given.out, device, min(FEATURES_MINUTES if has_gpu else 0.5, left_minutes))
    _run(end_s, "bench/train.py", "--rounds", "3", "--only", "128 px" if has_gpu else "r3gan S, 64 px")


def _run(end_s: float, *words: str) -> None:
    try:
        subprocess.run([sys.executable, *words], check=False, timeout=max(end_s - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        print(f"{' '.join(words)}: stopped, the time is up", flush=True)


def _count_kernels(device: torch.device) -> None:
    torch.manual_seed(0)
    network = make_networks(NetworkConfig("r3gan", 64, {"preset": "S", "nz": 8}))[1].to(device)
    real, fake = (torch.randn(BATCH, 3, 64, 64, device=device) for _ in range(2))
    loss = Relativistic(2.0)

    def step() -> None:
        network.zero_grad()
        loss.discriminator(network, real, fake, 0.0).loss.backward()

    print("| convolutions | kernels a step | ms |\n|---|---|---|")
    for name, context in (("ours", nullcontext), ("torch's", torch_convolutions)):
        with context():
            step()
            activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
            with profile(activities=[activity]) as profiler:
                step()
            began_s = time.perf_counter()
            for _ in range(REPEATS):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            took_ms = (time.perf_counter() - began_s) / REPEATS * 1000
        kernels = sum(event.device_type.name.lower() == device.type for event in profiler.events())
        print(f"| {name} | {kernels:,} | {took_ms:.0f} |", flush=True)


def _time_parts(device: torch.device) -> None:
    """Time a snapshot, pictures and steps of the upscaler; the second time of each, since the first prepares things."""
    has_gpu = device.type == "cuda"
    print("| | ms |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        case = Case("", dcgan(128, 160, 40) if has_gpu else dcgan(32, 24, 12), 64)
        trainer = our_trainer(case, "float32", device, Path(folder))
        previews, batch = trainer._previews, case.batch
        parts: dict[str, Callable[[], object]] = {
            "snapshot of dcgan: batch statistics": previews.generator,
            "scores": lambda: previews.quality(batch),
            "sheet": lambda: previews.draw_sheet(Path(folder, "sheet.png"), batch),
            "state: copied": trainer._begin_save,
            "state: written by the thread": trainer._checkpoints.wait,
        }
        for _ in range(2):
            trainer.advance()
            times = {name: _timed(part, device) for name, part in parts.items()}
        for name, took_ms in times.items():
            print(f"| {name} | {took_ms:,.1f} |", flush=True)

        network = make_networks(dcgan(128, 160, 40) if has_gpu else dcgan(32, 24, 12))[0]
        for precision in ("float64", "float32"):
            painter = in_double_precision(network, device, precision)
            inputs = draw_inputs(painter, 0, 0)
            render(painter, inputs)
            took_ms = _timed(lambda: [render(painter, inputs) for _ in range(8)], device) / 8  # noqa: B023
            print(f"| a picture of dcgan in {precision} | {took_ms:,.1f} |", flush=True)

        values = {
            key: value for key, value in PRESETS["gpu-128"]["values"].items() if key.startswith("train_upscaler.")
        }
        steps = 100 if has_gpu else 2
        settings = {key.split(".")[1]: value for key, value in values.items()} if has_gpu else {}
        config = TrainUpscaler(**{**settings, "steps": steps})
        pictures = list(np.random.default_rng(0).integers(0, 256, (64, 384, 384, 3), dtype=np.uint8))
        for ahead in (8, 0):
            upscaling.DRAWN_AHEAD = {device.type: ahead}
            upscaler = upscaling.UpscalerTrainer(config, pictures, device, Path(folder, f"upscaler-{ahead}"))
            with Progress("upscaler", steps, "steps", None) as progress:
                took_ms = _timed(lambda: upscaler.train(progress), device) / steps  # noqa: B023
            print(f"| a step of the upscaler, {ahead} batches drawn in advance | {took_ms:,.1f} |", flush=True)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Milliseconds, until the device has done it all; work queued before is not counted."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began_s = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began_s) * 1000


def _train_by_features(path: Path, out: Path, device: torch.device, minutes: float) -> None:
    dataset = open_dataset(path)
    params = Train.model_validate({**FEATURES, "minutes": minutes})
    plan = training_plan(params, dataset.resolution, pick_precision("auto", device)[0])
    with tempfile.TemporaryDirectory() as states, Progress("features", plan.images / 1000, "kimg") as progress:
        trainer = Trainer(plan, dataset, device, Path(states))
        trainer.train(progress)
        scores, losses = trainer.final_curves().quality[-1], trainer.final_curves().losses[-1]
        trainer.copy_sheets(out)
    print(f"features: {trainer.images_seen / trainer.seconds:,.0f} images/s, {scores}, {losses}; sheets in {out}")


if __name__ == "__main__":
    main()

"""One training step of ours against the well-known PyTorch DCGAN example's, at equal widths, side by side.

    python bench/train.py [--rounds 7]

The plain step is DCGAN as the PyTorch example trains it: default memory format and Adam, a sigmoid with binary
cross-entropy, gradients for the discriminator's weights also in the generator's step, losses read every step.
Ours computes the same game on the same batch, with the averaged generator on top; augmentation is off, as there.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from atelier.dataset import PackedDataset, View
from atelier.networks import NetworkConfig, make_networks
from atelier.training.loop import Trainer
from atelier.training.plan import TrainingPlan

RESOLUTION, NZ, BATCH, LR, BETAS = 64, 100, 64, 2e-4, (0.5, 0.999)
WIDTHS = {"the default, 24/12": (24, 12), "the example's, 64/64": (64, 64)}


def main() -> None:
    parser = argparse.ArgumentParser(description="DCGAN training step against the plain PyTorch example's")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads, batch {BATCH}, {RESOLUTION} px")
    for name, (ngf, ndf) in WIDTHS.items():
        network = NetworkConfig("dcgan", RESOLUTION, {"nz": NZ, "ngf": ngf, "ndf": ndf})
        contestants = {"plain": plain_step(network), "atelier": our_step(network)}
        seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
        for number in range(rounds + 1):
            for contestant, step in contestants.items():
                took_s = timed(step)
                if number:  # the first builds kernels and moments
                    seconds[contestant].append(took_s)
        ratios = [plain / ours for plain, ours in zip(seconds["plain"], seconds["atelier"], strict=True)]
        for contestant in contestants:
            median_s = statistics.median(seconds[contestant])
            print(f"{name}: {contestant:<8} {median_s * 1000:6.0f} ms a step, {BATCH / median_s:6.0f} img/s")
        print(f"{name}: ratio {statistics.median(ratios):.2f}× (target 2.5×)")


def timed(step: Callable[[], None], repeats: int = 3) -> float:
    began_s = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - began_s) / repeats


def plain_step(network: NetworkConfig) -> Callable[[], None]:
    """A step as plain PyTorch writes it."""
    generator, discriminator = make_networks(network)
    criterion = nn.BCELoss()
    adam_g, adam_d = (
        torch.optim.Adam(part.parameters(), lr=LR, betas=BETAS) for part in (generator, discriminator)
    )
    real = torch.rand(BATCH, 3, RESOLUTION, RESOLUTION) * 2 - 1

    def step() -> None:
        discriminator.zero_grad()
        real_score = torch.sigmoid(discriminator(real))
        loss_real = criterion(real_score, torch.ones(BATCH))
        loss_real.backward()
        fake = generator(torch.randn(BATCH, NZ))
        fake_score = torch.sigmoid(discriminator(fake.detach()))
        loss_fake = criterion(fake_score, torch.zeros(BATCH))
        loss_fake.backward()
        adam_d.step()
        generator.zero_grad()
        score = torch.sigmoid(discriminator(fake))
        loss = criterion(score, torch.ones(BATCH))
        loss.backward()
        adam_g.step()
        [part.mean().item() for part in (real_score, fake_score, score, loss_real + loss_fake, loss)]

    return step


def our_step(network: NetworkConfig) -> Callable[[], None]:
    """A step of the very trainer that `tasks.train` runs."""
    pixels = np.random.default_rng(0).integers(0, 256, (512, RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
    view = View(pixels, [str(row) for row in range(len(pixels))], mirror=True)
    plan = TrainingPlan(
        network=network, batch=BATCH, seed=0, lr=LR, lr_discriminator=LR, beta1=BETAS[0], ema=0.999, augment=(),
        augment_probability=0, snapshot_kimg=1e6, images=10**9, lr_decay=0,
    )  # fmt: skip
    dataset = PackedDataset(RESOLUTION, "center", True, view, view)
    return Trainer(plan, dataset, torch.device("cpu"), Path(tempfile.gettempdir())).advance


if __name__ == "__main__":
    main()

"""Train a small generator in a few lines, on the parts that `dvc repro train` uses.

    python examples/train_minimal.py data/dataset samples.png 2000

The arguments are a data set that `dvc repro augment` made, the sheet of pictures to write, and the number of steps.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from atelier.data.dataset import open_dataset
from atelier.networks import NetworkConfig, make_networks
from atelier.networks.latent_field import render_seed
from atelier.pictures.sheets import write_sheet
from atelier.training.augment import Augment
from atelier.training.data import ResidentData
from atelier.training.initial import Ema
from atelier.training.losses import NonSaturating
from atelier.training.optimizers import make_optimizer
from atelier.training.state import generator_for
from atelier.training.step import AdversarialStep

SEED, BATCH = 0, 32


def main(dataset: Path, sheet: Path, steps: int) -> None:
    """Train for so many steps and write a sheet of 16 pictures of the averaged generator."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    paintings = open_dataset(dataset)
    data = ResidentData(paintings.train, SEED, device)

    settings = {"nz": 100, "ngf": 24, "ndf": 24, "noise": 8}
    networks = make_networks(NetworkConfig("sketch", paintings.resolution, settings))
    generator, discriminator = (network.to(device) for network in networks)
    adam_g, adam_d = (make_optimizer(n, "adam", 2e-4, 0, (0.5, 0.999)) for n in (generator, discriminator))
    augment = Augment(["translation", "brightness", "saturation", "contrast", "cutout"], probability=1.0)
    step = AdversarialStep(generator, discriminator, adam_g, adam_d, NonSaturating(), augment)
    ema = Ema(generator, decay=0.9995)

    def latents(number: int) -> torch.Tensor:
        return torch.randn(BATCH, generator.inputs, generator=generator_for("z", SEED, number)).to(device)

    for number in range(steps):
        draws = generator_for("augment", SEED, number)
        logs = step.run(data.batch(number, BATCH), latents(number), draws, progress=number / steps)
        ema.update(number)
        if number % 100 == 0:
            print(number, ", ".join(f"{name} {value:.2f}" for name, value in logs.items()))

    average = ema.calibrated(latents(-index) for index in range(1, 17))
    write_sheet(sheet, np.concatenate([*render_seed(average, SEED, 16)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

"""Small networks for tests of the stages after training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from atelier.networks import NetworkConfig, make_networks, save_network
from atelier.networks.labels import Labels
from atelier.networks.latent_field import FieldGenerator, draw_grain, draw_latents

SMALL = NetworkConfig("dcgan", 32, {"nz": 16, "ngf": 8, "ndf": 8})
LABELS = Labels("genre", ("landscape", "marine", "other"), (30, 25, 5), 4)


def canvas_inputs(
    generator: torch.nn.Module, seed: int, index: int, canvas: tuple[int, int], truncation: float = 1.0
) -> torch.Tensor:
    """The inputs of a plain canvas that is painted at once, (1, inputs, rows, columns)."""
    assert isinstance(generator, FieldGenerator)
    rows, columns = canvas
    z = draw_latents(seed, index, generator.nz, canvas, truncation).reshape(1, -1, rows, columns)
    numbers = generator.inputs - generator.nz
    cells = [
        torch.stack([draw_grain(seed, index, row, column, numbers) for column in range(columns)], 1)
        for row in range(rows)
    ]
    return torch.cat([z, torch.stack(cells, 1)[None]], 1)


def save_small_generator(
    path: Path = Path("data/model/generator.safetensors"),
    seed: int = 0,
    network: NetworkConfig = SMALL,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Save a generator of 32 px with running statistics as after a training; it paints blots.

    With labels, their vectors are not zero.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator, _ = make_networks(network)
        if generator.embed:
            torch.nn.init.normal_(generator.embed.weight, 0.0, 0.1)
        norms = [module for module in generator.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # a plain average
        with torch.no_grad():
            for _ in range(4 if norms else 0):
                generator(torch.randn(64, generator.inputs))
            if isinstance(generator.layers[-1], torch.nn.Tanh):
                generator.layers[-2].weight.mul_(12)  # fresh weights paint grey
    save_network(path, generator, network, {"seed": seed, "kimg": 0.0, **(facts or {})})

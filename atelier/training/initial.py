"""The networks that a training starts from: those of a kept model, or of the base model in the repository.

The two networks as a training begins with them: built, placed, each with its optimiser, and the average that paints.

Knows neither data nor steps.

A warm start: the generator first learns to reconstruct the training pictures from their principal components.

A picture's latent is its whitened principal components at a low resolution. The generator learns to paint each picture
from its latent, and so begins the adversarial training with the paintings' layout and colours.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.model_store import BASE_MODEL, DISCRIMINATOR_FILE, GENERATOR_FILE, STORED_NAME, content_hash
from atelier.networks import NetworkConfig, make_networks, read_model
from atelier.networks.latent_field import PICTURE
from atelier.networks.weights import are_weights_of as are_tensors_of
from atelier.training.config import TrainingPlan
from atelier.training.data import ResidentData
from atelier.training.distributed import World
from atelier.training.ema import Ema
from atelier.training.muon import Muon
from atelier.training.schedules import beta2_at
from atelier.training.state import generator_for

# the facts about a model's training that are part of the lineage of models that start from it
TOLD = ("kimg", "seed", "generation", "dataset_sha256", "imported", "start")

BASE_NETWORK = NetworkConfig("sketch", 64, {"nz": 100, "ngf": 24, "ndf": 24, "noise": 8})


@dataclass(frozen=True)
class Start:
    """The weights that a training starts from.

    `lineage` is written into the model that the training makes, under the key `start`: the SHA-256 of both networks,
    how the model came about, and the lineage of the model that it started from, if any.
    """

    network: NetworkConfig
    generator: dict[str, Tensor]
    discriminator: dict[str, Tensor] | None
    lineage: dict[str, Any]

    def give_to(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Load the weights into both networks; where there are none for the discriminator, it is left as it is."""
        generator.load_state_dict(self.generator)
        if self.discriminator:
            discriminator.load_state_dict(self.discriminator)


def start_path(init_from: str | None, network: NetworkConfig) -> Path | None:
    """The model directory that `train.init_from` means for a training of `network`; None to start from nothing.

    `base` is the base model, and `auto` is the base model where it has the size and the settings of `network`.
    """
    if init_from == "auto":
        return BASE_MODEL if network == BASE_NETWORK else None
    if init_from == "base":
        return BASE_MODEL
    return Path(init_from) if init_from else None


def open_start(path: Path, network: NetworkConfig) -> Start:
    """The model at `path`, whole and unchanged, for a training of `network`.

    Raises AtelierError where it is absent or changed, or of another architecture, size or setting.
    """
    match = STORED_NAME.fullmatch(path.name)
    if path == BASE_MODEL and not (path / GENERATOR_FILE).is_file():
        raise AtelierError(
            f"{path}, the base model, is missing: `git checkout -- {path}` brings it back; or set train.init_from "
            "to null, to start from nothing"
        )
    if not match or not (path / GENERATOR_FILE).is_file():
        raise AtelierError(
            f"train.init_from: {path} is no model to start from: `atelier import FILE` makes one and says its name"
        )
    if content_hash(path) != match[2]:
        raise AtelierError(
            f"train.init_from: {path} was changed, its name does not fit it any more: "
            + (f"`git checkout -- {path}` brings it back" if path == BASE_MODEL else "import it again")
        )
    header, generator = read_model(path / GENERATOR_FILE)
    rival = read_model(path / DISCRIMINATOR_FILE)[1] if (path / DISCRIMINATOR_FILE).is_file() else None
    found = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    lineage = {
        "generator_sha256": digest(path / GENERATOR_FILE),
        "discriminator_sha256": digest(path / DISCRIMINATOR_FILE) if rival else None,
        **{key: header[key] for key in TOLD if key in header},
    }
    start = Start(found, generator, rival, lineage)
    _check(start, network, path)
    return start


def are_weights_of(
    network: NetworkConfig, generator: dict[str, Tensor], discriminator: dict[str, Tensor] | None
) -> bool:
    """Whether these are the networks' tensors, each of its shape; whatever `network` says, this takes no memory."""
    sides = enumerate((generator, discriminator))
    return all(given is None or are_tensors_of(partial(_side, network, side), given) for side, given in sides)


def _side(network: NetworkConfig, side: int) -> nn.Module:
    return make_networks(network)[side]


def _check(start: Start, wanted: NetworkConfig, path: Path) -> None:
    """That the weights fit the networks that params.yaml and the dataset ask for, tensor by tensor."""
    found = start.network
    fits = are_weights_of(wanted, start.generator, start.discriminator)
    if not fits or (found.arch, found.resolution) != (wanted.arch, wanted.resolution):
        settings = json.dumps(dict(sorted(found.settings.items()))).replace('"', "")
        asked = json.dumps(dict(sorted(wanted.settings.items()))).replace('"', "")
        raise AtelierError(
            f"train.init_from: {path} is {found.arch} of {found.resolution} px, {settings}; params.yaml asks for "
            f"{wanted.arch} of {wanted.resolution} px, {asked}: set augment.resolution, train.arch and "
            f"train.{found.arch} to the model's"
        )


MUON_MOMENTUM = 0.5  # as Adam's first momentum in DCGAN: more makes the two networks oscillate


@dataclass(frozen=True)
class Players:
    """Generator and discriminator, their optimisers, and the generator's running average."""

    generator: nn.Module
    discriminator: nn.Module
    optimizer_g: Optimizer
    optimizer_d: Optimizer
    ema: Ema

    @classmethod
    def of(cls, plan: TrainingPlan, start: Start | None, device: torch.device) -> Self:
        """Of the plan's seed, or with the weights of `start`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)  # weights are drawn on the CPU, the same for every device
            generator, discriminator = make_networks(plan.network)
        if start:
            start.give_to(generator, discriminator)
        generator, discriminator = _placed(generator, device), _placed(discriminator, device)
        optimizer_g = _optimizer(generator, plan, plan.lr, plan.muon_lr)
        optimizer_d = _optimizer(discriminator, plan, plan.lr_discriminator, plan.muon_lr_discriminator)
        ema = Ema(generator, plan.ema)
        ema.keeps_statistics = start is not None
        return cls(generator, discriminator, optimizer_g, optimizer_d, ema)


class MuonAndAdam(Optimizer):
    """One optimiser for a network: Muon for the kernels of its hidden convolutions, Adam for all other weights.

    The others are those that read or write pictures or logits, batch norms and biases. The first parameter group is
    Adam's, the second Muon's.
    """

    def __init__(self, network: nn.Module, adam: torch.optim.Adam, muon: Muon) -> None:
        super().__init__(network.parameters(), {})
        self._both = (adam, muon)
        self.param_groups = [*adam.param_groups, *muon.param_groups]
        adam.state = muon.state = self.state  # of different weights: one state to save and to load

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for optimizer in self._both:
            optimizer.step()


def hidden_kernels(network: nn.Module) -> list[nn.Parameter]:
    """The kernels of convolutions from features to features: neither from or to pictures, nor to a logit."""
    return [
        weight
        for weight in network.parameters()
        if weight.ndim == 4 and not {1, PICTURE} & {*weight.shape[:2]}
    ]


def _optimizer(network: nn.Module, plan: TrainingPlan, lr: float, muon_lr: float) -> Optimizer:
    betas = (plan.beta1, beta2_at(plan.beta2, 0))
    hidden = hidden_kernels(network) if plan.optimizer == "muon" else []
    if not hidden:
        return torch.optim.Adam(network.parameters(), lr, betas, fused=True)
    names = {id(weight) for weight in hidden}
    others = [weight for weight in network.parameters() if id(weight) not in names]
    muon = Muon(hidden, muon_lr, MUON_MOMENTUM, "original")
    return MuonAndAdam(network, torch.optim.Adam(others, lr, betas, fused=True), muon)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """On the device, channels last: what its convolutions like best."""
    return network.to(device).to(memory_format=torch.channels_last)


SIDE_PX = 32  # at which pictures are analysed

FITTED = 4000  # pictures at most that the components are found from

AT_ONCE = 128  # pictures in memory as floats at their own size

ITERATIONS, OVERSAMPLED = 4, 10  # of the randomised decomposition (Halko et al., arXiv 0909.4061)

TINY = 1e-6  # in place of the deviation of a component that no picture has

JITTER = 0.1  # standard deviation of the noise added to a picture's components


class PrincipalLatents:
    """The latents (n, nz) of a data set's items: whitened principal components, as many as there are, at most nz.

    All processes of `world` use those of the first: on another CPU a component may come out with the opposite sign.
    """

    def __init__(self, data: ResidentData, nz: int, seed: int, world: World) -> None:
        self._nz = nz
        fitted = torch.randperm(len(data), generator=generator_for("components", seed, 0))[:FITTED]
        pixels = _small(data, fitted)
        mean = pixels.mean(0)
        pixels -= mean
        directions = _directions(pixels, nz, seed)
        deviations = (pixels @ directions).norm(dim=0) / max(len(pixels) - 1, 1) ** 0.5
        scores = _small(data, torch.arange(len(data)), directions) - mean @ directions
        self._latents = scores / deviations.clamp_min(TINY)
        world.as_first([self._latents])

    def drawn(self, items: Tensor, draws: torch.Generator) -> Tensor:
        """Latents (n, nz) of these items with a little noise; numbers beyond the components are noise alone."""
        noise = torch.randn(len(items), self._nz, generator=draws)
        own = self._latents[items]
        return torch.cat([own + JITTER * noise[:, : own.shape[1]], noise[:, own.shape[1] :]], 1)


def _directions(pixels: Tensor, nz: int, seed: int) -> Tensor:
    """The first principal directions of centred rows, as columns: nz, or as many as the rows have."""
    known = min(nz, len(pixels) - 1, pixels.shape[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**32)
        rank = min(known + OVERSAMPLED, *pixels.shape)
        _, _, directions = torch.svd_lowrank(pixels, rank, ITERATIONS)
    return directions[:, :known]


def _small(data: ResidentData, items: Tensor, directions: Tensor | None = None) -> Tensor:
    """Items as rows of floats at SIDE_PX on the CPU, or their coordinates along `directions`."""
    rows = []
    for part in torch.split(items, AT_ONCE):
        pictures = data.pictures(part)
        side = min(SIDE_PX, pictures.shape[2])
        small = functional.adaptive_avg_pool2d(pictures, side).flatten(1).cpu()
        rows.append(small if directions is None else small @ directions)
    return torch.cat(rows)

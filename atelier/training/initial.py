"""What a training starts with: random or given weights, both networks on the device, optimisers, and the average.

In a warm start the generator learns to paint each training image from a latent of its own, the image's whitened
principal components, so the adversarial training begins with the layout and colours of the paintings.
"""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.swa_utils import update_bn

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.model_store import DISCRIMINATOR_FILE, GENERATOR_FILE, SHIPPED_MODELS, STORED_NAME, content_hash
from atelier.networks import (
    GROWTH,
    OWN,
    NetworkConfig,
    fitting_weights,
    make_networks,
    read_model,
    settings_to_grow,
    weights_fit,
)
from atelier.networks.labels import relabelled
from atelier.networks.latent_field import FieldGenerator
from atelier.networks.projected import discriminator_parts, joined_parts
from atelier.training.config import TrainingPlan, beta2_at
from atelier.training.data import ResidentData
from atelier.training.distributed import ProcessGroup
from atelier.training.optimizers import make_optimizer
from atelier.training.state import generator_for

# the facts about a model's training that enter the lineage of models that start from it
LINEAGE_FACTS = ("kimg", "seed", "generation", "dataset_sha256", "imported", "discriminator", "start")
POWER = 16.97  # σ_rel 0.05: the average covers about a twentieth of the training so far (arXiv 2312.02696 §3.1)

SIDE_PX = 32  # images are reduced to this side for the principal component analysis
MAX_ANALYSED = 4000  # images
LOADED_AT_ONCE = 128  # images in memory as floats at their own size
ITERATIONS, OVERSAMPLED = 4, 10  # of the randomised decomposition (Halko et al., arXiv 0909.4061)
MIN_DEVIATION = 1e-6  # replaces the deviation of a component in which all images agree
JITTER_STD = 0.1  # of the noise added to an image's components


@dataclass(frozen=True)
class Networks:
    """Generator and discriminator, their optimisers, and the generator's running average."""

    generator: FieldGenerator
    discriminator: nn.Module
    optimizer_g: Optimizer
    optimizer_d: Optimizer
    ema: "Ema"

    @classmethod
    def create(cls, plan: TrainingPlan, start: "Start | None", device: torch.device) -> Self:
        """Networks with random weights of the plan's seed, or with the weights of `start`.

        Raises AtelierError where the plan's kimg or freeze_discriminator does not fit `start`.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)  # weights are drawn on the CPU, the same for every device
            generator, discriminator = make_networks(plan.network, plan.discriminator)
        if start:
            # what the start lacks keeps its random weights: the new layers of a grown model, a whole discriminator
            generator.load_state_dict({**generator.state_dict(), **start.generator})
            discriminator.load_state_dict({**discriminator.state_dict(), **(start.discriminator or {})})
            if start.new_layers and not plan.images:
                why = f"because {start.new_layers} are untrained"
                raise AtelierError(f"train.kimg holds 0; it may hold a number above 0, {why}")
        if plan.freeze_discriminator:
            _freeze(discriminator, plan.freeze_discriminator, start)
        for network in (generator, discriminator):
            network.to(device).to(memory_format=torch.channels_last)  # in which convolutions are fastest
        kind, betas = plan.optimizer, (plan.beta1, beta2_at(plan.beta2, 0))
        optimizer_g = make_optimizer(generator, kind, plan.lr, plan.muon_lr, betas)
        optimizer_d = make_optimizer(discriminator, kind, plan.lr_discriminator, plan.muon_lr_discriminator, betas)
        ema = Ema(generator, plan.ema)
        ema.has_own_statistics = start is not None and not start.new_layers
        return cls(generator, discriminator, optimizer_g, optimizer_d, ema)

    def set_rates(self, plan: TrainingPlan, step: int, rollbacks: int) -> None:
        """Set the learning rates and betas of both optimisers for a step. Each rollback so far has halved the rates."""
        scale, betas = plan.rates(step)
        scale *= 0.5**rollbacks
        for optimizer, lr, muon_lr in (
            (self.optimizer_g, plan.lr, plan.muon_lr),
            (self.optimizer_d, plan.lr_discriminator, plan.muon_lr_discriminator),
        ):
            adam, *muon = optimizer.param_groups
            adam.update(lr=lr * scale, betas=betas)
            for group in muon:
                group["lr"] = muon_lr * scale


def _freeze(discriminator: nn.Module, count: int, start: "Start | None") -> None:
    """Keep the weights of the first `count` convolutions, counted from the picture (FreezeD, arXiv 2002.10964).

    The scales and shifts of the batch norms behind them are kept too. These still normalise by the statistics of each
    batch, as the layers behind them were trained with, and measure running statistics, which no step reads but
    generate.pick does. Raises AtelierError where `start` has no weights of these layers, or all layers would be kept.
    """
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    convolutions = [module for module in layers if isinstance(module, nn.Conv2d)]
    if start is None or start.discriminator is None:
        reason = "because the training does not start from a model with a discriminator: set train.init_from to one"
        raise AtelierError(f"train.freeze_discriminator holds {count}; it may hold 0, {reason}")
    if start.grown_from_px:
        reason = f"because the first layers of a model that grows from {start.grown_from_px} px are new"
        raise AtelierError(f"train.freeze_discriminator holds {count}; it may hold 0, {reason}")
    if count >= len(convolutions):
        most = len(convolutions) - 1
        reason = f"because the discriminator has {most + 1} convolutions, and the last one must be trained"
        raise AtelierError(f"train.freeze_discriminator holds {count}; it may hold at most {most}, {reason}")
    for module in layers[: layers.index(convolutions[count])]:
        module.requires_grad_(False)


class Ema:
    """Keeps `average`, a running average of the weights and buffers of the generator, which is what paints.

    `torch.optim.swa_utils.AveragedModel` is not used: its first update copies the weights instead of averaging them,
    and each update copies a counter to the GPU, which waits until the GPU has finished the step.

    Args:
        network: the generator that is trained.
        decay: of an exponential average, which warms up as min(decay, (1 + t) / (10 + t)) at step t, so that a short
            training is not an average of its noise. With "power" it is (1 − 1/t)^(1 + POWER), which covers the same
            share of a short and of a long training.
    """

    def __init__(self, network: FieldGenerator, decay: float | Literal["power"]) -> None:
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay = decay
        # True for a loaded model until the first update: its batch norm statistics belong to its weights
        self.has_own_statistics = False
        self._pairs = list(zip(self.average.state_dict().values(), network.state_dict().values(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the network after step `step`, counted from 0."""
        self.has_own_statistics = False
        if self._decay == "power":
            decay = float((1 - 1 / (step + 1)) ** (1 + POWER))
        else:
            decay = min(self._decay, (1 + step) / (10 + step))
        floats = [pair for pair in self._pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floats], [current for _, current in floats], 1 - decay)
        for average, current in self._pairs:
            if not average.is_floating_point():
                average.copy_(current)

    def calibrated(self, latents: Iterable[Tensor]) -> FieldGenerator:
        """A copy of the average, in eval mode, whose batch norm statistics are measured on `latents`.

        Averaged weights produce other activations than the weights that were averaged, so averaged statistics would not
        fit them (Izmailov et al., arXiv 1803.05407 §3.2).
        """
        network = copy.deepcopy(self.average)
        if not self.has_own_statistics:
            update_bn(latents, network)
        return network.eval()


@dataclass(frozen=True)
class Start:
    """The weights of a model that a training starts from.

    `lineage` becomes `start` in the trained model: the SHA-256 of both networks, how the model was made, and its own
    `start`. `grown_from_px` is the model's resolution if it is smaller than the training's: then the weights are those
    of the coarse layers, by their names in the larger networks. `reshaped_from` is the shape of the model's pictures if
    it is another than the training's; `has_labels` says whether it has the training's labels, and no others.
    """

    generator: dict[str, Tensor]
    discriminator: dict[str, Tensor] | None
    lineage: dict[str, Any]
    grown_from_px: int | None = None
    reshaped_from: str | None = None
    has_labels: bool = True

    @property
    def new_layers(self) -> str:
        """The layers that are not the model's, in words; empty for one of the same size, shape and labels."""
        if self.grown_from_px:
            return f"the new layers of a model that grows from {self.grown_from_px} px"
        if self.reshaped_from:
            return f"the new layers of a model that was made for pictures of shape {self.reshaped_from}"
        return "" if self.has_labels else "the vectors of other labels than the model's"


def open_start(path: Path, network: NetworkConfig, kind: str = OWN) -> Start:
    """Read the model at `path`, of the resolution of `network`, or of half or a quarter of it, from which it grows.

    Its labels may be others: classes are matched by their names, and new ones begin as pictures without a label. Of a
    model for pictures of another shape, all layers are read but those of the base cells. `kind` is that of the
    discriminator to train; of the model's it takes over the part that both have. Raises AtelierError where it is
    missing, changed, or of a network that does not fit.
    """
    match = STORED_NAME.fullmatch(path.name)
    if path in SHIPPED_MODELS and not (path / GENERATOR_FILE).is_file():
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
            + (f"`git checkout -- {path}` brings it back" if path in SHIPPED_MODELS else "import it again")
        )
    header, generator = read_model(path / GENERATOR_FILE)
    discriminator, found_kind = None, OWN
    if (path / DISCRIMINATOR_FILE).is_file():
        described, discriminator = read_model(path / DISCRIMINATOR_FILE)
        found_kind = described.get("discriminator", OWN)
    found = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    like_found = network.with_labels(found.labels)
    grows = found.arch == network.arch and network.resolution in [factor * found.resolution for factor in GROWTH]
    fits = weights_fit(found if grows else like_found.with_aspect(found.aspect), generator, discriminator, found_kind)
    if not fits or not (grows or (found.arch, found.resolution) == (network.arch, network.resolution)):
        raise AtelierError(
            f"train.init_from: {path} is {_words(found)}; params.yaml asks for {_words(network)}: "
            f"set augment.resolution, train.arch and train.{found.arch} to the model's"
        )
    parts = discriminator_parts(found_kind, discriminator) if discriminator else {}
    if grows:
        _check_growth(path, found.with_labels(None), network.with_labels(None), OWN in parts)
    reshaped_from = None if found.aspect == network.aspect else found.aspect
    if grows or reshaped_from:
        generator, own = fitting_weights(like_found, found, generator, parts.get(OWN))
        parts |= {OWN: own} if own is not None else {}
    generator = relabelled(generator, found.labels, network.labels)
    parts = {part: relabelled(tensors, found.labels, network.labels) for part, tensors in parts.items()}
    taken = joined_parts(kind, parts)
    lineage = {
        "generator_sha256": digest(path / GENERATOR_FILE),
        "discriminator_sha256": digest(path / DISCRIMINATOR_FILE) if taken is not None else None,
        **{key: header[key] for key in LINEAGE_FACTS if key in header},
        **({"grown_from_px": found.resolution} if grows else {}),
        **({"reshaped_from": reshaped_from} if reshaped_from else {}),
    }
    grown, has_labels = found.resolution if grows else None, found.classes == network.classes
    return Start(generator, taken, lineage, grown, reshaped_from, has_labels)


def _check_growth(path: Path, found: NetworkConfig, network: NetworkConfig, with_discriminator: bool) -> None:
    """Raise AtelierError, which names the settings to change, where `found` cannot grow into `network`."""
    required = settings_to_grow(found, network.resolution, with_discriminator)
    if required is None:
        raise AtelierError(
            f"train.init_from: {path} is {_words(found)}; it cannot grow to {network.resolution} px, because ngf and "
            f"ndf must be multiples of {network.resolution // found.resolution}: set augment.resolution to the model's"
        )
    if network.settings.get("noise") and network.settings["noise"] > required["ngf"]:
        required["noise"] = required["ngf"]
    others = {name: value for name, value in sorted(required.items()) if network.settings.get(name) != value}
    if others:
        changes = ", ".join(f"train.{network.arch}.{name} to {value}" for name, value in others.items())
        raise AtelierError(
            f"train.init_from: {path} is {_words(found)}; params.yaml asks for {_words(network)}, whose coarse layers "
            f"differ from the model's: set {changes} to grow it, or augment.resolution to {found.resolution}"
        )


def _words(network: NetworkConfig) -> str:
    settings = json.dumps(dict(sorted(network.with_labels(None).settings.items()))).replace('"', "")
    return f"{network.arch} of {network.resolution} px, {settings}"


class PrincipalLatents:
    """The latents (n, nz) of a data set's items: whitened principal components, at most nz of them.

    All processes use those of rank 0, because on another CPU a component may have the opposite sign.
    """

    def __init__(self, data: ResidentData, nz: int, seed: int, group: ProcessGroup) -> None:
        self._nz = nz
        analysed = torch.randperm(len(data), generator=generator_for("components", seed, 0))[:MAX_ANALYSED]
        pixels = _reduced(data, analysed)
        mean = pixels.mean(0)
        pixels -= mean
        count = min(nz, len(pixels) - 1, pixels.shape[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**32)
            rank = min(count + OVERSAMPLED, *pixels.shape)
            directions = torch.svd_lowrank(pixels, rank, ITERATIONS)[2][:, :count]
        deviations = (pixels @ directions).norm(dim=0) / max(len(pixels) - 1, 1) ** 0.5
        scores = _reduced(data, torch.arange(len(data)), directions) - mean @ directions
        self._latents = scores / deviations.clamp_min(MIN_DEVIATION)
        group.broadcast([self._latents])

    def sample(self, items: Tensor, draws: torch.Generator) -> Tensor:
        """The latents (n, nz) of these items with a little noise; entries beyond the components are noise alone."""
        noise = torch.randn(len(items), self._nz, generator=draws)
        own = self._latents[items]
        return torch.cat([own + JITTER_STD * noise[:, : own.shape[1]], noise[:, own.shape[1] :]], 1)


def _reduced(data: ResidentData, items: Tensor, directions: Tensor | None = None) -> Tensor:
    """Items as rows of floats at SIDE_PX on the CPU, or their coordinates along `directions`."""
    rows = []
    for part in torch.split(items, LOADED_AT_ONCE):
        images = data.images(part)
        size = (min(SIDE_PX, images.shape[2]), min(SIDE_PX, images.shape[3]))
        small = functional.adaptive_avg_pool2d(images, size).flatten(1).cpu()
        rows.append(small if directions is None else small @ directions)
    return torch.cat(rows)

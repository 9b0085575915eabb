"""Networks by name, and their weights in safetensors with a header that says what they are."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atelier.errors import AtelierError
from atelier.networks.dcgan import DcganDiscriminator, DcganGenerator
from atelier.networks.r3gan import R3ganDiscriminator, R3ganGenerator
from atelier.networks.sketch import SketchDiscriminator, SketchGenerator
from atelier.networks.weights import are_weights_of, read_weights, save_weights

FORMAT = "atelier-model/1"


@dataclass(frozen=True)
class NetworkConfig:
    """What is needed to build a pair of networks: `settings` are the keys of params.yaml's `train.<arch>`."""

    arch: str
    resolution: int
    settings: dict[str, Any] = field(default_factory=dict)


def make_networks(config: NetworkConfig) -> tuple[nn.Module, nn.Module]:
    """A generator (B, inputs) or (B, inputs, h, w) → (B, 3, H, W) in [−1, 1]; a discriminator (B, 3, H, W) → (B,).

    H and W are the resolution for one latent; what a field of them makes, and how strictly [−1, 1] is kept, the
    generators say. Every discriminator can be differentiated twice. Weights are drawn from torch's global generator.
    Raises AtelierError for an unknown architecture or setting.
    """
    return _made(config, _generator), _made(config, _discriminator)


def save_network(path: Path, network: nn.Module, config: NetworkConfig, facts: dict[str, Any]) -> None:
    """Write weights and buffers with a header of `config` and `facts` (kimg, seed, versions, …), byte-stable."""
    save_weights(path, network.state_dict(), FORMAT, {**facts, **asdict(config)})


def load_generator(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """The generator of a `generator.safetensors`, in eval mode without gradients, and its header.

    Raises AtelierError where the file is absent, damaged, or not one of ours.
    """
    return _loaded(path, _generator, device)


def load_discriminator(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """The same of a `discriminator.safetensors`; its batch norms use what training has shown them."""
    return _loaded(path, _discriminator, device)


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of a model file. Raises AtelierError where it is absent, damaged, or not one of ours."""
    return read_weights(path, FORMAT, {"arch", "resolution", "settings"}, "train")


def _loaded(
    path: Path, build: Callable[[NetworkConfig], nn.Module], device: torch.device | str
) -> tuple[nn.Module, dict[str, Any]]:
    header, tensors = read_model(path)
    config = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    if not are_weights_of(lambda: _made(config, build), tensors):
        raise AtelierError(
            f"{path} does not hold the weights of its {config.arch}: it is damaged, or was altered"
        )
    with torch.random.fork_rng():  # building draws weights that are replaced at once
        network = _made(config, build)
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False).to(device), header


def _made(config: NetworkConfig, build: Callable[[NetworkConfig], nn.Module]) -> nn.Module:
    try:
        return build(config)
    except (KeyError, TypeError, ValueError) as error:
        # torch adds where it was in C++
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AtelierError(
            f"the model's settings {config.settings} do not fit {config.arch}: {said}"
        ) from None


def _generator(config: NetworkConfig) -> nn.Module:
    resolution, settings = config.resolution, config.settings
    match config.arch:
        case "dcgan":
            return DcganGenerator(resolution, settings["nz"], settings["ngf"])
        case "r3gan":
            return R3ganGenerator(resolution, settings["preset"], settings["nz"])
        case "sketch":
            return SketchGenerator(resolution, settings["nz"], settings["ngf"], settings.get("noise"))
    raise _unknown(config)


def _discriminator(config: NetworkConfig) -> nn.Module:
    resolution, settings = config.resolution, config.settings
    match config.arch:
        case "r3gan":
            return R3ganDiscriminator(resolution, settings["preset"])
        case "sketch":
            return SketchDiscriminator(resolution, settings["ndf"])
        case "dcgan":
            return DcganDiscriminator(resolution, settings["ndf"])
    raise _unknown(config)


def _unknown(config: NetworkConfig) -> AtelierError:
    return AtelierError(
        f"the model's architecture is {config.arch!r}; this version knows dcgan, r3gan, sketch"
    )

"""Networks by the name of their architecture, and files of their weights."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.networks.dcgan import DcganDiscriminator, DcganGenerator
from atelier.networks.r3gan import R3ganDiscriminator, R3ganGenerator
from atelier.networks.sketch import SketchDiscriminator, SketchGenerator
from atelier.networks.weights import create_network, read_weights, save_weights, weights_match

FORMAT = "atelier-model/1"


@dataclass(frozen=True)
class NetworkConfig:
    """The architecture of a generator and a discriminator; `settings` are those of `train.<arch>` in params.yaml."""

    arch: str
    resolution: int
    settings: dict[str, Any] = field(default_factory=dict)


def make_networks(config: NetworkConfig) -> tuple[nn.Module, nn.Module]:
    """Create a generator and a discriminator with random weights from torch's global generator.

    The generator maps latents (B, inputs), or fields of them (B, inputs, h, w), to images (B, 3, H, W) in about
    [−1, 1]; for single latents H and W are the resolution. The discriminator maps images to logits (B,) and can be
    differentiated twice. Raises AtelierError for an unknown architecture or setting.
    """
    return _build(config, _generator), _build(config, _discriminator)


def weights_fit(config: NetworkConfig, generator: dict[str, Tensor], discriminator: dict[str, Tensor] | None) -> bool:
    """Whether these tensors have the names and shapes of the networks' weights; None fits any discriminator."""
    return weights_match(lambda: _build(config, _generator), generator) and (
        discriminator is None or weights_match(lambda: _build(config, _discriminator), discriminator)
    )


def save_network(path: Path, network: nn.Module, config: NetworkConfig, facts: dict[str, Any]) -> None:
    """Write weights and buffers with a header of `config` and `facts`. Equal content gives equal bytes."""
    save_weights(path, network.state_dict(), FORMAT, {**facts, **asdict(config)})


def load_generator(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Load a generator.safetensors: the network, in eval mode without gradients, and the file's header.

    Raises AtelierError where the file is missing, damaged, or not written by `save_network`.
    """
    return _load(path, _generator, device)


def load_discriminator(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Load a discriminator.safetensors, as `load_generator`."""
    return _load(path, _discriminator, device)


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header and tensors of a model file. Raises AtelierError as `load_generator`."""
    return read_weights(path, FORMAT, {"arch", "resolution", "settings"}, "train")


def _load(
    path: Path, constructor: Callable[[NetworkConfig], nn.Module], device: torch.device | str
) -> tuple[nn.Module, dict[str, Any]]:
    header, tensors = read_model(path)
    config = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    network = create_network(lambda: _build(config, constructor), tensors)
    if network is None:
        raise AtelierError(f"{path} does not hold the weights of its {config.arch}: it is damaged, or was altered")
    return network.eval().requires_grad_(False).to(device), header


def _build(config: NetworkConfig, constructor: Callable[[NetworkConfig], nn.Module]) -> nn.Module:
    """Call the constructor. Raises AtelierError for settings that it does not accept."""
    try:
        return constructor(config)
    except (KeyError, TypeError, ValueError) as error:
        # the first line, because torch appends a C++ traceback
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AtelierError(f"the model's settings {config.settings} do not fit {config.arch}: {said}") from None


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
    return AtelierError(f"the model's architecture is {config.arch!r}; this version knows dcgan, r3gan, sketch")

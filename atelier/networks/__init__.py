"""Networks by name, and their weights in safetensors with a header that says what they are."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atelier.errors import AtelierError
from atelier.networks.dcgan import DcganDiscriminator, DcganGenerator
from atelier.networks.r3gan import R3ganDiscriminator, R3ganGenerator
from atelier.networks.sketch import SketchDiscriminator, SketchGenerator
from atelier.weights import read_weights, save_weights

FORMAT = "atelier-model/1"


@dataclass(frozen=True)
class NetworkConfig:
    """What is needed to build a pair of networks: `settings` are the keys of params.yaml's `train.<arch>`."""

    arch: str
    resolution: int
    settings: dict[str, Any] = field(default_factory=dict)


def make_networks(config: NetworkConfig) -> tuple[nn.Module, nn.Module]:
    """A generator (B, nz) or (B, nz, h, w) → (B, 3, H, W) in [−1, 1], and its discriminator (B, 3, H, W) → (B,) logits.

    H and W are the resolution for one latent; what a field of them makes, and how strictly [−1, 1] is kept, the
    generators say. Every discriminator can be differentiated twice. Weights are drawn from torch's global generator.
    Raises AtelierError for an unknown architecture or setting.
    """
    resolution, settings = config.resolution, config.settings
    try:
        match config.arch:
            case "dcgan":
                nz, ngf, ndf = (settings[name] for name in ("nz", "ngf", "ndf"))
                return DcganGenerator(resolution, nz, ngf), DcganDiscriminator(resolution, ndf)
            case "r3gan":
                preset, nz = settings["preset"], settings["nz"]
                return R3ganGenerator(resolution, preset, nz), R3ganDiscriminator(resolution, preset)
            case "sketch":
                nz, ngf, ndf = (settings[name] for name in ("nz", "ngf", "ndf"))
                return SketchGenerator(resolution, nz, ngf), SketchDiscriminator(resolution, ndf)
    except (KeyError, TypeError, ValueError) as error:
        raise AtelierError(f"the model's settings {settings} do not fit {config.arch}: {error}") from None
    raise AtelierError(
        f"the model's architecture is {config.arch!r}; this version knows dcgan, r3gan, sketch"
    )


def save_network(path: Path, network: nn.Module, config: NetworkConfig, facts: dict[str, Any]) -> None:
    """Write weights and buffers with a header of `config` and `facts` (kimg, seed, versions, …), byte-stable."""
    save_weights(path, network.state_dict(), FORMAT, {**facts, **asdict(config)})


def load_generator(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """The generator of a `generator.safetensors`, in eval mode without gradients, and its header.

    Raises AtelierError where the file is absent, damaged, or not one of ours.
    """
    header, tensors = read_model(path)
    config = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    with torch.random.fork_rng():  # building draws weights that are replaced at once
        generator, _ = make_networks(config)
    try:
        generator.load_state_dict(tensors)
    except RuntimeError as error:
        raise AtelierError(f"{path} does not hold the weights of its {config.arch}: {error}") from None
    return generator.eval().requires_grad_(False).to(device), header


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of a model file. Raises AtelierError where it is absent, damaged, or not one of ours."""
    return read_weights(path, FORMAT, {"arch", "resolution", "settings"}, "train")

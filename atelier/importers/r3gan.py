"""Read the networks in a snapshot of R3GAN's program (Huang et al., arXiv 2501.05441), as published for FFHQ.

The file is a pickle of a dict with the networks G, D and G_ema (the averaged generator), and the optimisers' states.
Atelier's R3GAN has the same layers under other names, in float32; theirs runs the finer half in bfloat16 on a GPU.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atelier.errors import AtelierError
from atelier.importers.pickled import PickledTensor, Record, read_pickle
from atelier.networks import NetworkConfig, weights_fit
from atelier.networks.r3gan import PRESETS
from atelier.pictures import BASE_SIDE

# of R3GAN's repository, under its name then and now
CLASSES = {
    *(f"training.{module}.{name}" for module in ("networks", "networks_baseline")
      for name in ("Generator", "Discriminator")),
    *(f"{package}.{name}" for package in ("R3GAN", "BaselineGAN") for name in (
        "Networks.Generator", "Networks.Discriminator", "Networks.GeneratorStage", "Networks.DiscriminatorStage",
        "Networks.GenerativeBasis", "Networks.DiscriminativeBasis", "Networks.UpsampleLayer",
        "Networks.DownsampleLayer", "Networks.ResidualBlock", "Networks.Convolution",
        "FusedOperators.BiasedActivationCUDA", "FusedOperators.BiasedActivationReference",
        *(f"Resamplers.Interpolative{way}sampler{kind}" for way in ("Up", "Down") for kind in ("CUDA", "Reference")),
    )),
    "torch.nn.modules.container.ModuleList", "torch.nn.modules.conv.Conv2d", "torch.nn.modules.linear.Linear",
    # numbers of the settings that are stored beside the networks
    "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
}  # fmt: skip
MAX_MODULES = 5_000  # of one network; R3GAN's of 256 px has about 130
MAX_NAME = 200  # characters of a module's name within the network
MAX_TENSORS = 1_000  # of one network; R3GAN's of 256 px has about 80
LAYER = re.compile(r"Model\.MainLayers\.([0-9])\.Layers\.([0-9]{1,2})\.([A-Za-z0-9.]+)")
BLOCK = {
    "LinearLayer1.Layer.weight": "widen.weight", "NonLinearity1.Bias": "widen.bias",
    "LinearLayer2.Layer.weight": "mix.weight", "NonLinearity2.Bias": "mix.bias",
    "LinearLayer3.Layer.weight": "narrow.weight",
}  # fmt: skip
RESAMPLE = {"LinearLayer.Layer.weight": "channels.weight"}
KERNEL = "Resampler.Kernel"

LICENCE = "none is named; NVIDIA Source Code License for StyleGAN3 and CC BY-NC-SA 4.0 (FFHQ) may apply"
LICENCE_TEXT = """\
The licence of R3GAN's published weights:
- Their authors name no licence for code and weights. They write that the code is built on StyleGAN3, whose licence
  does not let them choose another: https://github.com/brownvc/R3GAN/issues/13
- NVIDIA Source Code License for StyleGAN3: use of the work and of works derived from it for research or evaluation
  only, not commercially: https://github.com/NVlabs/stylegan3/blob/main/LICENSE.txt
- The faces of FFHQ, from which the weights were learnt, are under CC BY-NC-SA 4.0: not commercially, with the source
  named, and what is derived under the same licence: https://github.com/NVlabs/ffhq-dataset#licenses
Whether these terms reach weights, models trained from them and their pictures is not settled. Whoever trained the
weights in another file chose their licence."""


@dataclass(frozen=True)
class ImportedPair:
    """A generator and a discriminator that were imported, with their weights under Atelier's names."""

    config: NetworkConfig
    generator: dict[str, Tensor]
    discriminator: dict[str, Tensor] | None


def networks_of_r3gan(content: bytes) -> ImportedPair:
    """Read the averaged generator and the discriminator, if it has one, of a snapshot.

    Raises AtelierError where it is damaged, has code or other objects than R3GAN's, is conditional, or its widths are
    those of no preset.
    """
    snapshot = read_pickle(content, CLASSES)
    if not isinstance(snapshot, dict) or not isinstance(snapshot.get("G_ema"), Record):
        raise AtelierError("it contains no generator under the name G_ema")
    if isinstance(classes := snapshot["G_ema"].fields.get("c_dim"), int) and classes > 0:
        raise AtelierError(
            f"its generator paints {classes} classes, and only those without classes are read: FFHQ's of 64 and 256 px"
        )
    generator, resolution = _generator(_state(snapshot["G_ema"], len(content)))
    rival = snapshot.get("D")
    discriminator = _discriminator(_state(rival, len(content))) if isinstance(rival, Record) else None
    for preset in PRESETS:
        settings = {"preset": preset, "nz": generator["project.weight"].shape[1]}
        config = NetworkConfig("r3gan", resolution, settings)
        if weights_fit(config, generator, discriminator):
            return ImportedPair(config, generator, discriminator)
    raise AtelierError(
        f"its generator of {resolution} px begins with {generator['basis'].shape[0]} channels, and its widths or "
        f"blocks are not those of one of the presets {', '.join(PRESETS)}; L is that of FFHQ at 64 and 256 px"
    )


def _generator(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """The weights of Atelier's generator, and its resolution in px."""
    aggregation = _taken(state, "Model.AggregationLayer.Layer.weight", 4)
    (base, *blocks), *finer = _stages(state)
    embedding = _taken(base, "LinearLayer.weight", 2)
    weights = {"basis": _taken(base, "Basis", 3), "project.weight": embedding[:, :, None, None]}
    _check_empty(base)
    layers = [_renamed(block, BLOCK) for block in blocks]
    for up, *blocks in finer:
        layers += [_resampled(up), *(_renamed(block, BLOCK) for block in blocks)]
    return weights | _numbered([*layers, {"weight": aggregation}]), BASE_SIDE * 2 ** len(finer)


def _discriminator(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of Atelier's discriminator."""
    layers = [{"weight": _taken(state, "Model.ExtractionLayer.Layer.weight", 4)}]
    *finer, (*blocks, base) = _stages(state)
    for *before, down in finer:
        layers += [*(_renamed(block, BLOCK) for block in before), _resampled(down)]
    layers += [_renamed(block, BLOCK) for block in blocks]
    logit = _taken(base, "LinearLayer.weight", 2)
    layers += [{"weight": _taken(base, "Basis.weight", 4)}, {"weight": logit[:, :, None, None]}]
    _check_empty(base)
    return _numbered(layers)


def _state(network: Record, file_bytes: int) -> dict[str, Tensor]:
    """The parameters and buffers of a network by their names, as finite float32 numbers.

    Raises AtelierError where they are not those of modules of PyTorch, or more than a file of this size contains.
    """
    found: dict[str, Tensor] = {}
    modules: list[tuple[str, Any]] = [("", network)]
    visited: set[int] = set()
    count = 0
    for prefix, module in modules:  # the list grows by the modules that each one contains
        if id(module) in visited or len(prefix) > MAX_NAME:
            raise AtelierError(f"{prefix[:MAX_NAME] or 'its network'} is no module of PyTorch")
        visited.add(id(module))
        parts: list[dict[Any, Any]] = []
        for kind in ("_parameters", "_buffers", "_modules"):
            part = module.fields.get(kind, {}) if isinstance(module, Record) else None
            if not isinstance(part, dict) or not all(isinstance(name, str) and len(name) <= MAX_NAME for name in part):
                raise AtelierError(f"{prefix or 'its network'} is no module of PyTorch")
            parts.append({name: value for name, value in part.items() if value is not None})
        for name, tensor in (parts[0] | parts[1]).items():
            if not isinstance(tensor, PickledTensor) or len(found) >= MAX_TENSORS:
                raise AtelierError(f"{prefix}{name} is no tensor of a network")
            found[f"{prefix}{name}"] = numbers = tensor.read().float()
            count += numbers.numel()
            if count > file_bytes // 2:  # a number has two bytes or more
                raise AtelierError("its tensors have more numbers than the file contains")
            if not bool(torch.isfinite(numbers).all()):
                raise AtelierError(f"{prefix}{name} has numbers that are not finite")
        modules += [(f"{prefix}{name}.", inner) for name, inner in parts[2].items()]
        if len(modules) > MAX_MODULES:
            raise AtelierError("its network has more modules than R3GAN's")
    return found


def _stages(state: dict[str, Tensor]) -> list[list[dict[str, Tensor]]]:
    """The tensors of each layer of each stage by their names in the layer. Raises AtelierError for other names."""
    stages: list[list[dict[str, Tensor]]] = []
    found: dict[tuple[int, int], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if not (match := LAYER.fullmatch(name)):
            raise AtelierError(f"it has {name[:80]!r}, which R3GAN's unconditional networks do not have")
        found.setdefault((int(match[1]), int(match[2])), {})[match[3]] = tensor
    for stage, layer in sorted(found):
        if layer == 0:
            stages.append([])
        if stage != len(stages) - 1 or layer != len(stages[-1]):
            raise AtelierError(f"it has no layer before Model.MainLayers.{stage}.Layers.{layer}")
        stages[-1].append(found[stage, layer])
    if len(stages) < 2:
        raise AtelierError("it has fewer stages than R3GAN's networks")
    return stages


def _resampled(layer: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a layer that changes the resolution. Raises AtelierError where its filter is another."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = _taken(layer, KERNEL, 2)
    if kernel.shape != (4, 4) or not torch.allclose(kernel, torch.outer(line, line) / 64, rtol=0, atol=1e-6):
        raise AtelierError("its resampling filter is not [1, 3, 3, 1] / 8 along each axis, which Atelier's R3GAN uses")
    return _renamed(layer, RESAMPLE, required=False)


def _renamed(layer: dict[str, Tensor], names: Mapping[str, str], required: bool = True) -> dict[str, Tensor]:
    """The layer's tensors under Atelier's names. Raises AtelierError for other names, and where one is missing."""
    if layer.keys() - names.keys() or (required and names.keys() - layer.keys()):
        raise AtelierError(
            f"a layer has {', '.join(sorted(layer))}; R3GAN's has {', '.join(sorted(names))} at its place"
        )
    return {names[name]: tensor for name, tensor in layer.items()}


def _taken(layer: dict[str, Tensor], name: str, dimensions: int) -> Tensor:
    """Take a tensor out of the layer. Raises AtelierError where it is missing or has other dimensions."""
    tensor = layer.pop(name, None)
    if tensor is None or tensor.ndim != dimensions:
        raise AtelierError(f"it has no {name} of {dimensions} dimensions, which R3GAN's networks have")
    return tensor


def _check_empty(layer: dict[str, Tensor]) -> None:
    if layer:
        raise AtelierError(f"it has {', '.join(sorted(layer))} in a layer where R3GAN's networks do not")


def _numbered(layers: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The weights of `layers` in Atelier's networks."""
    return {f"layers.{place}.{name}": tensor for place, layer in enumerate(layers) for name, tensor in layer.items()}

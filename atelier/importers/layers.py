"""Convert the layers of a DCGAN from another program to the weights of Atelier's DCGAN.

Parameters that Atelier's layers lack (a bias before a batch norm, another eps) are folded into others, if the
network's function stays the same; otherwise AtelierError names the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, make_networks

EPS = 1e-5  # of nn.BatchNorm2d
KERNEL = 4
MIN_CONVOLUTIONS, MAX_CONVOLUTIONS = 4, 8  # 32 px and 512 px

Role = Literal["generator", "discriminator"]


@dataclass(frozen=True)
class Convolution:
    """A convolution. Transposed ones have weights (in, out, 4, 4), others (out, in, 4, 4)."""

    where: str  # its place in the file, for messages
    transposed: bool
    weight: Tensor
    bias: Tensor | None = None
    stride: int = 0  # 0 if the file does not contain it
    padding: int = 0

    @property
    def channels(self) -> tuple[int, int]:
        """The numbers of input and output channels."""
        first, second = self.weight.shape[:2]
        return (first, second) if self.transposed else (second, first)


@dataclass(frozen=True)
class Norm:
    """A batch norm and its running statistics. `where` is its place in the file, for messages."""

    where: str
    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    eps: float = EPS


Layer = Convolution | Norm


@dataclass(frozen=True)
class Imported:
    """A network that was imported: its sizes, and its weights under Atelier's names. `nz` is 0 for a discriminator."""

    role: Role
    resolution: int
    nz: int
    width: int
    weights: dict[str, Tensor]


def fit(layers: Sequence[Layer]) -> Imported:
    """Convert the layers of a DCGAN that have weights, from first to last.

    Raises AtelierError with the layer's place if they are not those of a network by Soumith's or Barrat's code.
    """
    convolutions = [layer for layer in layers if isinstance(layer, Convolution)]
    if not MIN_CONVOLUTIONS <= len(convolutions) <= MAX_CONVOLUTIONS:
        raise AtelierError(
            f"it has {len(convolutions)} convolutions; a DCGAN has {MIN_CONVOLUTIONS} (32 px) to "
            f"{MAX_CONVOLUTIONS} (512 px)"
        )
    role: Role = "generator" if convolutions[0].transposed else "discriminator"
    blocks = _blocks(layers, role)
    innermost = convolutions[0 if role == "generator" else -1]
    for convolution in convolutions:
        _check_geometry(convolution, role, convolution is innermost)
    width, nz = _widths(convolutions, role)
    resolution = 4 * 2 ** (len(convolutions) - 1)
    with torch.device("meta"):  # without memory for weights
        sizes = NetworkConfig("dcgan", resolution, {"nz": max(nz, 1), "ngf": width, "ndf": width})
        generator, discriminator = make_networks(sizes)
    sources: list[Layer] = []
    for convolution, norm in blocks:
        if norm:
            sources += [convolution, _folded(convolution, norm)]
        elif convolution.bias is None or not convolution.bias.any():
            sources.append(convolution)
        else:
            raise AtelierError(
                f"{convolution.where} adds a bias without a batch norm behind it, and Atelier's DCGAN has no biases"
            )
    modules = (generator if role == "generator" else discriminator).named_modules()
    places = [(name, one) for name, one in modules if isinstance(one, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d))]
    weights: dict[str, Tensor] = {}
    for (name, module), source in zip(places, sources, strict=True):
        weights |= {f"{name}.{key}": value for key, value in _tensors(source, module).items()}
    return Imported(role, resolution, nz, width, weights)


def _blocks(layers: Sequence[Layer], role: Role) -> list[tuple[Convolution, Norm | None]]:
    """The convolutions, each with the batch norm after it, if both are where a DCGAN has them."""
    blocks: list[tuple[Convolution, Norm | None]] = []
    for layer in layers:
        if isinstance(layer, Convolution):
            blocks.append((layer, None))
        elif blocks and blocks[-1][1] is None:
            blocks[-1] = blocks[-1][0], layer
        else:
            raise AtelierError(f"{layer.where} follows no convolution")
    for place, (convolution, norm) in enumerate(blocks):
        bare = place == len(blocks) - 1 or (place == 0 and role == "discriminator")
        if (norm is None) != bare:
            word = "a batch norm where a DCGAN has none" if bare else "no batch norm where a DCGAN has one"
            raise AtelierError(f"{convolution.where} has {word}")
    return blocks


def _check_geometry(layer: Convolution, role: Role, innermost: bool) -> None:
    """Raise AtelierError unless the sizes are a DCGAN's; `innermost` is the one between one cell and 4×4 cells."""
    if layer.transposed != (role == "generator"):
        raise AtelierError(
            f"{layer.where} changes the resolution in the other direction than the first convolution of this {role}"
        )
    if layer.weight.ndim != 4 or tuple(layer.weight.shape[2:]) != (KERNEL, KERNEL) or not layer.weight.numel():
        raise AtelierError(f"{layer.where} has weights of {_shape(layer.weight.shape)}; a DCGAN's end in 4×4")
    expected = (1, 0) if innermost else (2, 1)
    if layer.stride and (layer.stride, layer.padding) != expected:
        raise AtelierError(
            f"{layer.where} has stride {layer.stride} and padding {layer.padding}; "
            f"a DCGAN's has {expected[0]} and {expected[1]}"
        )


def _widths(convolutions: Sequence[Convolution], role: Role) -> tuple[int, int]:
    """The network's width and latent size (0 for a discriminator), from which the channels of all layers follow."""
    ordered = convolutions if role == "generator" else convolutions[::-1]
    inward = [layer.channels if role == "generator" else layer.channels[::-1] for layer in ordered]
    width, nz = inward[-1][0], inward[0][0]
    widths = [width * 2**step for step in reversed(range(len(ordered) - 1))]
    for layer, found, wanted in zip(ordered, inward, zip((nz, *widths), (*widths, 3), strict=True), strict=True):
        if found != wanted:
            raise AtelierError(
                f"{layer.where} joins {found[0]} and {found[1]} channels; in a DCGAN of width {width} and "
                f"{len(ordered)} layers it joins {wanted[0]} and {wanted[1]}"
            )
    if role == "discriminator" and nz != 1:
        raise AtelierError(f"{ordered[0].where} gives {nz} numbers a picture; a DCGAN's discriminator gives one")
    return width, nz if role == "generator" else 0


def _folded(convolution: Convolution, norm: Norm) -> Norm:
    """The batch norm with EPS, and with the convolution's bias subtracted from its mean: the same function."""
    mean, variance = norm.mean.double(), norm.variance.double() + (norm.eps - EPS)
    if convolution.bias is not None:
        if convolution.bias.shape != mean.shape:
            raise AtelierError(f"{convolution.where} has a bias of {_shape(convolution.bias.shape)} numbers")
        mean = mean - convolution.bias.double()
    if not bool((variance >= 0).all()):
        raise AtelierError(f"{norm.where} has a negative variance")
    return Norm(norm.where, norm.weight, norm.bias, mean, variance)


def _tensors(source: Layer, module: nn.Module) -> dict[str, Tensor]:
    """A layer's tensors under the names in `module`, in float32, if they are finite and of the shapes there."""
    found = {"weight": source.weight}
    if isinstance(source, Norm):
        found |= {"bias": source.bias, "running_mean": source.mean, "running_var": source.variance}
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items() if tensor.ndim}
    for name, tensor in found.items():
        if tensor.shape != wanted[name]:
            raise AtelierError(
                f"{source.where} has {name} of {_shape(tensor.shape)}; a DCGAN of this size has {_shape(wanted[name])}"
            )
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor.float()).all()):
            raise AtelierError(f"{source.where} has {name} that are no finite float32 numbers")
    tensors = {name: tensor.float().contiguous() for name, tensor in found.items()}
    if isinstance(source, Norm):
        tensors["num_batches_tracked"] = torch.tensor(0)
    return tensors


def _shape(shape: torch.Size) -> str:
    return "×".join(map(str, shape)) or "one number"

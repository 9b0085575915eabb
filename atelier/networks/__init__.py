"""Networks by the name of their architecture, and their weights in safetensors files with a JSON header."""

import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from atelier.errors import AtelierError
from atelier.files import replacing
from atelier.networks.dcgan import DcganDiscriminator, DcganGenerator, SketchGenerator
from atelier.networks.labels import EMBEDDING, LABEL_SETTINGS, Discriminator, Labels
from atelier.networks.latent_field import FieldGenerator, Network
from atelier.networks.projected import BothDiscriminators, FeatureDiscriminator
from atelier.networks.r3gan import R3ganDiscriminator, R3ganGenerator
from atelier.pictures import CELLS, SQUARE, Cells, picture_size

FORMAT = "atelier-model/1"
KEY = "atelier"  # a single key, because safetensors writes several in an order that differs between processes
# of a network's `layers`, so many at the picture's end lie between features and pictures
PICTURE_LAYERS = {"dcgan": 2, "r3gan": 1, "sketch": 2}
OWN = "own"  # the kind of discriminator whose file does not name it
GROWTH = (2, 4)  # factors of the resolution by which a network may grow
INITIALISERS = {"normal_", "uniform_", "fill_", "zero_"}

Constructors = Mapping[str, Callable[[int, dict[str, Any]], Network]]  # of the resolution and the settings

GENERATORS: Constructors[FieldGenerator] = {
    "dcgan": lambda px, s: DcganGenerator(px, s["nz"], s["ngf"], Labels.from_settings(s), _cells(s)),
    "r3gan": lambda px, s: R3ganGenerator(px, s["preset"], s["nz"], Labels.from_settings(s), _cells(s)),
    "sketch": lambda px, s: SketchGenerator(px, s["nz"], s["ngf"], s.get("noise"), Labels.from_settings(s), _cells(s)),
}
DISCRIMINATORS: Constructors[Discriminator] = {
    "dcgan": lambda px, s: DcganDiscriminator(px, s["ndf"], Labels.from_settings(s), _cells(s)),
    "r3gan": lambda px, s: R3ganDiscriminator(px, s["preset"], Labels.from_settings(s), _cells(s)),
    "sketch": lambda px, s: DcganDiscriminator(px, s["ndf"], Labels.from_settings(s), _cells(s)),
}


@dataclass(frozen=True)
class NetworkConfig:
    """The architecture of a generator and a discriminator.

    `settings` are those of `train.<arch>` in params.yaml; with labels, also those of `Labels.settings`; for pictures
    that are not square, also `aspect`, a key of `atelier.pictures.CELLS`.
    """

    arch: str
    resolution: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> Labels | None:
        """The classes of the networks, if they have any. Raises AtelierError where the settings are damaged."""
        try:
            return Labels.from_settings(self.settings)
        except ValueError as error:
            raise AtelierError(f"the model's settings are damaged: {error}") from None

    @property
    def classes(self) -> tuple[str, frozenset[str]] | None:
        """The kind of the labels and their names, in no order; None without any."""
        return (self.labels.kind, frozenset(self.labels.names)) if self.labels else None

    def with_labels(self, labels: Labels | None) -> Self:
        """The same networks with these classes in place of their own, or without any."""
        own = {name: value for name, value in self.settings.items() if name not in LABEL_SETTINGS}
        return replace(self, settings={**own, **(labels.settings() if labels else {})})

    @property
    def aspect(self) -> str:
        """The shape of the pictures."""
        return str(self.settings.get("aspect", SQUARE))

    def with_aspect(self, aspect: str) -> Self:
        """The same networks for pictures of this shape."""
        own = {name: value for name, value in self.settings.items() if name != "aspect"}
        return replace(self, settings=own if aspect == SQUARE else {**own, "aspect": aspect})


def make_networks(config: NetworkConfig, discriminator: str = OWN) -> tuple[FieldGenerator, nn.Module]:
    """Create a generator and a discriminator with random weights from torch's global generator.

    The generator maps latents (B, inputs), or fields of them (B, inputs, h, w), to images (B, 3, H, W) in about
    [−1, 1]; for single latents H and W are those of one picture. The discriminator maps images of that size, and with
    labels their weights (B, classes), to logits (B,) and can be differentiated twice. `discriminator` is its kind: own,
    the architecture's; features, one over pretrained features, with several logits (B, n) an image; or both. Raises
    AtelierError for an unknown architecture or setting.
    """
    return _build(config, GENERATORS), _build(config, _discriminators(discriminator))


def size_of(header: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width in px of one picture of a network, by its file's header."""
    return picture_size(header["resolution"], header["settings"].get("aspect", SQUARE))


def weights_fit(
    config: NetworkConfig, generator: dict[str, Tensor], discriminator: dict[str, Tensor] | None, kind: str = OWN
) -> bool:
    """Whether these tensors have the names and shapes of the networks' weights; None fits any discriminator.

    `kind` is the discriminator's, as in `make_networks`.
    """
    if not _fits(_build_without_memory(lambda: _build(config, GENERATORS)), generator):
        return False
    if discriminator is None:
        return True
    return _fits(_build_without_memory(lambda: _build(config, _discriminators(kind))), discriminator)


def settings_to_grow(found: NetworkConfig, resolution: int, with_discriminator: bool) -> dict[str, Any] | None:
    """The settings with which a network of `resolution` has the layers of a smaller one, `found`, as its coarse layers.

    Those of R3GAN are equal: its widths follow from the size of a layer in px. The widths of DCGAN and sketch double
    with each coarser step, so twice the resolution takes half of `ngf` and of `ndf`. Sketch's `noise` belongs to its
    finest layers and is left out, as is `ndf` without a discriminator, and the pictures' shape.
    Returns None where a width cannot be divided.
    """
    factor, settings = resolution // found.resolution, found.with_aspect(SQUARE).settings.copy()
    settings.pop("noise", None)
    if not with_discriminator:
        settings.pop("ndf", None)
    for width in settings.keys() & {"ngf", "ndf"}:
        if settings[width] % factor:
            return None
        settings[width] //= factor
    return settings


def fitting_weights(
    config: NetworkConfig, found: NetworkConfig, generator: dict[str, Tensor], discriminator: dict[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """The weights that networks of `config` take over from those of `found`, which are smaller or of another shape.

    They are named as in the networks of `config`. As in progressive growing (arXiv 1710.10196), a larger generator has
    further layers between the finest features and the picture, and a larger discriminator between the picture and its
    finest features. The layers that turn features into pictures and pictures into features are left out, and so are the
    noise maps of sketch, because the larger networks have others. `config` then has the settings of `settings_to_grow`.

    Where the pictures have another shape, the weights that belong to single base cells are left out: the generator's
    first and the discriminator's last ones.
    """
    return (
        _coarse_layers(config, found, GENERATORS, generator),
        None if discriminator is None else _coarse_layers(config, found, DISCRIMINATORS, discriminator),
    )


def save_network(path: Path, network: nn.Module, config: NetworkConfig, facts: dict[str, Any]) -> None:
    """Write weights and buffers with a header of `config` and `facts`. Equal content gives equal bytes."""
    save_weights(path, network.state_dict(), FORMAT, {**facts, **asdict(config)})


def load_generator(path: Path, device: torch.device | str = "cpu") -> tuple[FieldGenerator, dict[str, Any]]:
    """Load a generator.safetensors: the network, in eval mode without gradients, and the file's header.

    Raises AtelierError where the file is missing, damaged, or not written by `save_network`.
    """
    return _load(path, GENERATORS, device)


def load_discriminator(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Load a discriminator.safetensors of any kind, as `load_generator`."""
    return _load(path, _discriminators(read_model(path)[0].get("discriminator", OWN)), device)


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header and tensors of a generator's or discriminator's file; errors as in `load_generator`."""
    header, tensors = read_weights(path, FORMAT, {"arch", "resolution", "settings"}, "train")
    if not isinstance(header["settings"], dict):
        raise AtelierError(f"{path} is not what `dvc repro train` makes: its settings are no settings of a network")
    return header, tensors


def save_weights(path: Path, tensors: Mapping[str, Tensor], format: str, header: Mapping[str, Any]) -> None:
    """Write tensors under their names, with `format` and `header`. Equal content gives equal bytes."""
    text = json.dumps({**header, "format": format}, sort_keys=True)
    write_tensors(path, tensors, {KEY: text})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically. Raises OSError where that fails, for example because the disk is full."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(stored, temporary, metadata=metadata)
        except SafetensorError as error:  # also raised for errors of the disk
            if not (number := re.search(r"os error (\d+)", str(error))):
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def read_weights(path: Path, format: str, keys: Set[str], stage: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header and tensors of a file of this `format` whose header has at least `keys`.

    Raises AtelierError, which names the `stage` that makes such files, where it is missing, damaged, or another.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise AtelierError(f"{path} is missing: `dvc repro {stage}` makes it") from None
    except SafetensorError as error:
        raise AtelierError(
            f"{path} is no whole safetensors file ({error}): `dvc repro {stage}` makes it again"
        ) from None
    try:
        header = json.loads(metadata[KEY])
        if header["format"] != format or not keys <= header.keys():
            raise KeyError
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError):
        raise AtelierError(f"{path} is not what `dvc repro {stage}` makes: it has no {format} header") from None
    return header, tensors


def create_network(build: Callable[[], Network], tensors: Mapping[str, Tensor]) -> Network | None:
    """Create the network that `build` describes with copies of these weights, and without drawing random ones.

    Returns None where the names or shapes of the tensors differ. torch's random state does not change.
    """
    network = _build_without_memory(build)
    if network is None or not _fits(network, tensors):
        return None
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    # copies, because safetensors maps the file into memory
    network.load_state_dict({name: tensor.to(types[name], copy=True) for name, tensor in tensors.items()}, assign=True)
    return network


def _load(
    path: Path, constructors: Constructors[Network], device: torch.device | str
) -> tuple[Network, dict[str, Any]]:
    header, tensors = read_model(path)
    config = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    network = create_network(lambda: _build(config, constructors), tensors)
    if network is None:
        raise AtelierError(f"{path} does not hold the weights of its {config.arch}: it is damaged, or was altered")
    return network.eval().requires_grad_(False).to(device), header


def _cells(settings: Mapping[str, Any]) -> Cells:
    return CELLS[settings.get("aspect", SQUARE)]


def _discriminators(kind: str) -> Constructors[nn.Module]:
    """The constructors of discriminators of one kind. Raises AtelierError for an unknown one."""
    if kind == OWN:
        return DISCRIMINATORS
    if kind == "features":
        return {arch: lambda px, s: FeatureDiscriminator(Labels.from_settings(s)) for arch in DISCRIMINATORS}
    if kind == "both":
        return {arch: functools.partial(_both, own) for arch, own in DISCRIMINATORS.items()}
    raise AtelierError(f"the discriminator is of the kind {kind!r}; this version has own, features, both")


def _both(own: Callable[[int, dict[str, Any]], nn.Module], px: int, settings: dict[str, Any]) -> nn.Module:
    return BothDiscriminators(own(px, settings), FeatureDiscriminator(Labels.from_settings(settings)))


def _build(config: NetworkConfig, constructors: Constructors[Network]) -> Network:
    if (construct := constructors.get(str(config.arch))) is None:
        known = ", ".join(constructors)
        raise AtelierError(f"the model's architecture is {config.arch!r}; this version has {known}")
    try:
        return construct(config.resolution, config.settings)
    except (KeyError, TypeError, ValueError) as error:
        # the first line, because torch appends a C++ traceback
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AtelierError(f"the model's settings {config.settings} do not fit {config.arch}: {said}") from None


def _build_without_memory(build: Callable[[], Network]) -> Network | None:
    """Build a network on the meta device, however large it would be; None for sizes that no tensor can have."""
    try:
        with torch.device("meta"), _WithoutInitialisation():
            return build()
    except (RuntimeError, OverflowError):
        return None


def _coarse_layers(
    config: NetworkConfig, found: NetworkConfig, constructors: Constructors[Network], tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The weights of one of the networks of `fitting_weights`."""
    small, large = (_build_without_memory(functools.partial(_build, each, constructors)) for each in (found, config))
    assert small is not None and large is not None
    picture, shapes = PICTURE_LAYERS[config.arch], {name: tensor.shape for name, tensor in large.state_dict().items()}
    before, after = (len([*network.get_submodule("layers").children()]) for network in (small, large))
    copied = {}
    for name, tensor in tensors.items():
        if name.startswith("layers.") and before != after:
            _, number, rest = name.split(".", 2)
            if constructors is DISCRIMINATORS:  # its layers are numbered from the picture
                if int(number) < picture:
                    continue
                name = f"layers.{int(number) + after - before}.{rest}"
            elif int(number) >= before - picture:
                continue
        # a label's vector has a part for each base cell, except in r3gan, and another shape has other cells
        if name == EMBEDDING and config.aspect != found.aspect and config.arch != "r3gan":
            continue
        if shapes.get(name) == tensor.shape:
            copied[name] = tensor
    return copied


def _fits(network: nn.Module | None, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors have the names and shapes of the network's weights."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return network is not None and shapes == {name: tensor.shape for name, tensor in network.state_dict().items()}


class _WithoutInitialisation(TorchFunctionMode):
    """Within this context weights are not initialised: on the meta device the first call imports for seconds."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in INITIALISERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)

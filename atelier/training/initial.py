"""The networks that a training starts from: those of a kept model, or of the base model in the repository."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.model_store import BASE, DISCRIMINATOR, GENERATOR, KEPT, content_hash
from atelier.networks import NetworkConfig, make_networks, read_model
from atelier.networks.weights import are_weights_of as are_tensors_of

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
        return BASE if network == BASE_NETWORK else None
    if init_from == "base":
        return BASE
    return Path(init_from) if init_from else None


def open_start(path: Path, network: NetworkConfig) -> Start:
    """The model at `path`, whole and unchanged, for a training of `network`.

    Raises AtelierError where it is absent or changed, or of another architecture, size or setting.
    """
    match = KEPT.fullmatch(path.name)
    if path == BASE and not (path / GENERATOR).is_file():
        raise AtelierError(
            f"{path}, the base model, is missing: `git checkout -- {path}` brings it back; or set train.init_from "
            "to null, to start from nothing"
        )
    if not match or not (path / GENERATOR).is_file():
        raise AtelierError(
            f"train.init_from: {path} is no model to start from: `atelier import FILE` makes one and says its name"
        )
    if content_hash(path) != match[2]:
        raise AtelierError(
            f"train.init_from: {path} was changed, its name does not fit it any more: "
            + (f"`git checkout -- {path}` brings it back" if path == BASE else "import it again")
        )
    header, generator = read_model(path / GENERATOR)
    rival = read_model(path / DISCRIMINATOR)[1] if (path / DISCRIMINATOR).is_file() else None
    found = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    lineage = {
        "generator_sha256": digest(path / GENERATOR),
        "discriminator_sha256": digest(path / DISCRIMINATOR) if rival else None,
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

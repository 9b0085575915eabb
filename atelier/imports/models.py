"""A file of somebody's becomes a model directory of ours. Raises AtelierError with the file's name in it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from atelier.errors import AtelierError
from atelier.files import digest, write_json
from atelier.imports.dcgan import Imported, Layer, fit
from atelier.imports.pytorch_dcgan import layers_of_pytorch
from atelier.imports.torch7_dcgan import layers_of_torch7
from atelier.kept import DISCRIMINATOR, FACTS, GENERATOR, NAME, keep_model
from atelier.networks import FORMAT, NetworkConfig, read_model
from atelier.start import are_weights_of
from atelier.weights import save_weights

READERS: dict[str, tuple[str, Callable[[bytes], list[Layer]]]] = {
    ".t7": ("torch7", layers_of_torch7),
    ".pth": ("pytorch", layers_of_pytorch),
    ".pt": ("pytorch", layers_of_pytorch),
}


def import_model(source: Path, rival: Path | None, folder: Path, name: str | None) -> Path:
    """The model directory in `folder` made of `source`: a `.t7` or `.pth` of a DCGAN, or a model of ours to keep.

    `rival` is the discriminator's file, where there is one; a model of ours has its own beside it.
    """
    if name is None:
        stem = (source.resolve() if source.is_dir() else source).stem.lower()
        name = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:40]
        name = name if NAME.fullmatch(name) else "model"
    if source.is_dir() or source.suffix == ".safetensors":
        if rival is not None:
            raise AtelierError(
                f"{source} is a model of ours, whose discriminator lies beside it: leave {rival} out"
            )
        return keep_model(folder, name, lambda directory: _copy(source, directory))
    generator = _read(source, "generator")
    discriminator = _read(rival, "discriminator") if rival else None
    if discriminator and discriminator.resolution != generator.resolution:
        raise AtelierError(
            f"{rival} is for {discriminator.resolution} px, {source} for {generator.resolution} px: no pair"
        )
    digests = {"generator": digest(source), "discriminator": digest(rival) if rival else None}
    return keep_model(
        folder, name, lambda directory: _write(directory, generator, discriminator, source, digests)
    )


def _read(path: Path, role: str) -> Imported:
    if path.suffix not in READERS:
        raise AtelierError(
            f"{path}: only {', '.join(READERS)}, .safetensors and model directories are imported"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AtelierError(f"{path} cannot be read: {error.strerror}") from None
    try:
        found = fit(READERS[path.suffix][1](content))
    except AtelierError as error:
        raise AtelierError(f"{path} is no DCGAN that can be imported: {error}") from None
    if found.role != role:
        hint = "give the generator first, this one as --discriminator" if role == "generator" else "it paints"
        raise AtelierError(f"{path} is a {found.role}, not a {role}: {hint}")
    return found


def _write(
    directory: Path,
    generator: Imported,
    discriminator: Imported | None,
    source: Path,
    digests: dict[str, str | None],
) -> None:
    # without a discriminator its width is anybody's: Barrat's share of the generator's
    ndf = discriminator.width if discriminator else max(1, generator.width // 4)
    described = {
        "arch": "dcgan",
        "resolution": generator.resolution,
        "settings": {"nz": generator.nz, "ngf": generator.width, "ndf": ndf},
        "imported": {"format": READERS[source.suffix][0], "sha256": digests},
    }
    save_weights(directory / GENERATOR, generator.weights, FORMAT, described)
    if discriminator:
        save_weights(directory / DISCRIMINATOR, discriminator.weights, FORMAT, described)
    _describe(directory, described)


def _copy(source: Path, directory: Path) -> None:
    """A model of ours, whole: whatever `dvc repro` does to data/model, the copy stays."""
    generator = source / GENERATOR if source.is_dir() else source
    header, painter = read_model(generator)
    opponent = None
    if (rival := generator.with_name(DISCRIMINATOR)).is_file():
        described, opponent = read_model(rival)
        if any(described[key] != header[key] for key in ("arch", "resolution", "settings")):
            raise AtelierError(
                f"{rival} is not the opponent of {generator}: move it away, or bring the right one"
            )
    network = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    if not are_weights_of(network, painter, opponent):
        raise AtelierError(
            f"{source} does not hold the weights of the {network.arch} that its header speaks of"
        )
    shutil.copyfile(generator, directory / GENERATOR)
    if opponent:
        shutil.copyfile(rival, directory / DISCRIMINATOR)
    _describe(directory, {key: value for key, value in header.items() if key != "format"})


def _describe(directory: Path, described: dict[str, object]) -> None:
    files = {f"{name.split('.')[0]}_sha256": name for name in (GENERATOR, DISCRIMINATOR)}
    hashes = {key: digest(directory / name) for key, name in files.items() if (directory / name).is_file()}
    write_json(directory / FACTS, {**described, **hashes})

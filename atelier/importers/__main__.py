"""Convert a model of another program to a model directory of Atelier's, or copy one of Atelier's.

`atelier import` runs this package as a process, because it needs PyTorch: `python -m atelier.importers`.
"""

import argparse
import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from atelier.errors import AtelierError, run_for_exit_code
from atelier.files import digest, write_json
from atelier.importers.dcgan import layers_of_pytorch, layers_of_torch7
from atelier.importers.layers import Imported, Layer, fit
from atelier.importers.r3gan import LICENCE, LICENCE_TEXT, networks_of_r3gan
from atelier.model_store import DISCRIMINATOR_FILE, FACTS_FILE, GENERATOR_FILE, MODEL_NAME, store_model
from atelier.networks import FORMAT, OWN, NetworkConfig, read_model, save_weights, weights_fit
from atelier.pictures import SQUARE
from atelier.text import open_regular

READERS: dict[str, Callable[[bytes], list[Layer]]] = {"torch7": layers_of_torch7, "pytorch": layers_of_pytorch}
# in lower or upper case; the content decides which format it is
EXTENSIONS = (".t7", ".pth", ".pt", ".pth.tar", ".pt.tar", ".ckpt")
SNAPSHOT = ".pkl"  # of R3GAN's program
# the first bytes of files that people take for a model, and what they are
OTHER_FILES = (
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml)", "an HTML page, which was downloaded instead of the file"),
    (rb"version https://git-lfs", "a Git LFS pointer: `git lfs pull` downloads the file itself"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|(?s:.{257})ustar", "an archive: unpack it and import the file inside"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes them; only networks of Torch7 and PyTorch are read"),
    (rb"(?s:.{8})\{\"", "a safetensors file: let its name end in .safetensors"),
    (rb"\s*[\[{]", "a JSON file"),
)  # fmt: skip
TORCH7 = re.compile(rb"[\0-\x08]\0\0\0|[0-9]\s")  # the kind of the first value, binary or ascii
PYTORCH = re.compile(rb"PK\x03\x04|PK\x05\x06|\x80[\x02-\x05]")  # a zip archive, or a pickle as before PyTorch 1.6


def import_model(
    source: Path, discriminator_file: Path | None, folder: Path, name: str | None, accept_licence: bool = False
) -> Path:
    """Import `source` as a model directory in `folder`, and return its path.

    `source` is a `.t7` or `.pth` of a DCGAN's generator, a `.pkl` of R3GAN's program, or a model of Atelier's, which is
    copied. `discriminator_file` is for a DCGAN; the others have their discriminator in the file or beside it. The
    default of `name` follows from the file's name. Raises AtelierError with the file's name if it cannot be imported,
    and for a `.pkl`, with the weights' licence, unless `accept_licence`.
    """
    if not source.exists():
        raise AtelierError(f"{source} cannot be read: no such file")
    if name is None:
        stem = (source.resolve() if source.is_dir() else source).name.lower()
        stem = stem.removesuffix(".tar").rpartition(".")[0] or stem
        name = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:40]
        name = name if MODEL_NAME.fullmatch(name) else "model"
    if source.is_dir() or source.suffix == ".safetensors":
        if discriminator_file is not None:
            beside = "which has its discriminator beside it"
            raise AtelierError(f"{source} is a model of Atelier's, {beside}: leave {discriminator_file} out")
        return store_model(folder, name, lambda directory: _copy(source, directory))
    if source.name.lower().endswith(SNAPSHOT):
        if discriminator_file is not None:
            raise AtelierError(f"{source} has its discriminator in itself: leave {discriminator_file} out")
        return _import_r3gan(source, folder, name, accept_licence)
    format, generator = _read(source, "generator")
    discriminator = _read(discriminator_file, "discriminator")[1] if discriminator_file else None
    if discriminator and discriminator.resolution != generator.resolution:
        sizes = f"{discriminator.resolution} px, {source} for {generator.resolution} px"
        raise AtelierError(f"{discriminator_file} is for {sizes}: no pair")
    # without a discriminator, its width is Barrat's share of the generator's
    ndf = discriminator.width if discriminator else max(1, generator.width // 4)
    discriminator_digest = digest(discriminator_file) if discriminator_file else None
    described: dict[str, object] = {
        "arch": "dcgan",
        "resolution": generator.resolution,
        "settings": {"nz": generator.nz, "ngf": generator.width, "ndf": ndf},
        "imported": {"format": format, "sha256": {"generator": digest(source), "discriminator": discriminator_digest}},
    }

    def write(directory: Path) -> None:
        save_weights(directory / GENERATOR_FILE, generator.weights, FORMAT, described)
        if discriminator:
            save_weights(directory / DISCRIMINATOR_FILE, discriminator.weights, FORMAT, described)
        _write_facts(directory, described)

    return store_model(folder, name, write)


def _read(path: Path, role: str) -> tuple[str, Imported]:
    """Read a network of another program: the name of its format, and the network."""
    if not path.name.lower().endswith(EXTENSIONS):
        known = ", ".join((*EXTENSIONS, SNAPSHOT))
        raise AtelierError(f"{path}: only {known}, .safetensors and model directories are imported")
    content = _content(path)
    format = _format(path, content)
    try:
        found = fit(READERS[format](content))
    except AtelierError as error:
        raise AtelierError(f"{path} is no DCGAN that can be imported: {error}") from None
    if found.role != role:
        hint = "give the generator first, this one as --discriminator" if role == "generator" else "leave it out"
        raise AtelierError(f"{path} is a {found.role}, not a {role}: {hint}")
    return format, found


def _import_r3gan(source: Path, folder: Path, name: str, accept_licence: bool) -> Path:
    """Import a snapshot of R3GAN's program: the averaged generator and the discriminator."""
    content = _content(source)
    if _format(source, content) != "pytorch" or content.startswith(b"PK"):
        raise AtelierError(f"{source} is no snapshot of R3GAN: let its name end in .pth, or .t7 if it is Torch7's")
    try:
        pair = networks_of_r3gan(content)
    except AtelierError as error:
        raise AtelierError(f"{source} is no R3GAN that can be imported: {error}") from None
    if not accept_licence:
        raise AtelierError(f"{LICENCE_TEXT}\nIf they allow what you want to do, import {source} with --accept-licence")
    sha256 = hashlib.sha256(content).hexdigest()
    described = asdict(pair.config) | {
        "imported": {
            "format": "r3gan",
            "sha256": {"generator": sha256, "discriminator": sha256 if pair.discriminator else None},
            "licence": {"name": LICENCE, "accepted": True},
        }
    }

    def write(directory: Path) -> None:
        save_weights(directory / GENERATOR_FILE, pair.generator, FORMAT, described)
        if pair.discriminator:
            save_weights(directory / DISCRIMINATOR_FILE, pair.discriminator, FORMAT, described)
        _write_facts(directory, described)

    return store_model(folder, name, write)


def _content(path: Path) -> bytes:
    """The content of a file. Raises AtelierError where it cannot be read."""
    if not path.exists():
        raise AtelierError(f"{path} cannot be read: there is no such file")
    try:
        with open_regular(path, "name a network's file") as file:
            content: bytes = file.read()
    except OSError as error:
        raise AtelierError(f"{path} cannot be read: {error.strerror}") from None
    return content


def _format(path: Path, content: bytes) -> str:
    """The format of a file by its first bytes. Raises AtelierError, with what it is, for other files."""
    if not content:
        raise AtelierError(f"{path} is empty: download it again")
    if PYTORCH.match(content):
        return "pytorch"
    for start, words in OTHER_FILES:
        if re.match(start, content[:1024], re.IGNORECASE):
            raise AtelierError(f"{path} is {words}")
    if TORCH7.match(content):
        return "torch7"
    raise AtelierError(f"{path} is neither a file of Torch7 nor one of PyTorch: it is damaged, or something else")


def _copy(source: Path, directory: Path) -> None:
    """Copy a model of Atelier's, so that it stays when `dvc repro` replaces data/model."""
    generator = source / GENERATOR_FILE if source.is_dir() else source
    header, generator_weights = read_model(generator)
    discriminator_weights, kind = None, OWN
    if (discriminator := generator.with_name(DISCRIMINATOR_FILE)).is_file():
        described, discriminator_weights = read_model(discriminator)
        kind = described.get("discriminator", OWN)
        if any(described[key] != header[key] for key in ("arch", "resolution", "settings")):
            raise AtelierError(
                f"{discriminator} is not the discriminator of {generator}: move it away, or replace it by the right one"
            )
    network = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    if not weights_fit(network, generator_weights, discriminator_weights, kind):
        raise AtelierError(f"{source} does not contain the weights of the {network.arch} that its header names")
    shutil.copyfile(generator, directory / GENERATOR_FILE)
    if discriminator_weights:
        shutil.copyfile(discriminator, directory / DISCRIMINATOR_FILE)
    _write_facts(directory, {key: value for key, value in header.items() if key != "format"})


def _write_facts(directory: Path, described: dict[str, object]) -> None:
    """Write the model's facts, with the digests of its files, beside them."""
    files = {f"{name.split('.')[0]}_sha256": name for name in (GENERATOR_FILE, DISCRIMINATOR_FILE)}
    hashes = {key: digest(directory / name) for key, name in files.items() if (directory / name).is_file()}
    write_json(directory / FACTS_FILE, {**described, **hashes})


def main(argv: Sequence[str] | None = None) -> None:
    """Import one model and print what it is and how to use it. Exits with 1 after a message for a user's mistake."""
    parser = argparse.ArgumentParser(prog="atelier.importers")
    parser.add_argument("file", type=Path)
    parser.add_argument("--discriminator", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--accept-licence", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("models"))
    arguments = parser.parse_args(argv)
    if status := run_for_exit_code(lambda: _import(arguments), ""):
        sys.exit(status)


def _import(arguments: argparse.Namespace) -> int:
    path = import_model(
        arguments.file, arguments.discriminator, arguments.folder, arguments.name, arguments.accept_licence
    )
    header, _ = read_model(path / GENERATOR_FILE)
    imported = header.get("imported")
    if isinstance(imported, dict) and imported.get("licence"):
        print(LICENCE_TEXT)
        print("You accepted it, which model.json records, also that of models trained from this one.")
    config = NetworkConfig(header["arch"], header["resolution"], header["settings"])
    plain = config.with_labels(None).with_aspect(SQUARE).settings
    settings = ", ".join(f"{key}: {value}" for key, value in sorted(plain.items()))
    pair, kind = "without a discriminator", OWN
    if (path / DISCRIMINATOR_FILE).is_file():
        pair, kind = "with its discriminator", read_model(path / DISCRIMINATOR_FILE)[0].get("discriminator", OWN)
    print(f"{path}: {header['arch']} of {header['resolution']} px, {pair}")
    print("To train on from it (with kimg: 0, to paint with it as it is), set in params.yaml")
    print(f"  augment.resolution: {header['resolution']}")
    if config.aspect != SQUARE:
        print(f'  augment.aspect: "{config.aspect}"')
    if config.labels:
        print(f"  train.labels: {config.labels.kind}  # its labels: {', '.join(config.labels.names)}")
    print(f"  train.init_from: {path}")
    print(f"  train.arch: {header['arch']}")
    print(f"  train.{header['arch']}: {{{settings}}}")
    if kind != OWN:
        print(f"  train.discriminator: {kind}")
    return 0


if __name__ == "__main__":
    main()

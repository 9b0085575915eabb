"""`python -m atelier.importers`: what `atelier import` runs, in a process of its own because it needs PyTorch.

A file of somebody's becomes a model directory of ours. Raises AtelierError with the file's name in it.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from atelier.errors import AtelierError, run_for_exit_code
from atelier.files import digest, write_json
from atelier.importers.dcgan import layers_of_pytorch, layers_of_torch7
from atelier.importers.layers import Imported, Layer, fit
from atelier.model_store import DISCRIMINATOR_FILE, FACTS_FILE, GENERATOR_FILE, MODEL_NAME, store_model
from atelier.networks import FORMAT, NetworkConfig, read_model
from atelier.networks.weights import save_weights
from atelier.pictures.untrusted import open_regular
from atelier.training.initial import are_weights_of

READERS: dict[str, Callable[[bytes], list[Layer]]] = {
    "torch7": layers_of_torch7,
    "pytorch": layers_of_pytorch,
}

# in any capitals; the content says which format
ENDINGS = (".t7", ".pth", ".pt", ".pth.tar", ".pt.tar", ".ckpt")

# files that are often found in a model's place, by how they begin
INSTEAD = (
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml)", "an HTML page: the download gave it in place of the file"),
    (rb"version https://git-lfs", "Git LFS's note of where the file is: `git lfs pull` brings the file itself"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|(?s:.{257})ustar", "an archive: unpack it and import the file inside"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes them; only networks of Torch7 and PyTorch are read"),
    (rb"(?s:.{8})\{\"", "a safetensors file: let its name end in .safetensors"),
    (rb"\s*[\[{]", "a JSON file"),
)  # fmt: skip

TORCH7 = re.compile(rb"[\0-\x08]\0\0\0|[0-9]\s")  # the kind of the first value, binary or ascii

# a zip archive, or a pickle as before PyTorch 1.6
PYTORCH = re.compile(rb"PK\x03\x04|PK\x05\x06|\x80[\x02-\x05]")


def import_model(source: Path, rival: Path | None, folder: Path, name: str | None) -> Path:
    """The model directory in `folder` made of `source`: a `.t7` or `.pth` of a DCGAN, or a model of ours to keep.

    `rival` is the discriminator's file, where there is one; a model of ours has its own beside it.
    """
    if name is None:
        stem = (source.resolve() if source.is_dir() else source).name.lower()
        stem = stem.removesuffix(".tar").rpartition(".")[0] or stem
        name = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:40]
        name = name if MODEL_NAME.fullmatch(name) else "model"
    if source.is_dir() or source.suffix == ".safetensors":
        if rival is not None:
            raise AtelierError(
                f"{source} is a model of ours, whose discriminator lies beside it: leave {rival} out"
            )
        return store_model(folder, name, lambda directory: _copy(source, directory))
    format, generator = _read(source, "generator")
    discriminator = _read(rival, "discriminator")[1] if rival else None
    if discriminator and discriminator.resolution != generator.resolution:
        raise AtelierError(
            f"{rival} is for {discriminator.resolution} px, {source} for {generator.resolution} px: no pair"
        )
    digests = {"generator": digest(source), "discriminator": digest(rival) if rival else None}
    return store_model(
        folder, name, lambda directory: _write(directory, generator, discriminator, format, digests)
    )


def _read(path: Path, role: str) -> tuple[str, Imported]:
    """The format of a file from elsewhere, and the network that it holds."""
    if not path.name.lower().endswith(ENDINGS):
        raise AtelierError(
            f"{path}: only {', '.join(ENDINGS)}, .safetensors and model directories are imported"
        )
    if not path.exists():
        raise AtelierError(f"{path} cannot be read: there is no such file")
    try:
        with open_regular(path, "name a network's file") as file:
            content = file.read()
    except OSError as error:
        raise AtelierError(f"{path} cannot be read: {error.strerror}") from None
    format = _format(path, content)
    try:
        found = fit(READERS[format](content))
    except AtelierError as error:
        raise AtelierError(f"{path} is no DCGAN that can be imported: {error}") from None
    if found.role != role:
        hint = "give the generator first, this one as --discriminator" if role == "generator" else "it paints"
        raise AtelierError(f"{path} is a {found.role}, not a {role}: {hint}")
    return format, found


def _format(path: Path, content: bytes) -> str:
    """The format that a file's first bytes say. Raises AtelierError, saying what it is instead, where they say none."""
    if not content:
        raise AtelierError(f"{path} is empty: download it again")
    if PYTORCH.match(content):
        return "pytorch"
    for start, words in INSTEAD:
        if re.match(start, content[:1024], re.IGNORECASE):
            raise AtelierError(f"{path} is {words}")
    if TORCH7.match(content):
        return "torch7"
    raise AtelierError(
        f"{path} begins as no file of Torch7's or PyTorch's does: it is damaged, or something else"
    )


def _write(
    directory: Path,
    generator: Imported,
    discriminator: Imported | None,
    format: str,
    digests: dict[str, str | None],
) -> None:
    # without a discriminator its width is anybody's: Barrat's share of the generator's
    ndf = discriminator.width if discriminator else max(1, generator.width // 4)
    described = {
        "arch": "dcgan",
        "resolution": generator.resolution,
        "settings": {"nz": generator.nz, "ngf": generator.width, "ndf": ndf},
        "imported": {"format": format, "sha256": digests},
    }
    save_weights(directory / GENERATOR_FILE, generator.weights, FORMAT, described)
    if discriminator:
        save_weights(directory / DISCRIMINATOR_FILE, discriminator.weights, FORMAT, described)
    _describe(directory, described)


def _copy(source: Path, directory: Path) -> None:
    """A model of ours, whole: whatever `dvc repro` does to data/model, the copy stays."""
    generator = source / GENERATOR_FILE if source.is_dir() else source
    header, painter = read_model(generator)
    opponent = None
    if (rival := generator.with_name(DISCRIMINATOR_FILE)).is_file():
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
    shutil.copyfile(generator, directory / GENERATOR_FILE)
    if opponent:
        shutil.copyfile(rival, directory / DISCRIMINATOR_FILE)
    _describe(directory, {key: value for key, value in header.items() if key != "format"})


def _describe(directory: Path, described: dict[str, object]) -> None:
    files = {f"{name.split('.')[0]}_sha256": name for name in (GENERATOR_FILE, DISCRIMINATOR_FILE)}
    hashes = {key: digest(directory / name) for key, name in files.items() if (directory / name).is_file()}
    write_json(directory / FACTS_FILE, {**described, **hashes})


def main(arguments: Sequence[str] | None = None) -> None:
    """Import one model and say what it is and how to use it; 1 with a sentence for a mistake."""
    parser = argparse.ArgumentParser(prog="atelier.importers")
    parser.add_argument("file", type=Path)
    parser.add_argument("--discriminator", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--folder", type=Path, default=Path("models"))
    given = parser.parse_args(arguments)
    if status := run_for_exit_code(lambda: _imported(given), ""):
        sys.exit(status)


def _imported(given: argparse.Namespace) -> int:
    path = import_model(given.file, given.discriminator, given.folder, given.name)
    header, _ = read_model(path / GENERATOR_FILE)
    settings = ", ".join(f"{key}: {value}" for key, value in sorted(header["settings"].items()))
    pair = "with its discriminator" if (path / DISCRIMINATOR_FILE).is_file() else "without a discriminator"
    print(f"{path}: {header['arch']} of {header['resolution']} px, {pair}")
    print("To train on from it (with kimg: 0, to paint with it as it is), set in params.yaml")
    print(f"  augment.resolution: {header['resolution']}")
    print(f"  train.init_from: {path}")
    print(f"  train.arch: {header['arch']}")
    print(f"  train.{header['arch']}: {{{settings}}}")
    return 0


if __name__ == "__main__":
    main()

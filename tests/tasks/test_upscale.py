"""The stage as DVC runs it: artworks and an upscaler in, prints with the whole story out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.params import Params
from atelier.provenance import (
    ModelFacts,
    PixelFacts,
    Provenance,
    SoftwareFacts,
    read,
    write_png,
)
from atelier.recipe import Recipe
from atelier.upscaling.network import SRVGGNetCompact, save_upscaler
from tasks.stage import Stage
from tasks.upscale import run

MODEL = ModelFacts(md5="0" * 32, sha256="1" * 64, arch="dcgan", resolution=32, settings={"nz": 100})
ARTWORKS, PRINTS = Path("data/artworks"), Path("data/prints")


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        rgb = np.random.default_rng(index).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        latent = Recipe(seed=1, index=index, canvas=(1, 2), truncation=1.0)
        software = SoftwareFacts(atelier="0.1.0", torch="2.15.0")
        write_png(
            ARTWORKS / f"1-{index:05d}.png", rgb, Provenance(model=MODEL, latent=latent, software=software)
        )
    torch.manual_seed(0)
    save_upscaler(Path("data/upscaler/upscaler.safetensors"), SRVGGNetCompact(2, 8, 2), {})


def stage(**upscale: object) -> Stage:
    return Stage("upscale", Params.model_validate({"upscale": upscale}))


@pytest.mark.parametrize(("method", "scale"), [("learned", 2), ("learned", 8), ("lanczos", 4)])
def test_each_artwork_becomes_a_print_of_its_name(method: str, scale: int) -> None:
    summary = run(stage(method=method, scale=scale))
    assert [path.name for path in sorted(PRINTS.iterdir())] == [f"1-{index:05d}.png" for index in range(3)]
    with Image.open(PRINTS / "1-00002.png") as picture:
        assert picture.size == (48 * scale, 32 * scale)
    assert f"3 prints of {48 * scale} × {32 * scale} px" in summary


def test_a_print_says_what_made_it_and_what_enlarged_it() -> None:
    run(stage(method="learned", scale=4))
    original, print_ = read(ARTWORKS / "1-00001.png"), read(PRINTS / "1-00001.png")
    assert (print_.model, print_.latent) == (original.model, original.latent)
    assert print_.print is not None
    assert print_.print.original == original.pixels
    assert print_.print.upscale.upscaler_sha256 == digest(Path("data/upscaler/upscaler.safetensors"))
    assert print_.print.upscale.settings["passes"] == 2
    with Image.open(PRINTS / "1-00001.png") as picture:
        assert print_.pixels == PixelFacts.of(np.asarray(picture))


def test_lanczos_needs_no_upscaler() -> None:
    Path("data/upscaler/upscaler.safetensors").unlink()
    run(stage(method="lanczos"))
    print_ = read(PRINTS / "1-00000.png").print
    assert print_ is not None
    assert (print_.upscale.method, print_.upscale.upscaler_sha256) == ("lanczos", None)
    with pytest.raises(AtelierError, match="is missing: `dvc repro train_upscaler` makes it"):
        run(stage(method="learned"))


def test_the_bytes_depend_neither_on_the_other_artworks_nor_on_the_run() -> None:
    run(stage(scale=4))
    together = (PRINTS / "1-00002.png").read_bytes()
    for index in range(2):
        (ARTWORKS / f"1-{index:05d}.png").unlink()
    run(stage(scale=4))
    assert [path.name for path in PRINTS.iterdir()] == ["1-00002.png"]
    assert (PRINTS / "1-00002.png").read_bytes() == together


def test_an_altered_artwork_is_refused_and_the_prints_before_stay() -> None:
    run(stage(scale=2))
    before = {path.name: path.read_bytes() for path in PRINTS.iterdir()}
    path = ARTWORKS / "1-00001.png"
    write_png(path, np.zeros((32, 48, 3), np.uint8), read(path))
    path.write_bytes(path.read_bytes().replace(digest_of_zeros(), b"f" * 64))
    with pytest.raises(AtelierError, match=r"1-00001\.png"):
        run(stage(scale=2))
    assert {path.name: path.read_bytes() for path in PRINTS.iterdir()} == before


def test_no_artworks_says_what_makes_them() -> None:
    for path in ARTWORKS.iterdir():
        path.unlink()
    with pytest.raises(AtelierError, match="holds no pictures: `dvc repro generate` makes them"):
        run(stage())


def digest_of_zeros() -> bytes:
    return PixelFacts.of(np.zeros((32, 48, 3), np.uint8)).sha256.encode()

"""The stage as DVC runs it: artworks and an upscaler in, prints with the whole story out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tasks.upscale
from atelier.canvas.recipe import Recipe
from atelier.errors import AtelierError
from atelier.files import digest, link_or_copy
from atelier.provenance.facts import (
    ModelFacts,
    PixelFacts,
    Provenance,
    SoftwareFacts,
    read_pixels,
    read_provenance,
    write_png,
)
from atelier.settings.schema import Params
from atelier.upscaling.network import SRVGGNetCompact, save_upscaler
from atelier.upscaling.prints import print_again
from tasks.stage import Stage
from tasks.upscale import run

UPSCALER = Path("data/upscaler/upscaler.safetensors")
MODEL = ModelFacts(md5="0" * 32, sha256="1" * 64, arch="dcgan", resolution=32, settings={"nz": 100})
ARTWORKS, PRINTS = Path("data/artworks"), Path("data/prints")


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        write_artwork(index)
    torch.manual_seed(0)
    save_upscaler(UPSCALER, SRVGGNetCompact(2, 8, 2), {})


def write_artwork(index: int, seamless: bool = False) -> None:
    rgb = np.random.default_rng(index).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    latent = Recipe(seed=1, index=index, canvas=(1, 2), truncation=1.0, seamless=seamless)
    software = SoftwareFacts(atelier="0.1.0", torch="2.15.0")
    write_png(ARTWORKS / f"1-{index:05d}.png", rgb, Provenance(model=MODEL, latent=latent, software=software))


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
    original, print_ = read_provenance(ARTWORKS / "1-00001.png"), read_provenance(PRINTS / "1-00001.png")
    assert (print_.model, print_.latent) == (original.model, original.latent)
    assert print_.print is not None
    assert print_.print.original == original.pixels
    assert print_.print.upscale.upscaler_sha256 == digest(UPSCALER)
    assert print_.print.upscale.upscaler_md5 == digest(UPSCALER, "md5")
    assert print_.print.upscale.settings["passes"] == 2
    with Image.open(PRINTS / "1-00001.png") as picture:
        assert print_.pixels == PixelFacts.of(np.asarray(picture))


def test_lanczos_needs_no_upscaler() -> None:
    UPSCALER.unlink()
    run(stage(method="lanczos"))
    print_ = read_provenance(PRINTS / "1-00000.png").print
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
    write_png(path, np.zeros((32, 48, 3), np.uint8), read_provenance(path))
    path.write_bytes(path.read_bytes().replace(digest_of_zeros(), b"f" * 64))
    with pytest.raises(AtelierError, match=r"1-00001\.png"):
        run(stage(scale=2))
    assert {path.name: path.read_bytes() for path in PRINTS.iterdir()} == before


@pytest.mark.parametrize("method", ["learned", "external", "lanczos"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_print_is_made_again_from_its_provenance(method: str, bits: int) -> None:
    write_artwork(1, seamless=True)
    external = {"path": str(UPSCALER), "sha256": digest(UPSCALER)}
    summary = run(stage(method=method, bits=bits, scale=4, external=external))
    assert ("16 bits" in summary) == (bits == 16)
    for name in ("1-00000.png", "1-00001.png"):
        facts = read_provenance(PRINTS / name)
        assert facts.print is not None and facts.pixels is not None
        assert facts.pixels.bits == bits
        network = None if method == "lanczos" else UPSCALER
        again = print_again(facts.print.upscale, network, read_pixels(ARTWORKS / name))
        assert np.array_equal(again, read_pixels(PRINTS / name))
        assert facts.print.upscale.settings.get("seamless", False) == (name == "1-00001.png")


def test_a_print_names_its_external_network_by_digest_and_its_tiles() -> None:
    run(stage(method="external", external={"path": str(UPSCALER), "sha256": digest(UPSCALER)}))
    print_ = read_provenance(PRINTS / "1-00000.png").print
    assert print_ is not None
    assert print_.upscale.upscaler_sha256 == digest(UPSCALER)
    assert print_.upscale.settings == {
        "architecture": "RealESRGAN Compact", "bits": 8, "passes": 2, "scale": 2, "tile_px": 384,
    }  # fmt: skip
    with pytest.raises(AtelierError, match=r"upscaler\.safetensors has the SHA-256 [0-9a-f]{64}, not f{64}"):
        run(stage(method="external", external={"path": str(UPSCALER), "sha256": "f" * 64}))


def test_a_print_says_how_large_it_is_on_paper(capsys: pytest.CaptureFixture[str]) -> None:
    run(stage(scale=4, print={"width_mm": 50.8, "dpi": 96}))
    with Image.open(PRINTS / "1-00000.png") as picture:
        assert picture.info["dpi"] == pytest.approx((96, 96), abs=0.02)  # 192 px on 2 inches
    assert "pixels an inch" not in capsys.readouterr().out
    run(stage(scale=4))
    with Image.open(PRINTS / "1-00000.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.02)


def test_a_print_that_is_too_coarse_says_what_would_suffice(capsys: pytest.CaptureFixture[str]) -> None:
    run(stage(scale=2, print={"width_mm": 50.8, "dpi": 150}))
    assert (
        "upscale: 3 prints of 96 × 64 px on 50.8 × 34 mm: 48 pixels an inch, and upscale.print.dpi asks for 150. "
        "upscale.scale 8 would suffice, or a canvas 4 times as wide (generate.canvas)"
    ) in capsys.readouterr().out


def test_a_stopped_stage_keeps_its_prints_and_makes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stage())
    expected = {path.name: path.read_bytes() for path in PRINTS.iterdir()}
    made = []

    def stopped(path: Path, *content: object) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(path.name)
        write_png(path, *content)

    monkeypatch.setattr(tasks.upscale, "write_png", stopped)
    for path in PRINTS.iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(stage())
    kept = {path.name: path.stat().st_ino for path in Path(".atelier/upscale").glob("*/*.png")}
    assert [*sorted(kept)] == made == ["1-00000.png", "1-00001.png"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    run(stage())
    assert {name: (PRINTS / name).stat().st_ino for name in kept} == kept  # these very files
    assert {path.name: path.read_bytes() for path in PRINTS.iterdir()} == expected
    assert not Path(".atelier/upscale").exists()


def test_finished_prints_survive_a_kill_while_they_are_put_in_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(stage())
    expected = {path.name: path.read_bytes() for path in PRINTS.iterdir()}
    put = []

    def killed(path: Path, to: Path) -> None:
        if len(put) == 2:
            raise KeyboardInterrupt
        put.append(to)
        link_or_copy(path, to)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tasks.upscale, "link_or_copy", killed)
        run(stage())
    kept = {path.name: path.read_bytes() for path in Path(".atelier/upscale").glob("*/*.png")}
    assert kept == expected
    with monkeypatch.context() as patch:
        patch.setattr(tasks.upscale, "write_png", lambda *_: pytest.fail("a print was made again"))
        run(stage())
    assert {path.name: path.read_bytes() for path in PRINTS.iterdir()} == expected


def test_prints_of_other_settings_or_artworks_are_not_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *content: object) -> None:
        write_png(path, *content)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tasks.upscale, "write_png", refused)
        run(stage(scale=2))
    write_artwork(3)
    (ARTWORKS / "1-00003.png").rename(ARTWORKS / "1-00000.png")
    run(stage(scale=2))
    print_ = read_provenance(PRINTS / "1-00000.png").print
    assert print_ is not None and print_.original == read_provenance(ARTWORKS / "1-00000.png").pixels


def test_murals_are_not_enlarged() -> None:
    (ARTWORKS / "1-00003.tif").write_bytes(b"a mural")
    assert run(stage(scale=2)).endswith("; 1 mural is passed over, at print size already")
    for path in ARTWORKS.glob("*.png"):
        path.unlink()
    assert run(stage(scale=2)) == "1 mural is passed over, at print size already"
    assert not [*PRINTS.iterdir()]


def test_no_artworks_says_what_makes_them() -> None:
    for path in ARTWORKS.iterdir():
        path.unlink()
    with pytest.raises(AtelierError, match="holds no pictures: `dvc repro generate` makes them"):
        run(stage())


def digest_of_zeros() -> bytes:
    return PixelFacts.of(np.zeros((32, 48, 3), np.uint8)).sha256.encode()

"""Pictures that are not square, through all stages: packed, trained on, evaluated, painted, enlarged, painted again."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

import tasks.augment
import tasks.evaluate
import tasks.generate
import tasks.train
import tasks.upscale
from atelier.canvas.paint import paint
from atelier.data.catalog import DownloadRecord, write_catalog, write_downloads
from atelier.data.dataset import open_dataset
from atelier.data.shards import Item, write_shards
from atelier.networks import labels, load_generator, r3gan
from atelier.networks.latent_field import in_double_precision
from atelier.paths import ARTWORKS, DATASET, GENERATOR, PRINTS
from atelier.pictures import CELLS, picture_size
from atelier.progress import Progress
from atelier.provenance.facts import PixelFacts, read_provenance
from atelier.settings.schema import Params
from atelier.training.config import training_plan
from atelier.training.trainer import Stopped, Trainer
from tasks.stage import Stage
from tests.datasets import work

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")
SIZES = [(96, 64), (110, 64), (64, 80), (90, 60)]  # of the paintings, width and height, in turn
NETWORKS = {
    "sketch": {"nz": 8, "ngf": 8, "ndf": 4, "noise": 4},
    "dcgan": {"nz": 8, "ngf": 8, "ndf": 4},
    "r3gan": {"preset": "S", "nz": 8},
}


@pytest.fixture(autouse=True)
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs of stage download: 40 pictures of blots."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(r3gan.PRESETS, "S", (16, 1))  # fewer channels, so that it takes seconds
    items, records = [], []
    for n in range(40):
        width, height = SIZES[n % len(SIZES)]
        pixels = np.random.default_rng(n).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(file, "PNG")
        items.append(Item(f"w{n:03d}", "png", file.getvalue()))
        phash = f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}"
        records.append(DownloadRecord(id=f"w{n:03d}", status="ok", phash=phash, width=width, height=height))
    write_shards(items, Path("data/images"))
    write_downloads(records, Path("data/downloads.parquet"))
    genres = {record.id: "marine" if n % 6 else "river" for n, record in enumerate(records)}
    write_catalog([work(id, genre) for id, genre in genres.items()], Path("data/catalog.parquet"))


def params(arch: str = "sketch", canvas: tuple[int, int] = (1, 1), labels_of: str = "none", **augment) -> Params:
    return Params.model_validate(
        {
            "augment": {"resolution": 32, "held_out": 0.3, **augment},
            "train": {
                "arch": arch, arch: NETWORKS[arch], "kimg": 0.04, "batch": 8, "snapshot_kimg": 0.02, "device": "cpu",
                "augment": ["translation", "rotation", "cutout"], "labels": labels_of,
            },
            "evaluate": {"samples": 32, "device": "cpu"},
            "generate": {"count": 3, "canvas": list(canvas)},
            "upscale": {"method": "lanczos", "scale": 2},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "aspect", "crops", "size"),
    [("sketch", "3:2", 2, (32, 48)), ("r3gan", "2:3", 1, (48, 32)), ("dcgan", "16:9", 2, (32, 56))],
)
def test_pictures_of_a_shape_go_through_all_stages(arch, aspect, crops, size) -> None:
    height, width = size
    settings = params(arch, aspect=aspect, crops=crops)
    said = tasks.augment.run(Stage("augment", settings))
    assert f"40 pictures of {width} × {height} px" in said and f"boxes of {aspect} show" in said
    dataset = open_dataset(DATASET)
    assert dataset.size_px == dataset.train[0].shape[:2] == size
    tasks.train.run(Stage("train", settings))
    facts = json.loads(Path("data/model/model.json").read_text())
    assert facts["resolution"] == 32 and facts["settings"] == {**NETWORKS[arch], "aspect": aspect}
    assert load_generator(GENERATOR)[0].size_px == size
    tasks.evaluate.run(Stage("evaluate", settings))
    assert f"{min(size)}px" in json.loads(Path("metrics.json").read_text())["swd_levels"]

    overlapping = arch == "dcgan"
    for canvas in ((1, 1), (2, 3)):
        stage = Stage("generate", params(arch, canvas, aspect=aspect))
        tasks.generate.run(stage)
        larger = ((canvas[0] - 1) * 8, (canvas[1] - 1) * 8)
        expected = (height + larger[0], width + larger[1]) if overlapping else (height * canvas[0], width * canvas[1])
        artwork = ARTWORKS / "1-00002.png"
        provenance = read_provenance(artwork)
        assert provenance.model.settings["aspect"] == aspect
        again = paint(in_double_precision(load_generator(GENERATOR)[0], CPU), provenance.latent)
        assert again.shape == (*expected, 3)
        assert PixelFacts.of(again) == provenance.pixels
    with Image.open("data/contact_sheet.png") as sheet:
        assert sheet.width > 0
    tasks.upscale.run(Stage("upscale", settings))
    with Image.open(PRINTS / "1-00002.png") as print_:
        assert print_.size == (2 * expected[1], 2 * expected[0])


@pytest.mark.parametrize("arch", NETWORKS)
def test_pictures_of_a_shape_may_have_labels(arch, monkeypatch) -> None:
    monkeypatch.setattr(labels, "MIN_WORKS", 2)
    settings = params(arch, labels_of="genre", aspect="4:3")
    tasks.augment.run(Stage("augment", settings))
    tasks.train.run(Stage("train", settings))
    generator = load_generator(GENERATOR)[0]
    assert generator.size_px == (24, 32) and generator.labels and generator.labels.names == ("marine", "river")
    z = torch.randn(1, generator.inputs, 2, 3)
    z[:, generator.nz : generator.nz + 2] = torch.tensor([1.0, 0.0])[:, None, None]
    assert generator(z).shape == ((1, 3, 24 + 8, 32 + 16) if arch == "dcgan" else (1, 3, 48, 96))


def test_as_the_set_is_the_shape_nearest_to_the_median_of_the_paintings() -> None:
    said = tasks.augment.run(Stage("augment", params(aspect="as the set")))
    assert "40 pictures of 48 × 32 px (3:2, the nearest to their median)" in said
    chosen = {name: (DATASET / name).read_bytes() for name in ("images.npy", "index.parquet", "dataset.json")}
    tasks.augment.run(Stage("augment", params(aspect="3:2")))
    assert chosen == {name: (DATASET / name).read_bytes() for name in chosen}


@pytest.mark.parametrize("aspect", ["5:4", "3:1", "landscape", 1.5, None])
def test_other_shapes_are_refused(aspect) -> None:
    with pytest.raises(ValidationError, match="aspect"):
        params(aspect=aspect)


@pytest.mark.parametrize("arch", NETWORKS)
def test_a_training_on_pictures_of_a_shape_resumes_bit_for_bit(arch, tmp_path) -> None:
    settings = params(arch, aspect="4:3", crops=2)
    tasks.augment.run(Stage("augment", settings))
    dataset = open_dataset(DATASET)
    assert dataset.size_px == (24, 32)
    plan = training_plan(settings.train, dataset.resolution, aspect=dataset.aspect)
    whole, halves = (Trainer(plan, dataset, CPU, tmp_path / name) for name in ("whole", "halves"))
    with Progress("train", 1, "kimg") as progress:
        whole.train(progress)
        with pytest.raises(Stopped):
            halves.train(progress, stop=lambda: halves.step == 2)
        resumed = Trainer(plan, dataset, CPU, tmp_path / "halves")
        assert resumed.resume() and resumed.step == 2
        resumed.train(progress)
    for one, other in ((whole.generator, resumed.generator), (whole.discriminator, resumed.discriminator)):
        weights = other.state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in one.state_dict().items())


def test_auto_starts_from_the_base_model_only_for_squares() -> None:
    settings = Params().train
    assert training_plan(settings, 64).warm_start == 0
    assert training_plan(settings, 64, aspect="3:2").warm_start > 0  # as from nothing


def test_every_shape_has_the_cells_that_it_is_named_after() -> None:
    for aspect, (rows, columns) in CELLS.items():
        width, height = (1, 1) if aspect == "square" else map(int, aspect.split(":"))
        assert columns / rows == pytest.approx(width / height, rel=0.02)
        assert picture_size(64, aspect) == (16 * rows, 16 * columns)

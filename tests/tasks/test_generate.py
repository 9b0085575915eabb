"""Stage generate writes artworks that carry their recipes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from atelier.canvas.artworks import Judge
from atelier.canvas.paint import Painting, paint
from atelier.canvas.recipe import Recipe
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.networks import NetworkConfig, load_generator, make_networks, save_network
from atelier.networks.latent_field import in_double_precision
from atelier.paths import DISCRIMINATOR, GENERATOR
from atelier.provenance.facts import PixelFacts, read_provenance
from atelier.settings.schema import Params
from tasks.generate import run
from tasks.stage import Stage
from tests.models import LABELS, SMALL, save_small_generator

ARTWORKS = Path("data/artworks")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_small_generator()


def stage(**generate: object) -> Stage:
    return Stage("generate", Params.model_validate({"generate": {"count": 9, **generate}}))


def artworks() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(ARTWORKS.iterdir())}


def test_artworks_are_named_by_seed_and_index_in_order() -> None:
    summary = run(stage(count=11, seed=5))
    assert list(artworks()) == [f"5-{index:05d}.png" for index in range(11)]
    assert summary == "11 artworks of 32 × 32 px, seed 5"


def test_a_picture_alone_equals_the_same_picture_among_64() -> None:
    run(stage(count=64))
    among = read_provenance(ARTWORKS / "1-00007.png"), np.asarray(Image.open(ARTWORKS / "1-00007.png"))
    run(stage(count=8))
    assert read_provenance(ARTWORKS / "1-00007.png") == among[0]
    generator, _ = load_generator(GENERATOR)
    alone = paint(
        in_double_precision(generator, torch.device("cpu")),
        Recipe(seed=1, index=7, canvas=(1, 1), truncation=1.0),
    )
    assert np.array_equal(alone, among[1])


def test_the_same_recipe_gives_the_same_files_in_another_folder_and_with_other_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stage(canvas=[2, 3]))
    here = artworks() | {"sheet": Path("data/contact_sheet.png").read_bytes()}
    (tmp_path / "moved" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "model").rename(tmp_path / "model")
    monkeypatch.chdir(tmp_path / "moved" / "deep")
    Path("data").mkdir()
    (tmp_path / "model").rename("data/model")
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        run(stage(canvas=[2, 3]))
    finally:
        torch.set_num_threads(threads)
    assert artworks() | {"sheet": Path("data/contact_sheet.png").read_bytes()} == here


def test_another_seed_another_model_and_another_truncation_give_other_pictures() -> None:
    seen = []
    for changes in ({"seed": 1}, {"seed": 2}, {"truncation": 0.5}):
        run(stage(**changes))
        seen.append(np.asarray(Image.open(next(ARTWORKS.glob("*-00000.png")))))
    save_small_generator(seed=1)
    run(stage())
    seen.append(np.asarray(Image.open(ARTWORKS / "1-00000.png")))
    assert len({picture.tobytes() for picture in seen}) == 4


def test_an_artworks_provenance_paints_it_again() -> None:
    run(stage(canvas=[1, 4], truncation=0.7))
    facts = read_provenance(ARTWORKS / "1-00003.png")
    assert facts.model.md5 == digest(GENERATOR, "md5") and facts.model.sha256 == digest(GENERATOR)
    generator, _ = load_generator(GENERATOR)
    remade = paint(in_double_precision(generator, torch.device("cpu")), facts.latent)
    assert remade.shape == (32, 56, 3)
    assert PixelFacts.of(remade) == facts.pixels


@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig("r3gan", 32, {"preset": "S", "nz": 16}),
        NetworkConfig("sketch", 32, {"nz": 16, "ngf": 8, "ndf": 4, "noise": 4}),
    ],
    ids=lambda network: network.arch,
)
def test_the_provenance_of_artworks_of_every_network_paints_them_again(network: NetworkConfig) -> None:
    save_small_generator(network=network)
    run(stage(count=1, canvas=[1, 2], seed=3))
    facts = read_provenance(ARTWORKS / "3-00000.png")
    assert (facts.model.arch, facts.model.settings) == (network.arch, network.settings)
    remade = paint(in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu")), facts.latent)
    assert remade.shape == (32, 64, 3) and len(np.unique(remade)) > 100
    assert PixelFacts.of(remade) == facts.pixels


@pytest.mark.parametrize(
    "how",
    [
        {"layout": "smooth", "seamless": True},
        {"layout": "panorama", "normalise": "none"},
        {"layout": "line", "normalise": "batch", "truncation": 0.8},
    ],
)
def test_the_provenance_of_every_layout_and_normalisation_paints_the_picture_again(
    how: dict[str, object],
) -> None:
    run(stage(count=1, canvas=[2, 5], **how))
    facts = read_provenance(ARTWORKS / "1-00000.png")
    assert how.items() <= facts.latent.model_dump().items()
    remade = paint(in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu")), facts.latent)
    assert PixelFacts.of(remade) == facts.pixels
    assert facts.pixels.height == (16 if facts.latent.seamless else 40)


def test_a_network_without_batch_norms_cannot_use_the_statistics_of_a_canvas() -> None:
    save_small_generator(network=NetworkConfig("r3gan", 32, {"preset": "S", "nz": 16}))
    with pytest.raises(AtelierError, match=r"no batch norms: set generate\.normalise to overlap"):
        run(stage(count=1, canvas=[1, 2], normalise="batch"))


def test_the_contact_sheet_shows_the_first_64_and_reduces_large_ones() -> None:
    run(stage(count=70))
    assert Image.open("data/contact_sheet.png").size == (8 * 34 + 2, 8 * 34 + 2)
    run(stage(count=1, canvas=[1, 64]))
    assert Image.open("data/contact_sheet.png").width == 256 + 4


def test_artworks_of_an_earlier_run_are_removed() -> None:
    run(stage(count=9))
    (ARTWORKS / "stray.png").write_bytes(b"")
    run(stage(count=2, seed=3))
    assert list(artworks()) == ["3-00000.png", "3-00001.png"]


def test_a_failed_run_leaves_the_earlier_artworks(monkeypatch: pytest.MonkeyPatch) -> None:
    run(stage())
    before = artworks()
    monkeypatch.setattr("atelier.canvas.latents.machine_memory", lambda: 2**20)
    with pytest.raises(AtelierError, match=r"generate\.canvas"):
        run(stage(canvas=[4096, 4096]))
    assert artworks() == before
    assert [path.name for path in sorted(Path("data").iterdir())] == [
        "artworks",
        "contact_sheet.png",
        "model",
    ]


def test_a_missing_model_is_reported_with_the_stage_that_makes_it() -> None:
    GENERATOR.unlink()
    with pytest.raises(AtelierError, match="dvc repro train"):
        run(stage())


def test_the_best_of_each_four_is_written_and_a_larger_count_keeps_the_earlier_ones() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, discriminator = make_networks(SMALL)
    save_network(DISCRIMINATOR, discriminator, SMALL, {})
    run(stage(count=8, truncation=0.8))
    candidates = {name: np.asarray(Image.open(ARTWORKS / name)) for name in artworks()}
    judge = Judge(DISCRIMINATOR, torch.device("cpu"))
    groups = [list(candidates)[:4], list(candidates)[4:]]
    best = [max(group, key=lambda name: judge.score(candidates[name])) for group in groups]
    run(stage(count=2, truncation=0.8, pick="1 of 4"))
    two = artworks()
    assert sorted(two) == sorted(best)
    facts = read_provenance(ARTWORKS / best[1])
    assert facts.latent.index == int(best[1][2:7]) and facts.pick is not None
    assert (facts.pick.keep, facts.pick.of) == (1, 4)
    assert facts.pick.discriminator_sha256 == digest(DISCRIMINATOR)
    assert np.array_equal(np.asarray(Image.open(ARTWORKS / best[1])), candidates[best[1]])
    run(stage(count=3, truncation=0.8, pick="1 of 4"))
    assert two.items() < artworks().items()


def test_only_a_pick_needs_the_discriminator_and_reports_the_stage_that_makes_it() -> None:
    run(stage(count=1))
    with pytest.raises(AtelierError, match=r"discriminator.*dvc repro train"):
        run(stage(count=1, pick="1 of 4"))


# labels


NETWORKS = [
    SMALL,
    NetworkConfig("r3gan", 32, {"preset": "S", "nz": 16}),
    NetworkConfig("sketch", 32, {"nz": 16, "ngf": 8, "ndf": 4, "noise": 4}),
]


@pytest.mark.parametrize("canvas", [[1, 1], [2, 3]])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.arch)
def test_the_label_of_each_artwork_is_in_its_recipe_which_paints_it_again(network: NetworkConfig, canvas: list) -> None:
    save_small_generator(network=network.with_labels(LABELS))
    run(stage(count=6, canvas=canvas))
    drawn = [read_provenance(ARTWORKS / name).latent.label for name in artworks()]
    assert drawn == [LABELS.draw(1, index) for index in range(6)]
    pictures = [artworks()["1-00000.png"]]
    for label in LABELS.names:
        assert run(stage(count=1, canvas=canvas, label=label)).endswith(f"seed 1, label {label}")
        facts = read_provenance(ARTWORKS / "1-00000.png")
        assert facts.latent.label == label
        remade = paint(in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu")), facts.latent)
        assert PixelFacts.of(remade) == facts.pixels
        pictures.append(artworks()["1-00000.png"])
    assert len({*pictures}) == 3, "the drawn label is one of the three"
    run(stage(count=1, canvas=canvas, label="none"))
    assert artworks()["1-00000.png"] not in pictures


def test_pieces_of_a_canvas_with_a_label_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for network in NETWORKS:
        save_small_generator(network=network.with_labels(LABELS))
        recipe = Recipe(seed=1, index=0, canvas=(3, 3), truncation=1.0, label=(("marine", 0.5), ("other", 0.25)))
        generator = in_double_precision(load_generator(GENERATOR)[0], torch.device("cpu"))
        painting = Painting(generator, recipe)
        whole = painting.region(0, 0, painting.height, painting.width)
        assert np.array_equal(painting.region(9, 13, 20, 30), whole[9:29, 13:43])


def test_a_label_that_the_model_does_not_have_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(AtelierError, match=r"^the model has no labels, and 'marine' is asked for: .* train.labels$"):
        run(stage(label="marine"))
    run(stage(label="none", count=1))
    assert read_provenance(ARTWORKS / "1-00000.png").latent.label is None
    save_small_generator(network=SMALL.with_labels(LABELS))
    with pytest.raises(AtelierError, match=r"no label 'sea'; its labels are landscape, marine, other$"):
        run(stage(label="sea"))


def test_candidates_are_judged_by_their_label() -> None:
    config = SMALL.with_labels(LABELS)
    save_small_generator(network=config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, discriminator = make_networks(config)
        nn.init.normal_(discriminator.embed.weight)
    save_network(DISCRIMINATOR, discriminator, config, {})
    judge = Judge(DISCRIMINATOR, torch.device("cpu"))
    run(stage(count=4))
    scores = {}
    for name in artworks():
        picture, label = np.asarray(Image.open(ARTWORKS / name)), read_provenance(ARTWORKS / name).latent.label
        scores[name] = judge.score(picture, label)
        assert judge.score(picture) != scores[name] or label == "none"
    run(stage(count=1, pick="1 of 4"))
    assert [*artworks()] == [max(scores, key=lambda name: scores[name])]

"""Classes of a data set, and what the networks make of them."""

import pytest
import torch

from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, load_generator, make_networks, save_network, weights_fit
from atelier.networks.labels import MAX_CLASSES, MIN_WORKS, Labels, relabelled
from atelier.networks.latent_field import FieldGenerator, draw_inputs, random_inputs, render
from atelier.training.losses import NonSaturating, Relativistic

LABELS = Labels("genre", ("landscape", "marine", "other"), (30, 25, 5), 4)
CONFIGS = [
    NetworkConfig("dcgan", 16, {"nz": 4, "ngf": 4, "ndf": 4}),
    NetworkConfig("sketch", 16, {"nz": 4, "ngf": 4, "ndf": 4, "noise": 2}),
    NetworkConfig("r3gan", 16, {"preset": "S", "nz": 4}),
]
ARCHS = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.arch)


def networks(config: NetworkConfig, labels: Labels | None = LABELS, trained: bool = True):
    """Both networks; `trained` ones have vectors that are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator, discriminator = make_networks(config.with_labels(labels))
        for network in (generator, discriminator) if trained and labels else ():
            torch.nn.init.normal_(network.embed.weight)
    return generator.eval(), discriminator.eval()


def inputs(generator: FieldGenerator, label, index: int = 0) -> torch.Tensor:
    return draw_inputs(generator, 0, index, label)


# the classes


def test_small_classes_go_into_other_and_works_without_a_class_have_none():
    values = ["marine"] * 25 + ["landscape"] * 30 + ["still life"] * 3 + ["portrait"] * (MIN_WORKS - 1) + ["", " "]
    labels = Labels.of("genre", values)
    assert (labels.names, labels.counts, labels.unlabelled) == (("landscape", "marine", "other"), (30, 25, 22), 2)
    rows = labels.rows(["marine", "still life", "", "never seen"])
    assert rows.tolist() == [1, 2, -1, 2]
    assert labels.one_hot(rows).tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1]]
    words = labels.in_words(values)
    assert words.startswith("labels by genre: landscape 30, marine 25, other 22 (fewer than 20 each, ")
    assert "portrait 19, still life 3)" in words
    assert words.endswith("; 2 without a genre")


def test_where_all_small_classes_together_are_too_few_their_paintings_have_no_label():
    values = ["marine"] * 25 + ["landscape"] * 30 + ["still life"] * 3 + ["other"] * 5 + [""] * 2
    labels = Labels.of("genre", values)
    assert (labels.names, labels.counts, labels.unlabelled) == (("landscape", "marine"), (30, 25), 10)
    assert labels.rows(["still life", "other"]).tolist() == [-1, -1]
    words = (
        "8 in smaller classes have no label (fewer than 20 each, or beyond 64 classes: still life 3); 2 without a genre"
    )
    assert labels.in_words(values) == f"labels by genre: landscape 30, marine 25, {words}"


def test_there_are_at_most_so_many_classes_with_the_largest_ones_kept():
    values = [f"artist {n:03d}" for n in range(100) for _ in range(MIN_WORKS + (n % 2))]
    labels = Labels.of("artist", values)
    assert len(labels.names) == MAX_CLASSES
    assert labels.names[:2] == ("artist 001", "artist 003")
    assert labels.names[-1] == "other"
    assert sum(labels.counts) == len(values)


@pytest.mark.parametrize(
    "values", [[""] * 40, ["marine"] * 40, ["one", "two", "three"] * 5, ["marine"] * 40 + ["portrait"] * 19]
)
def test_labels_of_fewer_than_two_classes_are_refused_with_what_to_do(values):
    with pytest.raises(AtelierError, match=r"train.labels holds genre, which needs two classes.*set train.labels to"):
        Labels.of("genre", values)


def test_names_are_one_printable_line():
    labels = Labels.of("artist", ["two\nlines\x1b[31m\u202e"] * 30 + ["none"] * 3 + ["other"] * 20)
    assert labels.names == ("two lines [31m", "other")
    assert labels.unlabelled == 3


def test_a_label_is_a_name_a_mixture_or_none():
    assert LABELS.weights("marine").tolist() == [0, 1, 0]
    assert LABELS.weights([("marine", 0.25), ("landscape", 0.75)]).tolist() == [0.75, 0.25, 0]
    assert LABELS.weights(None).tolist() == LABELS.weights("none").tolist() == [0, 0, 0]
    with pytest.raises(AtelierError, match=r"no label 'sea'; its labels are landscape, marine, other$"):
        LABELS.weights("sea")


def test_labels_are_drawn_as_often_as_in_the_training_set_and_by_seed_and_index_alone():
    drawn = [LABELS.draw(3, index) for index in range(3000)]
    assert drawn == [LABELS.draw(3, index) for index in range(3000)]
    assert drawn != [LABELS.draw(4, index) for index in range(3000)]
    for name, count in (*zip(LABELS.names, LABELS.counts, strict=True), ("none", LABELS.unlabelled)):
        assert abs(drawn.count(name) / 3000 - count / 64) < 0.03
    sampled = LABELS.sample(3000, torch.Generator().manual_seed(0)).mean(0)
    assert torch.allclose(sampled, torch.tensor([30, 25, 5]) / 64, atol=0.03)


def test_a_models_settings_say_its_labels_and_damaged_ones_are_refused(tmp_path):
    config = CONFIGS[1].with_labels(LABELS)
    assert config.labels == LABELS
    assert config.with_labels(None) == CONFIGS[1]
    assert CONFIGS[1].labels is None
    generator, _ = networks(CONFIGS[1])
    save_network(tmp_path / "generator.safetensors", generator, config, {})
    loaded, header = load_generator(tmp_path / "generator.safetensors")
    assert loaded.labels == LABELS
    assert header["settings"]["labels"] == ["landscape", "marine", "other"]
    damage = ({"labels": []}, {"labels": ["a", "a", "b"]}, {"labels": ["a\n", "b", "c"]}, {"label_counts": [0, 0, 0]},
              {"label_counts": ["1", 2, 3]}, {"labels_of": 3}, {"unlabelled": -1}, {"labels": 7})  # fmt: skip
    for change in damage:
        with pytest.raises(AtelierError, match="do not fit sketch"):
            make_networks(NetworkConfig("sketch", 16, {**config.settings, **change}))


# the networks


@ARCHS
def test_networks_with_untrained_labels_are_those_without(config):
    (plain_g, plain_d), (generator, discriminator) = networks(config, None), networks(config, trained=False)
    own = {name: tensor for name, tensor in generator.state_dict().items() if name != "embed.weight"}
    assert all(torch.equal(own[name], tensor) for name, tensor in plain_g.state_dict().items())
    z, images = inputs(generator, "marine"), torch.randn(2, 3, 16, 16)
    assert torch.equal(generator(z), plain_g(draw_inputs(plain_g, 0, 0)))
    labels = LABELS.one_hot(torch.tensor([0, 1]))
    assert torch.equal(discriminator(images, labels), plain_d(images))


@ARCHS
def test_each_label_gives_another_picture_of_the_same_latent_and_grain(config):
    generator, _ = networks(config)
    labels = ("landscape", "marine", "none")
    pictures = [render(generator, inputs(generator, label)).tobytes() for label in labels]
    assert len({*pictures}) == 3
    assert torch.equal(inputs(generator, None), inputs(generator, LABELS.draw(0, 0)))
    assert (
        generator.inputs == 4 + 3 + generator.grain_numbers == random_inputs(generator, 2, torch.Generator()).shape[1]
    )


@ARCHS
def test_the_logit_of_a_label_is_the_unconditional_one_plus_a_linear_function_of_the_label(config):
    _, discriminator = networks(config)
    images = torch.randn(2, 3, 16, 16)
    plain = discriminator(images)
    one, other = (discriminator(images, LABELS.one_hot(torch.tensor([row, row]))) - plain for row in (0, 1))
    mixed = discriminator(images, LABELS.weights([("landscape", 0.5), ("marine", 0.5)]).repeat(2, 1)) - plain
    assert plain.shape == (2,)
    assert not torch.allclose(one, other)
    assert torch.allclose(mixed, (one + other) / 2, atol=1e-4)
    assert torch.equal(discriminator(images, torch.zeros(2, 3)), plain)


@ARCHS
def test_a_field_of_one_label_everywhere_is_shifted_like_the_single_picture(config):
    """The features that a label adds are the same numbers, or their mean where they overlap, in every cell."""
    generator, _ = networks(config)
    rows, columns = 5, 5
    field = torch.randn(1, 4, rows, columns)
    weights = LABELS.weights("marine")[None, :, None, None].expand(1, 3, rows, columns)
    zeros = torch.zeros_like(weights)
    added = generator.base(torch.cat([field, weights], 1)) - generator.base(torch.cat([field, zeros], 1))
    vectors = generator.label_kernels()[1]
    if config.arch == "dcgan":
        centre = added[0, :, 3:5, 3:5]
        assert torch.allclose(centre, vectors.mean((1, 2))[:, None, None].expand_as(centre), atol=1e-4)
    else:
        expected = vectors.repeat(1, 5, 5) if config.arch == "sketch" else vectors * generator.basis.repeat(1, 5, 5)
        assert torch.allclose(added[0], expected, atol=1e-4)


@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic(2.0)])
@ARCHS
def test_both_losses_reach_the_vectors_of_the_labels_that_a_batch_has(config, loss):
    generator, discriminator = networks(config)
    labels = LABELS.one_hot(torch.tensor([0, 0, -1, 1]))
    fake = generator.train()(torch.cat([inputs(generator, "none", index) for index in range(4)]))
    real = torch.randn(4, 3, 16, 16)
    loss.discriminator(discriminator.train(), real, fake.detach(), 0.0, labels).loss.backward()
    moved = discriminator.embed.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, True, False]
    assert torch.isfinite(loss.generator(discriminator, real, fake, labels))


@ARCHS
def test_the_classes_of_another_model_are_matched_by_their_names(config):
    found = networks(config)
    wanted = Labels("genre", ("portrait", "marine"), (50, 40))
    for network in found:
        tensors = relabelled(network.state_dict(), LABELS, wanted)
        assert tensors["embed.weight"][0].count_nonzero() == 0
        assert torch.equal(tensors["embed.weight"][1], network.embed.weight[1])
        other_kind = relabelled(network.state_dict(), LABELS, Labels("style", ("marine", "other"), (40, 1)))
        none = relabelled(network.state_dict(), LABELS, None)
        assert {*network.state_dict()} - {*none} == {*network.state_dict()} - {*other_kind} == {"embed.weight"}
    generators = [relabelled(network.state_dict(), LABELS, wanted) for network in found]
    assert weights_fit(config.with_labels(wanted), *generators)

"""Parsing `KEY=VALUES` into the settings to try, and the errors of what cannot be parsed."""

import pytest

from atelier.errors import AtelierError
from atelier.settings.schema import Params
from flows.trials.search_space import Choice, Range, Request, check, ends, product, read_axes


def test_values_are_parsed_as_in_params_yaml():
    axes = read_axes(
        [
            "train.lr=1e-4,2e-4",
            "augment.crop=center,random",
            "augment.mirror=true,false",
            "train.gamma=null,2",
            "augment.aspect=square,3:2,16:9",
        ],
        ranges=False,
    )
    assert axes == [
        Choice("train.lr", (0.0001, 0.0002)), Choice("augment.crop", ("center", "random")),
        Choice("augment.mirror", (True, False)), Choice("train.gamma", (None, 2)),
        Choice("augment.aspect", ("square", "3:2", "16:9")),
    ]  # fmt: skip
    (lists,) = read_axes(["train.augment=[translation,brightness],[]"], ranges=False)
    assert lists == Choice("train.augment", (["translation", "brightness"], []))
    (dates,) = read_axes(["scrape.snapshot=2026-11-22"], ranges=False)
    assert dates == Choice("scrape.snapshot", ("2026-11-22",))
    assert read_axes(["train.lr=1e-4,0.0001"], ranges=False) == [Choice("train.lr", (0.0001,))]


def test_a_grid_has_every_combination():
    axes = read_axes(["train.lr=1e-4,2e-4", "train.batch=32,64,128"], ranges=False)
    trials = product(axes)
    assert len(trials) == 6
    assert trials[1] == {"train.lr": 0.0001, "train.batch": 64}


def test_ranges_are_parsed_for_a_search_and_checked_at_their_ends():
    axes = read_axes(
        ["train.lr=log:1e-5,1e-3", "train.sketch.ngf=int:8,64", "train.beta1=0..0.9", "train.batch=32,64"],
        ranges=True,
    )
    assert axes[:3] == [
        Range("train.lr", 1e-5, 1e-3, "log"), Range("train.sketch.ngf", 8, 64, "int"),
        Range("train.beta1", 0, 0.9, "float"),
    ]  # fmt: skip
    assert ends(axes)[:3] == [{"train.lr": 1e-5}, {"train.lr": 1e-3}, {"train.sketch.ngf": 8}]
    check(Params(), ends(axes))
    assert str(axes[0]) == "train.lr=log:1e-05,0.001"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name at least one key with its values"),
        (["train.lr"], "'train.lr' is no key with its values: write for example train.lr=log:1e-5,1e-3"),
        (["train.lr=1", "train.lr=2"], "train.lr is named twice"),
        (["upscale.scale=2,4"], "no trial depends on upscale.scale: name keys of scrape,"),
        (["train=1"], "no trial depends on train: "),
        (["train.lr='x"], "is not valid YAML"),
        (["train.lr=log:0,1"], "a range of kind log begins above 0"),
        (["train.lr=2..1"], "the first end of a range is the smaller one"),
        (["train.lr=log:a,b"], "the ends of a range are numbers"),
    ],
)
def test_words_that_cannot_be_parsed_are_refused(words, sentence):
    with pytest.raises(AtelierError, match=sentence):
        read_axes(words, ranges=True)


def test_a_range_in_a_grid_is_refused():
    with pytest.raises(AtelierError, match="a range is for `atelier explore search`"):
        read_axes(["train.lr=log:1e-5,1e-3"], ranges=False)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("train.lrr=1", r"train.lrr=1 \(trial 1\): train.lrr is an unknown key; did you mean lr\?"),
        ("train.lr=0.1,3", r"\(trial 2\): train.lr holds 3; it may hold a number above 0 and at most 1"),
        ("augment.resolution=1024", "augment.resolution holds 1024; it may hold 32, 64, 128, 256 or 512"),
        ("train.lr.x=1", "params.yaml has no train.lr.x: lr is no section"),
    ],
)
def test_invalid_settings_are_refused_before_any_trial(word, sentence):
    with pytest.raises(AtelierError, match=sentence):
        check(Params(), product(read_axes([word], ranges=False)))


def test_settings_are_checked_in_combination():
    axes = read_axes(["download.size_px=64,256", "augment.resolution=64,256"], ranges=False)
    with pytest.raises(AtelierError, match=r"trial 2\): download.size_px holds 64; it may hold null or"):
        check(Params(), product(axes))


def test_different_discriminators_are_ranked_by_lite1_alone():
    axes = (Choice("train.discriminator", ("own", "features")),)
    with pytest.raises(AtelierError, match="add `--by kid_lite1`"):
        Request("grid", axes).check(Params())
    Request("grid", axes, by="kid_lite1").check(Params())

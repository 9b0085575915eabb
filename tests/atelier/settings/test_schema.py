"""Reading params.yaml: messages about mistakes, and docs/params.md, the table of its keys."""

import re
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from atelier.settings.training import ARCHS
from atelier.training.config import RECIPES
from tools.params_table import markdown

SHIPPED = Path("params.yaml").read_text(encoding="utf-8")
TRAIN, KIMG = (SHIPPED[: SHIPPED.index(text)].count("\n") + 1 for text in ("train:\n", "  kimg: 64"))


def load(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def refusal(tmp_path: Path, old: str, new: str) -> str:
    assert old in SHIPPED
    with pytest.raises(AtelierError) as refused:
        load(tmp_path, SHIPPED.replace(old, new, 1))
    return str(refused.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("kimg: 64", "kimg: -3", "train.kimg holds -3; it may hold a number at least 0 and at most 10000000"),
        ("kimg: 64", "kimg: .nan", "train.kimg holds nan; it may hold a number at least 0"),
        ("batch: auto", 'batch: "64"', "train.batch holds '64'; it may hold auto or a whole number at least 2"),
        ("mirror: true", "mirror: 1", "augment.mirror holds 1; it may hold true or false"),
        ("source: gallery", "source: museum", "scrape.source holds 'museum'; it may hold gallery, wikiart or folder"),
        ('"2026-11-22"', "2026-11-22", "it may hold a quoted date like"),
        ("canvas: [1, 1]", "canvas: [1]", "generate.canvas holds [1]; it may hold a list of 2"),
        ("canvas: [1, 1]", "canvas: [0, 1]", "generate.canvas.0 holds 0"),
        ("count: 64", "cuont: 64", "generate.cuont is an unknown key; did you mean count?"),
        ("lr_discriminator: null", "lr_discriminator: 2", "it may hold null or a number above 0 and at most 1"),
        ("gpus: auto", "gpus: all", "train.gpus holds 'all'; it may hold auto or a whole number at least 1"),
        ("[translation, brightness]", "[rotate]", "train.augment.0 holds 'rotate'"),
        ("genre: landscape", "genre: Land Scape", "it may hold null or a slug that `atelier genres` lists"),
        ("generate:\n", "generate: 5\nunknown:\n", "generate holds 5; it may hold a section with the keys count"),
        ("size_px: 512               # larger", "size_px: 40 # larger", "download.size_px holds 40; it may hold null"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_reported_with_its_line_and_the_allowed_values(tmp_path, old, new, sentence):
    message = refusal(tmp_path, old, new)
    line = SHIPPED[: SHIPPED.index(old)].count("\n") + 1
    assert message.startswith(f"params.yaml:{line}: ")
    assert sentence in message


def test_a_batch_that_the_gpus_cannot_share_equally_is_an_error(tmp_path):
    message = refusal(tmp_path, "gpus: auto", "gpus: 3")
    assert (
        "train.batch holds auto, 32 for sketch; it may hold a multiple of 3 (train.gpus), "
        "so that each has an equal part" in message
    )
    assert load(tmp_path, SHIPPED.replace("gpus: auto", "gpus: 4")).train.gpus == 4


def test_all_wrong_values_are_reported_at_once(tmp_path):
    text = SHIPPED.replace("kimg: 64", "kimg: 0").replace("count: 64", "count: 0")
    with pytest.raises(AtelierError) as refused:
        load(tmp_path, text)
    assert "train.kimg" in str(refused.value)
    assert "generate.count" in str(refused.value)


def test_an_unknown_section_is_an_error(tmp_path):
    assert "trian is an unknown key; did you mean train?" in refusal(tmp_path, "train:\n", "trian:\n")


def test_invalid_yaml_is_an_error_that_names_the_line(tmp_path):
    assert re.match(r"params\.yaml:\d+: not valid YAML", refusal(tmp_path, "arch: sketch", "arch: [sketch"))


def test_a_key_that_occurs_twice_is_an_error(tmp_path):
    message = refusal(tmp_path, "  kimg: 64", "  kimg: 5\n  kimg: 64")
    assert "not valid YAML" in message
    assert "kimg" in message


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"\xff\xfe\x00", b"null\n"])
def test_a_file_without_sections_is_an_error(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(AtelierError, match=r"params\.yaml"):
        load_params(path)


def test_a_missing_file_says_how_to_restore_it(tmp_path):
    with pytest.raises(AtelierError, match="git checkout"):
        load_params(tmp_path / "params.yaml")


def test_wikiart_needs_exactly_one_list_and_a_contact(tmp_path):
    asked = SHIPPED.replace("source: gallery", "source: wikiart", 1)
    with pytest.raises(AtelierError, match=r"scrape\.wikiart\.contact holds ''"):
        load(tmp_path, asked)
    with_contact = asked.replace('contact: ""', "contact: me@example.org")
    assert load(tmp_path, with_contact).scrape.wikiart.contact == "me@example.org"
    with pytest.raises(AtelierError, match="set exactly one of genre, style and artist"):
        load(tmp_path, with_contact.replace("style: null", "style: impressionism"))
    loopback = asked.replace("https://www.wikiart.org ", "http://127.0.0.1:8000 ")
    assert load(tmp_path, loopback).scrape.wikiart.contact == ""


def test_chained_passes_must_reach_the_scale(tmp_path):
    before, after = SHIPPED.split("train_upscaler:")
    text = f"{before}train_upscaler:{after.replace('scale: 4 ', 'scale: 8 ').replace('scale: 2 ', 'scale: 4 ')}"
    with pytest.raises(AtelierError, match=r"upscale\.scale holds 8; with train_upscaler\.scale 4 it may hold 4"):
        load(tmp_path, text)


def test_numbers_may_be_written_as_people_write_them(tmp_path):
    assert load(tmp_path, SHIPPED.replace("lr: 0.0002", "lr: 1e-4")).train.lr == 1e-4
    assert load(tmp_path, SHIPPED.replace("kimg: 64", "kimg: 2.5")).train.kimg == 2.5


def test_missing_keys_have_their_defaults(tmp_path):
    assert load(tmp_path, "train:\n  kimg: 5\n").train.step_batch == 32


def test_docs_params_md_is_up_to_date():
    assert Path("docs/params.md").read_text(encoding="utf-8") == markdown(SHIPPED), (
        "run `python -m tools.params_table > docs/params.md`"
    )


@pytest.mark.parametrize("arch", ARCHS)
def test_the_comments_give_each_architectures_value_for_auto(arch):
    """`auto: 0.6, for r3gan cosine`"""
    recipe, said = RECIPES[arch], {}
    for line in SHIPPED.splitlines():
        if (name := line.split(":")[0].strip()) not in recipe:
            continue
        usual, *others = line.split("; auto: ")[1].split(", ")
        own = dict(other.removeprefix("for ").split(" ") for other in others)
        said[name] = own.get(arch, usual)
    assert said == {name: f"{value:g}" if isinstance(value, float) else value for name, value in recipe.items()}


def test_each_setting_of_an_architecture_may_be_auto_or_a_value(tmp_path):
    train = load(tmp_path, SHIPPED.replace("beta1: auto ", "beta1: 0.25").replace("ema: auto ", "ema: power")).train
    assert (train.beta1, train.ema, train.beta2) == (0.25, "power", "auto")
    for wrong in ("beta1: 1.0", "beta1: rising", "loss: mine", "beta2: 1"):
        name = wrong.split(":")[0]
        with pytest.raises(AtelierError, match=rf"train\.{name} holds .* it may hold auto"):
            load(tmp_path, SHIPPED.replace(f"  {name}: auto", f"  {wrong}"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("kimg: 64", "kimg: \x07 120", f":{KIMG}: not valid YAML: remove the control character 0x07"),
        ("kimg: 64", "kimg: 64  # \x1b[0m", f":{KIMG}: not valid YAML: remove the control character 0x1b"),
        ("train:\n", "train:\n  <<: {key: 3}\n", f":{TRAIN}: train.key is an unknown key"),
        (
            "train:\n",
            "train:\n  <<: {batch: many}\n",
            f":{TRAIN}: train.batch holds 'many'",
        ),
        ("train:\n", "<<: {key: 3}\ntrain:\n", r"key is an unknown key"),
        ("train:\n", "train:\n  true: 3\n", f":{TRAIN + 1}: train.True is an unknown key"),
        ("kimg: 64", "kimg: 2001-99-14", "not valid YAML: month must be"),
        ("kimg: 64", "kimg: " + "[" * 1000, "nest too deeply"),
        (
            "  kimg: 64",
            "<<<<<<< HEAD\n  kimg: 64\n=======\n  kimg: 99\n>>>>>>> b",
            f":{KIMG}: git left a conflict here",
        ),
    ],
)
def test_whatever_the_mistake_its_line_is_named(tmp_path, old, new, sentence):
    text = Path("params.yaml").read_text()
    if "batch: many" in new:
        text = text.replace("  batch: auto ", "  # batch: auto ")
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(AtelierError, match=sentence):
        load_params(path)

"""Two model files over one packed set."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from atelier.files import digest
from atelier.metrics.compare import main
from atelier.networks import NetworkConfig
from tests.datasets import pack_blots
from tests.models import save_small_generator

pytestmark = pytest.mark.usefixtures("judged_small")

ONE, OTHER = Path("one.safetensors"), Path("other.safetensors")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pack_blots(48)
    save_small_generator(ONE)


def compared(*options: str) -> dict:
    main([str(ONE), str(OTHER), "--samples=12", "--device=cpu", "--json=result.json", *options])
    return json.loads(Path("result.json").read_text())


def test_equal_weights_are_even_and_the_result_names_both_models(capsys) -> None:
    OTHER.write_bytes(ONE.read_bytes())
    result = compared()
    assert not result["wins"]
    for distance in ("kid", "kid_coarse"):
        gain = result[distance]
        assert (gain["low"], gain["high"], gain["verdict"]) == (0, 0, "even")
    assert result["sha256"] == {"champion": digest(ONE), "challenger": digest(ONE)}
    said = capsys.readouterr().out
    assert "kid: distance of generated pictures from held-out paintings" in said
    assert "0 is as good as real, smaller is better" in said
    assert re.search(r"one.safetensors, by kid, is .* a painting blurred by \d", said)
    assert re.search(r"other.safetensors, by kid, is .* a painting blurred by \d", said)
    assert "stays" in said


def test_another_architecture_can_be_compared_with_the_same_result_every_time() -> None:
    save_small_generator(OTHER, network=NetworkConfig("sketch", 32, {"nz": 16, "ngf": 8, "ndf": 8, "noise": 4}))
    result = compared()
    assert result["kid"]["champion"] != result["kid"]["challenger"]
    assert compared() == result
    assert compared("--seed=1") != result


def test_both_models_are_judged_by_lite1_where_lite0s_features_have_trained_one(capsys) -> None:
    save_small_generator(OTHER, seed=1)
    usual = compared()
    assert usual["features"] == "lite0-v1"
    save_small_generator(OTHER, seed=1, facts={"start": {"discriminator": "features"}})
    result = compared()
    assert result["features"] == "lite1-v1"
    assert result["kid"]["champion"] != usual["kid"]["champion"]
    assert (
        "Judged by the features lite1-v1, because a model was trained by those of lite0-v1" in capsys.readouterr().out
    )


def test_the_confidence_is_an_option_and_stands_in_the_result(capsys) -> None:
    OTHER.write_bytes(ONE.read_bytes())
    assert compared("--confidence=0.8")["confidence"] == 0.8
    assert "90% of resamplings" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        compared("--confidence=95")
    assert "95 is not between 0 and 1" in capsys.readouterr().err


def test_a_sheet_shows_both_models_pictures_of_the_same_seeds() -> None:
    save_small_generator(OTHER, seed=1)
    for name in ("sheet.png", "again.png"):
        compared(f"--sheet={name}", "--samples=20")
    assert Path("sheet.png").read_bytes() == Path("again.png").read_bytes()
    with Image.open("sheet.png") as picture:
        width, height = picture.size
        left, right = (picture.crop((x, height // 2, x + width // 2, height)) for x in (0, width // 2))
        assert width > height > 300
        assert left.tobytes() != right.tobytes()


def test_a_model_of_another_size_and_a_missing_one_are_reported(capsys) -> None:
    save_small_generator(OTHER, network=NetworkConfig("dcgan", 64, {"nz": 16, "ngf": 8, "ndf": 8}))
    with pytest.raises(SystemExit, match="1"):
        compared()
    assert "paints 64 px, the dataset holds 32 px" in capsys.readouterr().err
    OTHER.unlink()
    with pytest.raises(SystemExit, match="1"):
        compared()
    assert "other.safetensors" in capsys.readouterr().err


def test_a_comparison_computes_deterministically(deterministic_afterwards_as_before: None) -> None:
    """A night's promotion depends on it: on a GPU, torch would else choose algorithms by timing."""
    OTHER.write_bytes(ONE.read_bytes())
    torch.use_deterministic_algorithms(False)
    compared()
    assert torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def deterministic_afterwards_as_before() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)

"""Pictures that a GPU with slow float64 painted in float32: what they record, and how they are painted again."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from atelier.canvas.artworks import provenance_of
from atelier.canvas.paint import paint
from atelier.canvas.recipe import Recipe
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.paths import GENERATOR
from atelier.provenance.facts import Answer, Job, Jobs, ModelFacts, canonical_json, read_provenance, write_png
from atelier.provenance.repaint import answers
from flows.records.lineage import IN_FLOAT32, _picture
from flows.repaint.picture import Picture, read_pictures
from flows.repaint.verdict import Verdict, judge
from tests.models import save_small_generator

CPU = torch.device("cpu")
RECIPE = Recipe(seed=1, index=7, canvas=(1, 1), truncation=1.0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    save_small_generator()
    yield


def painted(precision: str) -> Picture:
    """A picture that was painted on the CPU in this precision."""
    network, header = load_generator(GENERATOR)
    painter = in_double_precision(network, CPU, precision)
    path = Path(f"{precision}.png")
    write_png(path, paint(painter, RECIPE), provenance_of(painter, ModelFacts.of(GENERATOR, header), RECIPE))
    picture = read_pictures({str(path): path}, print)[str(path)]
    assert isinstance(picture, Picture)
    return picture


def painted_again(picture: Picture, provenance: dict[str, object]) -> tuple[Answer, Verdict]:
    to = Path("again.npy")
    jobs = Jobs(jobs=[Job(name="a", provenance=provenance, generator=GENERATOR, to=to)])
    (answer,) = answers(jobs, CPU)
    return answer, judge(picture, answer, np.load(to))


def test_only_float32_is_written_into_a_picture() -> None:
    exact, rounded = painted("float64").provenance, painted("float32").provenance
    assert "precision" not in canonical_json(exact)
    assert '"precision":"float32"' in canonical_json(rounded)
    assert read_provenance(Path("float32.png")).software.precision == "float32"
    assert _picture(rounded)[1].endswith(IN_FLOAT32)
    assert "float32" not in _picture(exact)[1]


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_picture_is_painted_again_in_its_own_precision(precision: str) -> None:
    picture = painted(precision)
    answer, verdict = painted_again(picture, picture.provenance.model_dump(mode="json", exclude_unset=True))
    assert answer.software.precision == precision
    assert verdict.kind == "identical"


def test_a_picture_in_float32_differs_by_one_level_at_most_and_the_verdict_says_why() -> None:
    picture = painted("float32")
    pixels = paint(in_double_precision(load_generator(GENERATOR)[0], CPU), RECIPE)
    pixels[0, 0, 0] ^= 1  # if none differs by chance
    assert np.abs(pixels.astype(int) - np.concatenate([*picture.bands()]).astype(int)).max() == 1
    answer, _ = painted_again(picture, picture.provenance.model_dump(mode="json", exclude_unset=True))
    other = answer.model_copy(
        update={"pixels": answer.pixels and answer.pixels.model_copy(update={"sha256": "0" * 64})}
    )
    verdict = judge(picture, other, pixels)
    assert verdict.kind == "within 1/255"
    assert verdict.words.endswith("in float32 hardware decides the last digits")
    in_float64 = other.model_copy(update={"software": other.software.model_copy(update={"precision": "float64"})})
    assert "made with arithmetic in float32, painted again with float64" in judge(picture, in_float64, pixels).words


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_gpu_paints_the_pixels_of_a_cpu_up_to_rounding(precision: str) -> None:
    one, other = (
        paint(in_double_precision(load_generator(GENERATOR)[0], device, precision), RECIPE).astype(int)
        for device in (CPU, torch.device("cuda"))
    )
    assert np.abs(one - other).max() <= (precision == "float32")

"""ONNX files: what onnxruntime renders from them is what the generator renders."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from atelier.errors import AtelierError
from atelier.export.onnx_file import OPSET, convert, export, largest_difference
from atelier.networks import NetworkConfig, load_generator, r3gan
from tests.models import LABELS, save_small_generator

DCGAN = NetworkConfig("dcgan", 16, {"nz": 16, "ngf": 8, "ndf": 8})
SKETCH = NetworkConfig("sketch", 16, {"nz": 20, "ngf": 8, "ndf": 8, "noise": 4})
R3GAN = NetworkConfig("r3gan", 16, {"nz": 16, "preset": "narrow"})
EACH_KIND = pytest.mark.parametrize(
    "generator", [SKETCH, DCGAN, R3GAN], indirect=True, ids=lambda network: network.arch
)
SHAPED_WITH_LABELS = pytest.mark.parametrize(
    "generator",
    [SKETCH.with_aspect("3:2").with_labels(LABELS), R3GAN.with_aspect("3:4").with_labels(LABELS)],
    indirect=True,
    ids=lambda network: network.arch,
)


@pytest.fixture(scope="module", autouse=True)
def _narrow_r3gan() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(r3gan.PRESETS, "narrow", (16, 1))
        yield


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    path = tmp_path_factory.mktemp("model") / "generator.safetensors"
    save_small_generator(path, network=request.param)
    return path


@pytest.fixture(scope="module")
def exported(generator: Path) -> tuple[Path, str]:
    """The ONNX file of the generator, and what was said about it."""
    to = generator.parent / "out" / "generator.onnx"
    return to, export(generator, to)


@EACH_KIND
def test_an_exported_generator_renders_the_same_pictures(generator: Path, exported: tuple[Path, str]) -> None:
    to, said = exported
    assert "any number of pictures at once" in said
    assert largest_difference(to.read_bytes(), generator) < 0.01
    model = onnx.load(to)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [OPSET]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    network, _ = load_generator(generator)
    assert int(facts["latent_numbers"]) + int(facts["grain_numbers"]) == network.inputs


@pytest.mark.parametrize("generator", [SKETCH], indirect=True)
def test_the_batch_can_be_fixed(generator: Path, tmp_path: Path) -> None:
    export(generator, tmp_path / "four.onnx", batch=4)
    session = onnxruntime.InferenceSession(tmp_path / "four.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[0] == 4


@pytest.mark.parametrize("generator", [SKETCH], indirect=True)
def test_equal_generators_give_equal_files_without_paths(generator: Path, exported: tuple[Path, str]) -> None:
    content = exported[0].read_bytes()
    assert content == convert(generator)
    assert str(Path(__file__).parents[3]).encode() not in content
    assert b"latent_field.py" not in content


@EACH_KIND
def test_a_field_of_latents_has_any_size(generator: Path) -> None:
    session = onnxruntime.InferenceSession(convert(generator, field=True), providers=["CPUExecutionProvider"])
    network, _ = load_generator(generator)
    for rows, columns in ((1, 1), (1, 3), (4, 4)):
        z = torch.randn(1, network.inputs, rows, columns)
        with torch.inference_mode():
            expected = network(z).numpy()
        assert np.abs(session.run(None, {"z": z.numpy()})[0] - expected).max() < 1e-4


def test_what_is_no_generator_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "generator.safetensors").write_bytes(b"no network")
    with pytest.raises(AtelierError):
        export(tmp_path / "generator.safetensors", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@SHAPED_WITH_LABELS
def test_pictures_and_canvases_of_another_shape_are_rendered_in_it(generator: Path, exported: tuple[Path, str]) -> None:
    assert largest_difference(exported[0].read_bytes(), generator) < 0.01
    session = onnxruntime.InferenceSession(convert(generator, field=True))
    network, _ = load_generator(generator)
    (canvas,) = session.run(None, {"z": np.ones((1, network.inputs, 1, 2), np.float32)})
    height, width = network.size_px
    assert height != width
    assert canvas.shape == (1, 3, height, 2 * width)


@SHAPED_WITH_LABELS
def test_the_weights_of_labels_are_inputs_and_the_file_names_them(generator: Path, exported: tuple[Path, str]) -> None:
    facts = {entry.key: entry.value for entry in onnx.load(exported[0]).metadata_props}
    assert json.loads(facts["labels"]) == [*LABELS.names]
    network, _ = load_generator(generator)
    assert int(facts["latent_numbers"]) + len(LABELS.names) + int(facts["grain_numbers"]) == network.inputs

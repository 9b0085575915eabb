"""ONNX files: what onnxruntime renders from them is what the generator renders."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from atelier.errors import AtelierError
from atelier.export.onnx_file import OPSET, convert, export, largest_difference
from atelier.networks import NetworkConfig, load_generator
from tests.models import SMALL, save_small_generator

SKETCH = NetworkConfig("sketch", 32, {"nz": 20, "ngf": 8, "ndf": 8, "noise": 4})
R3GAN = NetworkConfig("r3gan", 32, {"nz": 16, "preset": "S"})


@pytest.fixture
def generator(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "generator.safetensors"
    save_small_generator(path, network=getattr(request, "param", SKETCH))
    return path


@pytest.mark.parametrize("generator", [SMALL, SKETCH, R3GAN], indirect=True, ids=lambda network: network.arch)
def test_an_exported_generator_renders_the_same_pictures(generator: Path, tmp_path: Path) -> None:
    to = tmp_path / "out" / "generator.onnx"
    assert "any number of pictures at once" in export(generator, to)
    assert largest_difference(to.read_bytes(), generator) < 0.01
    model = onnx.load(to)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [OPSET]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    network, _ = load_generator(generator)
    assert int(facts["latent_numbers"]) + int(facts["grain_numbers"]) == network.inputs


def test_the_batch_can_be_fixed(generator: Path, tmp_path: Path) -> None:
    export(generator, tmp_path / "four.onnx", batch=4)
    session = onnxruntime.InferenceSession(tmp_path / "four.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[0] == 4


def test_equal_generators_give_equal_files_without_paths(generator: Path) -> None:
    content = convert(generator)
    assert content == convert(generator)
    assert str(Path(__file__).parents[3]).encode() not in content
    assert b"latent_field.py" not in content


@pytest.mark.parametrize("generator", [SMALL, SKETCH, R3GAN], indirect=True, ids=lambda network: network.arch)
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

"""Malicious model files are refused before a network of the size that they claim is allocated."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from atelier.errors import AtelierError
from atelier.networks import FORMAT, load_generator
from atelier.upscaling import network

HEADER = {
    "format": FORMAT, "arch": "dcgan", "resolution": 32, "settings": {"nz": 16, "ngf": 8, "ndf": 8},
}  # fmt: skip
SHAPE = {"format": network.FORMAT, "scale": 2, "features": 8, "blocks": 2}


def model(**changes: Any) -> bytes:
    return save({"w": torch.zeros(1)}, {"atelier": json.dumps({**HEADER, **changes})})


def sized(**changes: Any) -> bytes:
    return model(settings={"nz": 16, "ngf": 8, "ndf": 8, **changes})


def tensors(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


BEYOND = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
MODELS = {
    "nothing": (b"", "no whole safetensors"),
    "a pickle": (pickle.dumps(HEADER), "no whole safetensors"),
    "a header beyond the file": (struct.pack("<Q", 2**60) + b"{}", "no whole safetensors"),
    "a tensor beyond the file": (tensors(BEYOND), "no whole safetensors"),
    "no header of ours": (save({"w": torch.zeros(1)}), f"no {FORMAT} header"),
    "another format": (model(format="atelier-model/99"), f"no {FORMAT} header"),
    "a list": (save({"w": torch.zeros(1)}, {"atelier": "[1]"}), f"no {FORMAT} header"),
    "deep nesting": (save({"w": torch.zeros(1)}, {"atelier": "[" * 10**6}), f"no {FORMAT} header"),
    "no architecture of ours": (model(arch="stylegan"), "architecture is 'stylegan'"),
    "other weights": (model(), "does not hold the weights"),
    "terabytes": (sized(ngf=10**9), "does not hold the weights"),
    "terabytes of an opponent": (sized(ndf=10**9), "does not hold the weights"),
    "more than any tensor has": (sized(nz=2**62, ngf=2**62), "do not fit dcgan"),
    "less than nothing": (sized(nz=-1), "does not hold the weights"),
    "a word": (sized(nz="many"), "do not fit dcgan"),
    "a list of settings": (model(settings=[1]), "its settings are no settings of a network"),
    "an immense picture": (model(resolution=2**30), "does not hold the weights"),
    "no picture's size": (model(resolution=33), "do not fit dcgan"),
    "a word for a size": (model(resolution="33"), "do not fit dcgan"),
}


@pytest.mark.parametrize(("content", "words"), MODELS.values(), ids=MODELS.keys())
def test_a_model_is_refused_with_a_sentence(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    path.write_bytes(content)
    with pytest.raises(AtelierError, match=words) as caught:
        load_generator(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize(
    "changes",
    [{"features": 10**9}, {"blocks": 10**9}, {"scale": 10**9}, {"scale": -1}, {"features": "8"}, {}],
)
def test_an_upscaler_is_refused_with_a_sentence(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "upscaler.safetensors"
    path.write_bytes(save({"w": torch.zeros(1)}, {"atelier": json.dumps({**SHAPE, **changes})}))
    with pytest.raises(AtelierError, match="does not hold the weights its header names"):
        network.load_upscaler(path)

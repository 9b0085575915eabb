"""Snapshots of R3GAN's program are imported by a reader of tensors, once their licence is accepted."""

import contextlib
import itertools
import json
import os
import pickle
import random
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.importers.__main__ import import_model, main
from atelier.importers.pickled import PERSISTENT, Record, read_pickle
from atelier.importers.r3gan import networks_of_r3gan
from atelier.networks import NetworkConfig, load_discriminator, load_generator, make_networks, read_model
from atelier.training.initial import open_start

NZ, WIDTHS, BLOCKS = 5, [256, 256], 1  # preset S at 8 px
PX = 8
# widths and groups of the 3×3 convolutions at 4, 8, … px, as train.py of R3GAN has them; two blocks a stage
FFHQ = {
    64: ([768, 768, 768, 768, 384], [96, 96, 96, 96, 48]),
    256: ([768, 768, 768, 768, 384, 192, 96], [96, 96, 96, 96, 48, 24, 12]),
}
LAYERS = ("GeneratorStage", "DiscriminatorStage", "GenerativeBasis", "DiscriminativeBasis", "UpsampleLayer",
          "DownsampleLayer", "ResidualBlock", "Convolution", "Generator", "Discriminator")  # fmt: skip
WAYS = ("Up", "Down")

Part = Callable[..., nn.Module]


@pytest.fixture(params=[("training.networks", "R3GAN"), ("training.networks_baseline", "BaselineGAN")])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Part]:
    """A function that makes a module of a class of R3GAN's with these attributes; pickles name that class."""
    training, package = request.param
    names = {f"training.{name}": f"{training}.{name}" for name in ("Generator", "Discriminator")}
    names |= {f"Networks.{name}": f"{package}.Networks.{name}" for name in LAYERS}
    for name in ("FusedOperators.BiasedActivationCUDA", *(f"Resamplers.Interpolative{way}samplerCUDA" for way in WAYS)):
        names[name] = f"{package}.{name}"
    classes: dict[str, type[nn.Module]] = {}
    for short, full in names.items():
        module, _, name = full.rpartition(".")
        classes[short] = type(name, (nn.Module,), {"__module__": module})
        setattr(module_of(module, monkeypatch), name, classes[short])

    def make(name: str, **attributes: Any) -> nn.Module:
        module = classes[name]()
        for key, value in attributes.items():
            if key == "Kernel":
                module.register_buffer(key, value)
            else:
                setattr(module, key, nn.Parameter(value) if isinstance(value, Tensor) else value)
        return module

    yield make


def module_of(name: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An empty module of this name, for the length of a test, which pickle finds."""
    if parent := name.rpartition(".")[0]:
        module_of(parent, monkeypatch)
    monkeypatch.setitem(sys.modules, name, made := sys.modules.get(name) or types.ModuleType(name))
    return made


def snapshot(part: Part, c_dim: int = 0, widths: list[int] = WIDTHS, line: tuple[float, ...] = (1, 3, 3, 1)) -> dict:
    """The dict that R3GAN's program pickles, with small networks of random weights."""
    torch.manual_seed(1)
    kernel = torch.outer(torch.tensor(line), torch.tensor(line)) / sum(line) ** 2

    def convolution(before: int, after: int, side: int, groups: int = 1) -> nn.Module:
        layer = nn.Conv2d(before, after, side, padding=side // 2, groups=groups, bias=False)
        layer.weight.data = scaled(layer.weight.shape)
        return part("Networks.Convolution", Layer=layer)

    def linear(before: int, after: int) -> nn.Module:
        layer = nn.Linear(before, after, bias=False)
        layer.weight.data = scaled(layer.weight.shape)
        return layer

    def block(width: int) -> nn.Module:
        inner = 2 * width
        biases = [part("FusedOperators.BiasedActivationCUDA", Bias=torch.randn(inner)) for _ in range(2)]
        return part(
            "Networks.ResidualBlock", LinearLayer1=convolution(width, inner, 1),
            LinearLayer2=convolution(inner, inner, 3, inner // 16), LinearLayer3=convolution(inner, width, 1),
            NonLinearity1=biases[0], NonLinearity2=biases[1],
        )  # fmt: skip

    def resample(way: str, before: int, after: int) -> nn.Module:
        module = part(
            f"Networks.{way}sampleLayer", Resampler=part(f"Resamplers.Interpolative{way}samplerCUDA", Kernel=kernel)
        )
        if before != after:
            module.LinearLayer = convolution(before, after, 1)
        return module

    def stage(kind: str, *layers: nn.Module) -> nn.Module:
        return part(f"Networks.{kind}Stage", Layers=nn.ModuleList(layers), DataType=torch.bfloat16)

    def blocks(width: int) -> list[nn.Module]:
        return [block(width) for _ in range(BLOCKS)]

    def generator() -> nn.Module:
        first, last = widths[0], widths[-1]
        base = part("Networks.GenerativeBasis", Basis=torch.randn(first, 4, 4), LinearLayer=linear(NZ, first))
        stages = [stage("Generator", base, *blocks(first))]
        for before, after in itertools.pairwise(widths):
            stages.append(stage("Generator", resample("Up", before, after), *blocks(after)))
        model = part("Networks.Generator", MainLayers=nn.ModuleList(stages), AggregationLayer=convolution(last, 3, 1))
        return part("training.Generator", Model=model, z_dim=NZ, c_dim=c_dim, img_resolution=4 * 2 ** len(widths) // 2)

    finer = [
        stage("Discriminator", *blocks(fine), resample("Down", fine, coarse))
        for fine, coarse in itertools.pairwise(widths[::-1])
    ]
    depthwise = nn.Conv2d(widths[0], widths[0], 4, groups=widths[0], bias=False)
    base = part("Networks.DiscriminativeBasis", Basis=depthwise, LinearLayer=linear(widths[0], 1))
    model = part(
        "Networks.Discriminator", ExtractionLayer=convolution(3, widths[-1], 1),
        MainLayers=nn.ModuleList([*finer, stage("Discriminator", *blocks(widths[0]), base)]),
    )  # fmt: skip
    networks = {"G": generator(), "D": part("training.Discriminator", Model=model), "G_ema": generator()}
    for network in networks.values():
        network.eval().requires_grad_(False)
    state = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 2e-4, "betas": (0, 0.99)}]}
    return {**networks, "training_set_kwargs": {"path": "ffhq.zip", "xflip": True}, "cur_nimg": 7, "D_opt_state": state}


def scaled(shape: tuple[int, ...]) -> Tensor:
    weights = torch.randn(shape)
    return weights * weights[0].numel() ** -0.5


def written(path: Path, content: dict) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def convolved(module: nn.Module, x: Tensor) -> Tensor:
    weight = module.Layer.weight
    return functional.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=x.shape[1] // weight.shape[1])


def through_block(module: nn.Module, x: Tensor) -> Tensor:
    y = convolved(module.LinearLayer1, x) + module.NonLinearity1.Bias[:, None, None]
    y = convolved(module.LinearLayer2, functional.leaky_relu(y, 0.2)) + module.NonLinearity2.Bias[:, None, None]
    return x + convolved(module.LinearLayer3, functional.leaky_relu(y, 0.2))


def through(network: nn.Module, x: Tensor) -> Tensor:
    """What R3GAN's program computes in float32: resampling by zeros between pixels, or a filter and every other one."""
    model = network.Model
    if hasattr(model, "ExtractionLayer"):
        x = convolved(model.ExtractionLayer, x)
    for layer in (layer for stage in model.MainLayers for layer in stage.Layers):
        if type(layer).__name__ == "ResidualBlock":
            x = through_block(layer, x)
        elif type(layer).__name__ == "GenerativeBasis":
            x = layer.Basis * layer.LinearLayer(x)[:, :, None, None]
        elif type(layer).__name__ == "DiscriminativeBasis":
            x = layer.LinearLayer(layer.Basis(x).flatten(1))
        else:
            up = type(layer).__name__ == "UpsampleLayer"
            linear, kernel = getattr(layer, "LinearLayer", None), layer.Resampler.Kernel[None, None]
            if up and linear:
                x = convolved(linear, x)
            count, channels, height, width = x.shape
            if up:
                wide = x.new_zeros(count, channels, 2 * height, 2 * width)
                wide[:, :, ::2, ::2] = 4 * x
                x = functional.pad(wide, (2, 1, 2, 1))
            else:
                x = functional.pad(x, (1, 1, 1, 1))
            filters = kernel.expand(channels, -1, -1, -1)
            x = functional.conv2d(x, filters, stride=1 if up else 2, groups=channels)
            if not up and linear:
                x = convolved(linear, x)
    return convolved(model.AggregationLayer, x) if hasattr(model, "AggregationLayer") else x.flatten()


def test_the_networks_of_a_snapshot_give_the_same_outputs(tmp_path: Path, part: Part):
    content = snapshot(part)
    file = written(tmp_path / "network-snapshot-final.pkl", content)
    path = import_model(file, None, tmp_path / "models", None, accept_licence=True)
    assert path.name.startswith("network-snapshot-final-")
    generator, header = load_generator(path / "generator.safetensors")
    discriminator, _ = load_discriminator(path / "discriminator.safetensors")
    assert (header["arch"], header["resolution"], header["settings"]) == ("r3gan", PX, {"preset": "S", "nz": NZ})
    generator, discriminator = generator.double(), discriminator.double()  # so that no rounding hides a difference
    theirs = {name: content[name].double() for name in ("G", "D", "G_ema")}
    z = torch.randn(3, NZ, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pictures = through(theirs["G_ema"], z)
    assert not torch.allclose(pictures, through(theirs["G"], z), rtol=0, atol=pictures.abs().max().item() / 10)
    assert_close(generator(z), pictures)
    assert_close(discriminator(pictures), through(theirs["D"], pictures))


@pytest.mark.parametrize("px", FFHQ)
def test_the_preset_l_has_the_sizes_of_the_networks_for_ffhq(px: int):
    widths, groups = FFHQ[px]
    with torch.device("meta"):
        generator, discriminator = make_networks(NetworkConfig("r3gan", px, {"preset": "L", "nz": 64}))
    blocks = [
        shape
        for width, count in zip(widths, groups, strict=True)
        for shape in 2 * [(2 * width, width, 1, 1), (2 * width,), (2 * width, 2 * width // count, 3, 3), (2 * width,),
                          (width, 2 * width, 1, 1)]
    ]  # fmt: skip
    changes = [(a, b) for a, b in itertools.pairwise(widths) if a != b]
    base = [(768, 4, 4), (768, 64, 1, 1), (3, widths[-1], 1, 1)]
    assert shapes(generator) == sorted([*base, *blocks, *((b, a, 1, 1) for a, b in changes)])
    base = [(widths[-1], 3, 1, 1), (768, 1, 4, 4), (1, 768, 1, 1)]
    assert shapes(discriminator) == sorted([*base, *blocks, *((a, b, 1, 1) for a, b in changes)])


def shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return sorted(tuple(tensor.shape) for tensor in network.state_dict().values())


def test_the_licence_is_shown_and_its_acceptance_recorded(tmp_path: Path, part: Part, capsys: pytest.CaptureFixture):
    file = written(tmp_path / "FFHQ.pkl", snapshot(part))
    models = tmp_path / "models"
    with pytest.raises(SystemExit) as ended:
        main([str(file), f"--folder={models}"])
    told = capsys.readouterr()
    assert ended.value.code == 1 and not told.out and not models.exists()
    for words in ("R3GAN/issues/13", "stylegan3/blob/main/LICENSE.txt", "research or evaluation", "CC BY-NC-SA 4.0"):
        assert words in told.err
    assert told.err.rstrip().endswith(f"import {file} with --accept-licence")
    main([str(file), f"--folder={models}", "--accept-licence"])
    told = capsys.readouterr()
    assert "CC BY-NC-SA 4.0" in told.out and "train.r3gan: {nz: 5, preset: S}" in told.out
    (path,) = models.iterdir()
    imported = json.loads((path / "model.json").read_text())["imported"]
    assert imported["sha256"] == {"generator": digest(file), "discriminator": digest(file)}
    assert imported["format"] == "r3gan" and imported["licence"]["accepted"] is True
    assert "CC BY-NC-SA 4.0" in imported["licence"]["name"]
    assert read_model(path / "generator.safetensors")[0]["imported"] == imported
    assert open_start(path, NetworkConfig("r3gan", PX, {"preset": "S", "nz": NZ})).lineage["imported"] == imported
    assert import_model(file, None, models, None, accept_licence=True) == path


def test_a_snapshot_without_discriminator_is_a_generator_alone(tmp_path: Path, part: Part):
    file = written(tmp_path / "g.pkl", {"G_ema": snapshot(part)["G_ema"]})
    path = import_model(file, None, tmp_path / "models", None, accept_licence=True)
    assert not (path / "discriminator.safetensors").exists()
    assert json.loads((path / "model.json").read_text())["imported"]["sha256"]["discriminator"] is None
    with pytest.raises(AtelierError, match=r"leave .* out"):
        import_model(file, file, tmp_path / "models", None, accept_licence=True)


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.called


def test_code_in_a_snapshot_is_not_run(tmp_path: Path, part: Part, monkeypatch: pytest.MonkeyPatch):
    ran = tmp_path / "ran"
    content = snapshot(part)
    file = written(tmp_path / "bad.pkl", {**content, "augment_pipe": Calls(os.mkdir, str(ran))})
    with pytest.raises(AtelierError, match=r"bad\.pkl is no R3GAN .*'(posix|nt)\.mkdir'"):
        import_model(file, None, tmp_path / "models", None, accept_licence=True)
    for function in (eval, exec, getattr, __import__):
        written(file, {**content, "augment_pipe": Calls(function, "1")})
        with pytest.raises(AtelierError, match=f"{function.__name__}'"):
            import_model(file, None, tmp_path / "models", None, accept_licence=True)
    # StyleGAN's way, with source code that its own program would run
    module, _, name = PERSISTENT.rpartition(".")
    persistence = module_of(module, monkeypatch)
    setattr(persistence, name, types.FunctionType((lambda meta: None).__code__, {}, name))
    getattr(persistence, name).__module__, getattr(persistence, name).__qualname__ = module, name
    meta = {"type": "class", "version": 6, "module_src": f"import os\nos.mkdir({str(ran)!r})", "class_name": "Pipe",
            "state": {"p": torch.zeros(2)}}  # fmt: skip
    pipe = Calls(getattr(persistence, name), meta)
    found = read_pickle(pickle.dumps(pipe), frozenset())
    assert isinstance(found, Record) and found.name == "Pipe" and found.fields["p"].read().tolist() == [0, 0]
    written(file, {**content, "augment_pipe": pipe})
    assert import_model(file, None, tmp_path / "models", None, accept_licence=True).is_dir()
    assert not ran.exists()


def test_other_networks_and_damaged_ones_are_refused_with_a_sentence(tmp_path: Path, part: Part):
    def refused(reason: str, content: object) -> None:
        file = tmp_path / "net.pkl"
        file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
        with pytest.raises(AtelierError, match=reason) as error:
            import_model(file, None, tmp_path / "models", None, accept_licence=True)
        assert str(file) in str(error.value)

    def changed(change: Callable[[Any], None]) -> dict:
        content = snapshot(part)
        change(content["G_ema"].Model)
        return content

    whole = pickle.dumps(snapshot(part))
    refused("paints 10 classes", snapshot(part, c_dim=10))
    refused("begins with 320 channels, and its widths or blocks", snapshot(part, widths=[320, 320]))
    refused("its resampling filter is not", snapshot(part, line=(1, 2, 2, 1)))
    refused("no generator under the name G_ema", {"G": 1})
    refused("no generator under the name G_ema", [1])
    refused("'Model.EmbeddingLayer.weight', which R3GAN's unconditional", changed(
        lambda model: setattr(model, "EmbeddingLayer", nn.Linear(3, 4, bias=False))))  # fmt: skip
    refused("numbers that are not finite", changed(
        lambda model: model.AggregationLayer.Layer.weight.fill_(float("nan"))))  # fmt: skip
    refused("no Model.AggregationLayer.Layer.weight", changed(lambda model: delattr(model, "AggregationLayer")))
    refused(r"no layer before Model\.MainLayers\.1\.Layers\.1", changed(
        lambda model: model.MainLayers[1].Layers._modules.pop("0")))  # fmt: skip
    refused("a layer has", changed(lambda model: delattr(model.MainLayers[1].Layers[1], "NonLinearity2")))
    shared = torch.zeros(1_000_000)
    refused("more numbers than the file contains", changed(
        lambda model: [model.register_buffer(f"b{place}", shared) for place in range(20)]))  # fmt: skip
    refused("is no module of PyTorch", changed(lambda model: model.add_module("again", model)))
    refused("is no module of PyTorch", changed(lambda model: model.register_buffer("n" * 1000, shared)))
    refused("cut off or damaged: download it again", whole[:-100])
    refused("cut off or damaged: download it again", whole[: len(whole) // 2])
    refused("is an HTML page", b"<!DOCTYPE html>")
    refused("git lfs pull", b"version https://git-lfs.github.com/spec/v1")
    refused("no snapshot of R3GAN: let its name end in .pth", b"PK\x03\x04")
    refused("is empty", b"")
    with pytest.raises(AtelierError, match="no such file"):
        import_model(tmp_path / "none.pkl", None, tmp_path / "models", None)


def nested(depth: int) -> bytes:
    """A dict whose key is a tuple in a tuple, and so on."""
    return b"\x80\x04})" + b"\x85" * depth + b"K\x01s."


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04B\xff\xff\xff\x7f12.",  # 2 GB of bytes announced
        b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.",  # a bytearray of any size
        b"\x80\x04K\x01r\xff\xff\xff\xff.",  # a place far behind in the memo
        nested(300_000),
        b"\x80\x04" + b"K\x01" * 2_100_000 + b".",
        b"\x80\x04c__builtin__\nset\nB\x04\x00\x00\x00abcdR.",  # a function called with bytes as its arguments
        b"\x80\x04.",
        b"\x80\x04h\x07.",
        b"\x80\x04K\x01K\x02K\x03s.",
        b"\x80\x04)q\x00" + b"h\x00\x86q\x00" * 60 + b"\x8c\x01x\x93.",  # a name of 2^60 characters
        b"\x80\x04\x8c\x05G_ema" + b"\x85" * 100_000 + b"\x8c\x01x\x93.",
        b"\x80\x04\x8b" + (5_000).to_bytes(4, "little") + b"\x01" * 5_000 + b".",  # an integer of 12,000 digits
    ],
)
def test_hostile_operations_end_with_a_sentence(content: bytes):
    with pytest.raises(AtelierError):
        networks_of_r3gan(content)


def test_a_damaged_snapshot_is_read_or_refused(part: Part):
    whole = pickle.dumps({"G_ema": snapshot(part)["D"]})
    places = [place for place in range(len(whole)) if place % 4_000_000 < 3_000]
    draw = random.Random(1)
    for turn in range(150):
        content = bytearray(whole)
        if turn % 4 == 0:
            del content[draw.randrange(1, len(content)) :]
        for _ in range(draw.randint(1, 4)):
            content[min(draw.choice(places), len(content) - 1)] = draw.randrange(256)
        with contextlib.suppress(AtelierError):
            networks_of_r3gan(bytes(content))


@pytest.mark.parametrize(
    "changes", [{"shape": (10**9, 2)}, {"strides": (10**9, 1)}, {"offset": 3}, {"offset": -1}, {"shape": ((1,), 2)},
                {"shape": (2,)}, {"strides": (0, 0), "shape": (3, 3)}],
)  # fmt: skip
def test_a_tensor_beyond_its_numbers_is_refused(changes: dict):
    def rebuilt(storage: Any, offset: int, shape: Any, strides: Any, *rest: Any) -> Calls:
        said = {"offset": offset, "shape": shape, "strides": strides} | changes
        return Calls(torch._utils._rebuild_tensor_v2, storage, *said.values(), *rest)

    function, arguments = torch.zeros(2, 2).__reduce_ex__(4)
    assert function is torch._utils._rebuild_tensor_v2
    assert read_pickle(pickle.dumps(torch.ones(2, 2)), frozenset()).read().tolist() == [[1, 1], [1, 1]]
    with pytest.raises(AtelierError, match="a tensor"):
        read_pickle(pickle.dumps(rebuilt(*arguments)), frozenset()).read()

"""Networks of art-DCGAN and dcgan.torch are imported as models that compute the same."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from atelier.errors import AtelierError
from atelier.importers.__main__ import import_model
from atelier.networks import NetworkConfig, load_generator, make_networks, read_model
from tests.torch7 import Function, Obj, Tensor, dumped, flattened, obj, table, tensor

NZ, NGF, NDF = 5, 3, 2
EPS = 1e-5


@dataclass
class Drawn:
    """A generator's parameters, layer by layer: weights and biases of convolutions, and those of batch norms."""

    weights: list[np.ndarray]
    biases: list[np.ndarray]
    norms: list[tuple[np.ndarray, ...]]  # weight, bias, running mean, running variance


def drawn(resolution: int = 32, biased: bool = False, seed: int = 0) -> Drawn:
    draw = np.random.default_rng(seed)
    steps = int(np.log2(resolution)) - 2
    widths = [NZ, *(NGF * 2**step for step in reversed(range(steps))), 3]
    weights = [draw.normal(0, 0.2, (into, out, 4, 4)).astype("f4") for into, out in itertools.pairwise(widths)]
    biases = [draw.normal(0, 0.3, width).astype("f4") * biased for width in widths[1:]]
    biases[-1] *= 0
    norms = [
        (draw.normal(1, 0.1, width).astype("f4"), draw.normal(0, 0.1, width).astype("f4"),
         draw.normal(0, 0.1, width).astype("f4"), draw.uniform(0.5, 2, width).astype("f4"))
        for width in widths[1:-1]
    ]  # fmt: skip
    return Drawn(weights, biases, norms)


def painted(made: Drawn, z: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """The output of main.lua's generator, computed with PyTorch's functions only."""
    features = z[:, :, None, None]
    for place, weight in enumerate(made.weights):
        stride, padding = (1, 0) if place == 0 else (2, 1)
        bias = torch.from_numpy(made.biases[place])
        features = functional.conv_transpose2d(features, torch.from_numpy(weight), bias, stride, padding)
        if place < len(made.norms):
            gain, shift, mean, variance = map(torch.from_numpy, made.norms[place])
            features = functional.batch_norm(features, mean, variance, gain, shift, eps=eps).relu()
    return features.tanh()


def net_g(
    made: Drawn, package: str = "nn", kind: str = "torch.FloatTensor", biased: bool = False, **norm: object
) -> Obj:
    """netG as `torch.save(…, netG:clearState())` writes it after `getParameters()`, with one storage."""
    flat = []
    for weight, bias, norm in itertools.zip_longest(made.weights, made.biases, made.norms, fillvalue=()):
        flat += [weight, bias, *norm[:2]]
    views, modules = iter(flattened(flat, kind)), []
    for place, weight in enumerate(made.weights):
        stride, padding = (1, 0) if place == 0 else (2, 1)
        own, bias = next(views), next(views)
        fields = {"weight": own, "gradWeight": own, "nInputPlane": weight.shape[0], "nOutputPlane": weight.shape[1],
                  "kW": 4, "kH": 4, "dW": stride, "dH": stride, "padW": padding, "padH": padding, "adjW": 0, "adjH": 0,
                  "train": True, "_type": kind, "output": Tensor(kind, (), (), 0, None)}  # fmt: skip
        modules.append(Obj(f"{package}.SpatialFullConvolution", fields | ({"bias": bias} if biased else {})))
        if place == len(made.norms):
            break
        statistics = {
            "running_mean": tensor(made.norms[place][2], kind),
            "running_var": tensor(made.norms[place][3], kind),
        }
        fields = {"weight": next(views), "bias": next(views), "eps": EPS, "affine": True, **statistics}
        modules.append(Obj(f"{package}.SpatialBatchNormalization", fields, 2))
        modules.append(obj(f"{package}.ReLU", inplace=True, threshold=0, val=0))
    modules.append(obj(f"{package}.Tanh"))
    return obj("nn.Sequential", _type=kind, modules=table(*modules), train=True)


def imported(network: object, folder: Path, ascii: bool = False, name: str = "net_G.t7") -> Path:
    (folder / name).write_bytes(dumped(network, ascii))
    return import_model(folder / name, None, folder / "models", None)


def assert_paints_as(path: Path, made: Drawn, eps: float = EPS) -> None:
    generator, _ = load_generator(path / "generator.safetensors")
    z = torch.randn(3, NZ, generator=torch.Generator().manual_seed(1))
    assert_close(generator(z), painted(made, z, eps), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize(("package", "kind"), [("nn", "torch.FloatTensor"), ("cudnn", "torch.CudaTensor")])
def test_an_imported_generator_of_torch7_computes_what_its_layers_compute(
    tmp_path: Path, resolution: int, package: str, kind: str
):
    made = drawn(resolution)
    path = imported(net_g(made, package, kind), tmp_path)
    header, _ = read_model(path / "generator.safetensors")
    assert (header["arch"], header["resolution"]) == ("dcgan", resolution)
    assert {key: header["settings"][key] for key in ("nz", "ngf")} == {"nz": NZ, "ngf": NGF}
    assert_paints_as(path, made)


def test_ascii_files_and_files_of_doubles_give_the_same_weights(tmp_path: Path):
    made = drawn()
    _, binary = read_model(imported(net_g(made), tmp_path) / "generator.safetensors")
    for kind, ascii in (("torch.FloatTensor", True), ("torch.DoubleTensor", False)):
        _, other = read_model(imported(net_g(made, kind=kind), tmp_path, ascii) / "generator.safetensors")
        assert all(torch.equal(binary[name], other[name]) for name in binary)


def test_biases_of_older_files_are_folded_into_the_batch_norms(tmp_path: Path):
    made = drawn(biased=True)
    assert_paints_as(imported(net_g(made, biased=True), tmp_path), made)


def test_a_bias_in_the_last_layer_is_refused_because_no_batch_norm_follows(tmp_path: Path):
    made = drawn(biased=True)
    made.biases[-1] += 0.5
    with pytest.raises(AtelierError, match=r"net_G.t7 .* layer 10 .* adds a bias"):
        imported(net_g(made, biased=True), tmp_path)


def test_old_batch_norms_store_the_inverse_deviation_and_another_eps_is_folded_in(tmp_path: Path):
    made = drawn()
    network = net_g(made)
    for module, norm in zip(list(network.fields["modules"].values())[1::3], made.norms, strict=False):
        module.version = 1
        del module.fields["running_var"]
        module.fields["running_std"] = tensor((norm[3] + EPS) ** -0.5)
    assert_paints_as(imported(network, tmp_path), made)

    network = net_g(made)
    for module in list(network.fields["modules"].values())[1::3]:
        module.fields["eps"] = 1e-3
    assert_paints_as(imported(network, tmp_path), made, eps=1e-3)


def test_a_view_as_the_first_layer_and_batch_norms_without_weights_are_supported(tmp_path: Path):
    made = drawn()
    made.norms = [(np.ones_like(norm[0]), np.zeros_like(norm[1]), *norm[2:]) for norm in made.norms]
    network = net_g(made)
    modules = list(network.fields["modules"].values())
    for module in modules[1::3]:
        if "BatchNorm" in module.name:
            del module.fields["weight"], module.fields["bias"]
            module.fields["affine"] = False
    network.fields["modules"] = table(obj("nn.View", numElements=NZ), *modules)
    assert_paints_as(imported(network, tmp_path), made)


def without(network: Obj, place: int) -> Obj:
    modules = list(network.fields["modules"].values())
    return obj("nn.Sequential", modules=table(*modules[:place], *modules[place + 1 :]))


def changed(network: Obj, place: int, **fields: object) -> Obj:
    network.fields["modules"][place].fields |= fields
    return network


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (table(1, 2), "no nn.Sequential"),
        (obj("nn.Sequential"), "has no layers"),
        (obj("nn.Sequential", modules={}), "has no layers"),
        (obj("nn.Sequential", modules=table(1)), "something else than a sequence of layers"),
        (obj("nn.gModule"), "class 'nn.gModule'"),
        (obj("nn.Sequential", modules=table(obj("nn.ReLU", hook=Function()))), "Lua function"),
        (without(net_g(drawn()), 1), "its layers are"),
        (without(net_g(drawn()), 2), "its layers are"),
        (without(net_g(drawn()), 10), "its layers are"),
        (changed(net_g(drawn()), 4, dW=1), "different sizes along height and width"),
        (changed(net_g(drawn()), 4, padW=0, padH=0), r"layer 4 .* stride 2 and padding 0"),
        (changed(net_g(drawn()), 4, adjW=1), "adjusted output size"),
        (changed(net_g(drawn()), 4, weight=None), r"layer 4 .* has no weight"),
        (changed(net_g(drawn()), 4, weight=tensor(np.ones((12, 6, 3, 3)))), "12×6×3×3; a DCGAN's end in 4×4"),
        (changed(net_g(drawn()), 4, weight=tensor(np.ones((12, 7, 4, 4)))), "joins 12 and 7 channels"),
        (changed(net_g(drawn()), 4, weight=tensor(np.full((12, 6, 4, 4), np.nan))), "no finite float32 numbers"),
        (changed(net_g(drawn()), 4, dW=math.inf, dH=math.inf), "dW inf, which is no whole number"),
        (changed(net_g(drawn()), 4, padW=0.5, padH=0.5), "padW 0.5, which is no whole number"),
        (changed(net_g(drawn()), 5, running_mean=tensor(np.ones(5))), "running_mean of 5"),
        (changed(net_g(drawn()), 5, running_var=tensor(-np.ones(6))), "negative variance"),
        (changed(net_g(drawn()), 5, running_var="many"), "has no running_var"),
    ],
)  # fmt: skip
def test_networks_other_than_dcgans_are_refused_with_a_message(tmp_path: Path, network: object, reason: str):
    with pytest.raises(AtelierError, match=reason):
        imported(network, tmp_path)
    assert not list((tmp_path / "models").glob("*"))


def net_d(draw: np.random.Generator, slope: float = 0.2) -> Obj:
    """netD at 32 px as main.lua builds it."""
    modules, widths = [], [3, NDF, 2 * NDF, 4 * NDF, 1]
    for place, (into, out) in enumerate(itertools.pairwise(widths)):
        stride, padding = (1, 0) if place == 3 else (2, 1)
        fields = {"weight": tensor(draw.normal(0, 0.2, (out, into, 4, 4))), "kW": 4, "kH": 4,
                  "dW": stride, "dH": stride, "padW": padding, "padH": padding}  # fmt: skip
        modules.append(Obj("nn.SpatialConvolution", fields))
        if place in (1, 2):
            norm = {key: tensor(draw.uniform(0.5, 2, out)) for key in ("weight", "bias", "running_mean", "running_var")}
            modules.append(Obj("nn.SpatialBatchNormalization", {"eps": EPS, **norm}, 2))
        modules.append(obj("nn.LeakyReLU", negval=slope, inplace=True) if place < 3 else obj("nn.Sigmoid"))
    return obj("nn.Sequential", modules=table(*modules, obj("nn.View", numElements=1)))


def judged(network: Obj, images: torch.Tensor) -> torch.Tensor:
    """The output of netD before the sigmoid, computed with PyTorch's functions only."""

    def numbers(module: Obj, key: str) -> torch.Tensor:
        found = module.fields[key]
        return torch.tensor(found.storage.values).reshape(found.sizes)

    for module in network.fields["modules"].values():
        if module.name == "nn.SpatialConvolution":
            stride, padding = module.fields["dW"], module.fields["padW"]
            images = functional.conv2d(images, numbers(module, "weight"), None, stride, padding)
        elif module.name == "nn.SpatialBatchNormalization":
            mean, variance = numbers(module, "running_mean"), numbers(module, "running_var")
            gain, shift = numbers(module, "weight"), numbers(module, "bias")
            images = functional.batch_norm(images, mean, variance, gain, shift, eps=EPS)
        elif module.name == "nn.LeakyReLU":
            images = functional.leaky_relu(images, 0.2)
    return images.flatten()


def test_a_discriminator_of_torch7_is_imported_beside_the_generator(tmp_path: Path):
    network = net_d(np.random.default_rng(2))
    (tmp_path / "net_D.t7").write_bytes(dumped(network))
    (tmp_path / "net_G.t7").write_bytes(dumped(net_g(drawn())))
    path = import_model(tmp_path / "net_G.t7", tmp_path / "net_D.t7", tmp_path / "models", None)
    header, weights = read_model(path / "discriminator.safetensors")
    assert header["settings"] == {"nz": NZ, "ngf": NGF, "ndf": NDF}
    _, discriminator = make_networks(NetworkConfig("dcgan", 32, header["settings"]))
    discriminator.load_state_dict(weights)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert_close(discriminator.eval()(images), judged(network, images), atol=1e-4, rtol=1e-4)

    (tmp_path / "net_D.t7").write_bytes(dumped(net_d(np.random.default_rng(2), slope=0.1)))
    with pytest.raises(AtelierError, match=r"net_D.t7 .* another slope than 0.2"):
        import_model(tmp_path / "net_G.t7", tmp_path / "net_D.t7", tmp_path / "models", None)
    (tmp_path / "net_G.t7").write_bytes(dumped(net_g(drawn(64))))
    (tmp_path / "net_D.t7").write_bytes(dumped(network))
    with pytest.raises(AtelierError, match=r"for 32 px, .*net_G.t7 for 64 px: no pair"):
        import_model(tmp_path / "net_G.t7", tmp_path / "net_D.t7", tmp_path / "models", None)

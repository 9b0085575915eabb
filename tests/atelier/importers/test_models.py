"""Files of pytorch/examples' DCGAN and models of Atelier are imported as model directories."""

import contextlib
import io
import json
import os
import random
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.importers.__main__ import import_model, main
from atelier.importers.dcgan import layers_of_pytorch
from atelier.networks import NetworkConfig, load_generator, make_networks, read_model, save_network
from tests.models import LABELS

NZ, NGF, NDF = 5, 3, 2


def pth_pair(folder: Path, prefix: str = "") -> tuple[torch.nn.Module, Path, Path]:
    """Files of netG and netD of pytorch/examples, and Atelier's generator with the same weights."""
    torch.manual_seed(0)
    generator, discriminator = make_networks(NetworkConfig("dcgan", 64, {"nz": NZ, "ngf": NGF, "ndf": NDF}))
    for name, values in generator.state_dict().items():
        if "running" in name:
            values.uniform_(0.5, 1.5)
    states = []
    for network in (generator, discriminator):
        names = {}
        for name, values in network.state_dict().items():
            _, place, rest = name.replace("project.", "layers.-1.").split(".")
            names[f"{prefix}main.{int(place) + (network is generator)}.{rest}"] = values
        states.append(names)
    for name, state in zip("GD", states, strict=True):
        torch.save(state, folder / f"net{name}_epoch_24.pth")
    return generator.eval(), folder / "netG_epoch_24.pth", folder / "netD_epoch_24.pth"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_of_pytorch_examples_become_a_pair(tmp_path: Path, prefix: str):
    generator, net_g, net_d = pth_pair(tmp_path, prefix)
    path = import_model(net_g, net_d, tmp_path / "models", None)
    assert path.name.startswith("netg_epoch_24-")
    found, header = load_generator(path / "generator.safetensors")
    z = torch.randn(2, NZ, generator=torch.Generator().manual_seed(1))
    assert_close(found(z), generator(z), atol=0, rtol=0)
    assert header["settings"] == {"nz": NZ, "ngf": NGF, "ndf": NDF}
    _, rival = read_model(path / "discriminator.safetensors")
    original = torch.load(net_d, weights_only=True)
    assert torch.equal(rival["layers.0.weight"], original[f"{prefix}main.0.weight"])


def test_an_imported_model_stores_the_digests_of_its_files(tmp_path: Path):
    _, net_g, net_d = pth_pair(tmp_path)
    path = import_model(net_g, net_d, tmp_path / "models", "sea")
    facts = json.loads((path / "model.json").read_text())
    source = {"format": "pytorch", "sha256": {"generator": digest(net_g), "discriminator": digest(net_d)}}
    assert facts["imported"] == source
    assert read_model(path / "generator.safetensors")[0]["imported"] == source
    assert facts["generator_sha256"] == digest(path / "generator.safetensors")
    assert str(tmp_path) not in json.dumps(facts)
    before = {file: digest(file) for file in path.iterdir()}
    assert import_model(net_g, net_d, tmp_path / "models", "sea") == path
    assert {file: digest(file) for file in path.iterdir()} == before
    assert import_model(net_g, None, tmp_path / "models", "sea") != path


def test_wrong_files_of_pytorch_are_refused_with_a_message(tmp_path: Path):
    _, net_g, net_d = pth_pair(tmp_path)

    def refused(reason: str, file: Path = tmp_path / "bad.pth", rival: Path | None = None) -> None:
        with pytest.raises(AtelierError, match=reason):
            import_model(file, rival, tmp_path / "models", None)

    def of(**changes: object) -> None:
        torch.save({**torch.load(net_g, weights_only=True), **changes}, tmp_path / "bad.pth")

    refused("is a discriminator, not a generator", net_d)
    refused("is a generator, not a discriminator", net_g, net_g)
    refused("cannot be read", tmp_path / "none.pth")
    refused("no such file", tmp_path / "net.onnx")
    (tmp_path / "net.onnx").touch()
    refused("only .t7, .pth", tmp_path / "net.onnx")
    torch.save({"main": Path("x")}, tmp_path / "bad.pth")
    refused("could run code")
    torch.save([1], tmp_path / "bad.pth")
    refused("no state dict")
    of(**{"main.1.weight": torch.zeros(3)})
    refused(r"main\.1 has weight of 3")
    large = torch.full_like(torch.load(net_g, weights_only=True)["main.0.weight"], 1e300, dtype=torch.float64)
    for weight in (large, large.to(torch.complex64), large.to(torch.int64)):
        of(**{"main.0.weight": weight})
        refused("no finite float32 numbers")
    of(**{"fc.weight": torch.zeros(3)})
    refused("'fc.weight', which the DCGAN")
    of(**{"main.2.weight": torch.zeros(3)})
    refused(r"main\.12: a DCGAN has them at other places")
    of(**{"main.0.weight": torch.zeros(1).expand(4096, 4096, 4, 4)})
    refused("no plain tensor")
    (tmp_path / "bad.pth").write_bytes(net_g.read_bytes()[:-200])
    refused("no complete file|could run code")
    with zipfile.ZipFile(tmp_path / "bad.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(10**7))
    refused("unpacks to more")


@pytest.mark.parametrize("ending", [".PTH", ".pth.tar", ".PTH.TAR", ".ckpt", ".pt", ".t7"])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_contents_of_a_file_decide_its_format(tmp_path: Path, ending: str, wrapped: bool, zipped: bool):
    _, net_g, _ = pth_pair(tmp_path)
    state = torch.load(net_g, weights_only=True)
    path = tmp_path / f"Sea{ending}"
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, path, _use_new_zipfile_serialization=zipped)
    model = import_model(path, None, tmp_path / "models", None)
    assert (
        model.name.startswith("sea")
        and json.loads((model / "model.json").read_text())["imported"]["format"] == "pytorch"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: download it again"),
        (b"<!DOCTYPE html><html><title>Sign in</title>", "is an HTML page, which was downloaded instead"),
        (b"\xef\xbb\xbf\n <HTML lang=en>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"\x1f\x8b\x08" + bytes(99), "is an archive: unpack it"),
        (b"net_G.t7" + bytes(249) + b"ustar\x0000", "is an archive: unpack it"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b'{"error": "quota exceeded"}', "is a JSON file"),
        (b"Too many requests", "is neither a file of Torch7 nor one of PyTorch"),
        (b"PK\x03\x04", "no complete file of PyTorch: it is cut off or damaged; download it again"),
        (b"\x80\x02", "it is cut off or damaged; download it again"),
    ],
)
@pytest.mark.parametrize("ending", [".t7", ".pth", ".ckpt"])
def test_the_message_names_what_a_failed_download_left(tmp_path: Path, content: bytes, words: str, ending: str):
    path = tmp_path / f"net{ending}"
    path.write_bytes(content)
    with pytest.raises(AtelierError) as refused:
        import_model(path, None, tmp_path / "models", None)
    assert words in str(refused.value) and str(path) in str(refused.value)
    assert not (tmp_path / "models").exists()


def test_programs_and_other_archives_are_refused(tmp_path: Path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "net.pth")
    with pytest.raises(AtelierError, match=r"net\.pth is no DCGAN .*it is TorchScript, which is a program: save"):
        import_model(tmp_path / "net.pth", None, tmp_path / "models", None)
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("netG.pth", b"inside")
    with pytest.raises(AtelierError, match="a zip archive, and not one of PyTorch's: unpack it"):
        import_model(tmp_path / "net.pth", None, tmp_path / "models", None)
    for name in ("folder.pth", "folder.t7"):
        (tmp_path / name).mkdir()
        with pytest.raises(AtelierError, match=name):
            import_model(tmp_path / name, None, tmp_path / "models", None)
    os.mkfifo(tmp_path / "pipe.t7")
    with pytest.raises(AtelierError, match=r"pipe\.t7 is a pipe"):
        import_model(tmp_path / "pipe.t7", None, tmp_path / "models", None)


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path):
    _, net_g, _ = pth_pair(tmp_path)
    content = bytearray(net_g.read_bytes())
    content[len(content) // 2] ^= 1
    net_g.write_bytes(content)
    with pytest.raises(AtelierError, match="cut off or damaged"):
        import_model(net_g, None, tmp_path / "models", None)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_of_pytorch_is_read_or_refused(zipped: bool):
    state = {"main.0.weight": torch.ones(4, 8, 4, 4), "main.1.running_mean": torch.ones(8)}
    buffer, draw = io.BytesIO(), random.Random(1)
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    whole = buffer.getvalue()
    for turn in range(300):
        content = bytearray(whole)
        if turn % 4 == 0:
            del content[draw.randrange(1, len(content)) :]
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(min(len(content), 900))] = draw.randrange(256)
        with contextlib.suppress(AtelierError):
            layers_of_pytorch(bytes(content))


def test_a_model_of_atelier_is_copied_and_a_wrong_pair_is_refused(tmp_path: Path):
    config = NetworkConfig("dcgan", 32, {"nz": NZ, "ngf": NGF, "ndf": NDF})
    generator, discriminator = make_networks(config)
    model = tmp_path / "model"
    save_network(model / "generator.safetensors", generator, config, {"kimg": 12.0})
    save_network(model / "discriminator.safetensors", discriminator, config, {"kimg": 12.0})
    path = import_model(model, None, tmp_path / "models", None)
    assert digest(path / "generator.safetensors") == digest(model / "generator.safetensors")
    assert digest(path / "discriminator.safetensors") == digest(model / "discriminator.safetensors")
    assert json.loads((path / "model.json").read_text())["kimg"] == 12
    assert import_model(model / "generator.safetensors", None, tmp_path / "models", "model") == path
    save_network(model / "discriminator.safetensors", discriminator, replace(config, resolution=64), {})
    with pytest.raises(AtelierError, match="not the discriminator"):
        import_model(model, None, tmp_path / "models", None)


@pytest.mark.parametrize("lie", [{"ngf": 4}, {"ngf": 10**12}, {"ngf": -1}, {"ngf": "3"}, {"nz": None}, {}])
def test_a_header_that_does_not_match_its_weights_is_refused_before_memory_is_allocated(tmp_path: Path, lie: dict):
    generator, _ = make_networks(NetworkConfig("dcgan", 32, {"nz": NZ, "ngf": NGF, "ndf": NDF}))
    settings = {"nz": NZ, "ngf": NGF, "ndf": NDF, **lie} if lie else {}
    save_network(tmp_path / "generator.safetensors", generator, NetworkConfig("dcgan", 32, settings), {})
    with pytest.raises(AtelierError, match=r"weights of the dcgan|do not fit dcgan"):
        import_model(tmp_path / "generator.safetensors", None, tmp_path / "models", None)


def test_the_command_prints_how_to_use_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    _, net_g, _ = pth_pair(tmp_path)
    options = [str(net_g), "--folder", str(tmp_path / "models"), "--name"]
    network = NetworkConfig("dcgan", 32, {"nz": NZ, "ngf": NGF, "ndf": NDF})
    save_network(tmp_path / "own.safetensors", make_networks(network)[0], network, {"imported": None})
    main([str(tmp_path / "own.safetensors"), *options[1:], "own"])
    assert "of 32 px, without a discriminator" in capsys.readouterr().out
    labelled = network.with_aspect("3:2").with_labels(LABELS)
    save_network(tmp_path / "own.safetensors", make_networks(labelled)[0], labelled, {})
    main([str(tmp_path / "own.safetensors"), *options[1:], "own"])
    said = capsys.readouterr().out
    assert 'augment.aspect: "3:2"' in said and f"train.labels: {LABELS.kind}  # its labels: " in said
    assert f"train.dcgan: {{ndf: {NDF}, ngf: {NGF}, nz: {NZ}}}" in said
    shutil.rmtree(tmp_path / "models")
    main([*options, "sea"])
    (path,) = (tmp_path / "models").iterdir()
    assert f"init_from: {path}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main([*options, "../sea"])
    assert left.value.code == 1
    assert "the name '../sea' does not fit" in capsys.readouterr().err

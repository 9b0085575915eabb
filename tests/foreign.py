"""Somebody else's networks, small and with random weights, in files as their authors would leave them."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.PLKSR import PLKSR
from spandrel.architectures.SAFMN import SAFMN
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR
from torch import nn

MAKERS = {
    "ESRGAN": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=2),
    "ESRGAN ×4": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=4),
    "grey ESRGAN": lambda: ESRGAN(in_nc=1, out_nc=1, num_filters=8, num_blocks=1, scale=2),
    "SPAN": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
    "PLKSR": lambda: PLKSR(dim=8, n_blocks=6, upscaling_factor=2, kernel_size=17, ccm_type="DCCM"),
    "SwinIR": lambda: SwinIR(
        embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=8, upscale=2, img_size=64,
        upsampler="pixelshuffledirect",
    ),
    "SAFMN": lambda: SAFMN(dim=16, n_blocks=2, upscaling_factor=2, ffn_scale=2.0),
    "DnCNN": lambda: DnCNN(in_nc=3, out_nc=3, nc=8, nb=4, mode="R"),
}  # fmt: skip


def made(name: str) -> nn.Module:
    """The network, its weights drawn from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MAKERS[name]()


def far_sighted() -> nn.Module:
    """One that averages over 49 px in each of four layers: 96 px to each side, further than tiles overlap."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = PLKSR(dim=8, n_blocks=4, upscaling_factor=2, kernel_size=49, ccm_type="DCCM")
        layers = {name: weight for name, weight in network.named_parameters() if weight.ndim == 4}
        for name, weight in layers.items():
            if "lk.conv" in name:
                weight.fill_(2 / 49**2)
            else:
                nn.init.kaiming_uniform_(weight, a=1.0)
        layers[[*layers][-1]].mul_(0.3)
    return network


def saved(network: nn.Module, path: Path) -> tuple[Path, str]:
    """The network in a file of the kind that the path's suffix says, and the file's SHA-256."""
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"params_ema": tensors}, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()

"""In which numbers the networks compute: float32, or bfloat16 where the hardware is made for it.

In either, weights, gradients, optimisers and averages are float32, and so are losses and penalties: only what lies
between a network's input and its output is rounded to 8 significant bits, and sums of it are not.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from atelier.errors import AtelierError

Precision = Literal["float32", "bfloat16"]


def pick_precision(wanted: Precision | Literal["auto"], device: torch.device) -> tuple[Precision, str]:
    """The precision for `auto`, or as wanted, and words that say why. `auto` goes by the hardware alone.

    Raises AtelierError where the device cannot compute as wanted.
    """
    made_for_it = _made_for_bfloat16(device)
    if wanted == "auto":
        reason = (
            "which this device is made for" if made_for_it else "since this device is not made for bfloat16"
        )
        return ("bfloat16" if made_for_it else "float32"), reason
    if wanted == "bfloat16" and not made_for_it:
        if device.type != "cpu":
            raise AtelierError(
                f"train.precision holds bfloat16, and this {device.type} device has no arithmetic of it: "
                "set it to auto or float32"
            )
        return wanted, "as asked; this CPU is not made for it, and float32 would be faster"
    return wanted, "as asked"


def computed_in(precision: Precision, network: nn.Module) -> nn.Module:
    """The network, float32 in and out, computing in `precision`; its weights are the same tensors."""
    return network if precision == "float32" else _InBfloat16(network)


class _InBfloat16(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            y: Tensor = self.network(x)
        return y.float()


def _made_for_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False

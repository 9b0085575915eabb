"""How numbers get from the CPU to the device without anything waiting for them."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on `device`, or the tensor itself where it is there already.

    To a GPU it goes through pinned memory, behind what is queued there already: from ordinary memory the copy would
    wait for the GPU to finish all of that first.
    """
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)

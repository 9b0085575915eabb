"""Random numbers that depend on (purpose, seed, step) alone, so that resuming needs no generator's state."""

import hashlib

import torch


def generator_for(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator for one purpose at one place, the same on every device and library version."""
    name = ":".join([purpose, *map(str, numbers)])
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.Generator("cpu").manual_seed(seed)

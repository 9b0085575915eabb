"""What has to be measured on a GPU, in at most ten minutes: its tests, kernels a step, images a second.

    python bench/gpu.py [--minutes 10]

1. `pytest -m gpu`.
2. How many kernels one step of a discriminator with gradient penalties starts (R3GAN preset S, 64 px, batch 8), with
   the convolutions of atelier/networks/conv.py and with torch's own, and how long it takes.
3. `bench/train.py` for all networks of 128 px: ours has to reach 5,000 images a second with dcgan 160/40, and 1,500
   with r3gan S.

Without a GPU the same runs on the CPU, smaller, to try the script; kernels are then calls of torch's operations.
"""

import argparse
import subprocess
import sys
import time
from contextlib import nullcontext

import torch
from torch.profiler import ProfilerActivity, profile
from train import torch_convolutions

from atelier.networks import NetworkConfig, make_networks
from atelier.training.losses import Relativistic

BATCH, REPEATS = 8, 5


def main() -> None:
    """Run the three parts one after the other, each in what is left of the time."""
    parser = argparse.ArgumentParser(prog="bench/gpu.py")
    parser.add_argument("--minutes", type=float, default=10)
    end_s = time.monotonic() + 60 * parser.parse_args().minutes
    has_gpu = torch.cuda.is_available()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if has_gpu else 'no GPU'}", flush=True)
    _run(end_s, "-m", "pytest", "-q", "-m", "gpu", "tests")
    _count_kernels(torch.device("cuda" if has_gpu else "cpu"))
    _run(end_s, "bench/train.py", "--rounds", "3", "--only", "128 px" if has_gpu else "r3gan S, 64 px")


def _run(end_s: float, *words: str) -> None:
    try:
        subprocess.run([sys.executable, *words], check=False, timeout=max(end_s - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        print(f"{' '.join(words)}: stopped, the time is up", flush=True)


def _count_kernels(device: torch.device) -> None:
    torch.manual_seed(0)
    network = make_networks(NetworkConfig("r3gan", 64, {"preset": "S", "nz": 8}))[1].to(device)
    real, fake = (torch.randn(BATCH, 3, 64, 64, device=device) for _ in range(2))
    loss = Relativistic(2.0)

    def step() -> None:
        network.zero_grad()
        loss.discriminator(network, real, fake, 0.0).loss.backward()

    print("| convolutions | kernels a step | ms |\n|---|---|---|")
    for name, context in (("ours", nullcontext), ("torch's", torch_convolutions)):
        with context():
            step()
            activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
            with profile(activities=[activity]) as profiler:
                step()
            began_s = time.perf_counter()
            for _ in range(REPEATS):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            took_ms = (time.perf_counter() - began_s) / REPEATS * 1000
        kernels = sum(event.device_type.name.lower() == device.type for event in profiler.events())
        print(f"| {name} | {kernels:,} | {took_ms:.0f} |", flush=True)


if __name__ == "__main__":
    main()

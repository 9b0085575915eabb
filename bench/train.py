"""One training step of ours against the well-known PyTorch DCGAN example's, and what each option is worth on its own.

    python bench/train.py [--rounds 7] [--busy] [--compile] [--only "dcgan 24/12"]

The plain step trains DCGAN as the PyTorch example does: float32, default memory format and Adam, a sigmoid with binary
cross-entropy, gradients for the discriminator's weights also in the generator's step, losses read in every step. Each
row that begins with "plain +" changes one thing of it. Ours is the step of `Trainer.advance`, in deterministic mode and
with the running average; augmentation is off in both.

The matrix rate is the FLOP rate of a product (2048 × 2048) or a 3×3 convolution (256 channels), whichever is higher, in
the row's precision, measured just before.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from atelier.data.dataset import PackedDataset, View
from atelier.device import keep_freed_memory, pick_deterministic_device, relax_determinism
from atelier.networks import NetworkConfig, conv, make_networks
from atelier.training.config import Precision, TrainingPlan, pick_precision
from atelier.training.trainer import Trainer

NZ, LR, BETAS = 100, 2e-4, (0.5, 0.999)
Step = Callable[[], None]
STEPS: list[Step] = []  # of a contestant's process, its one


@dataclass(frozen=True)
class Case:
    """Networks and a batch size to measure."""

    name: str
    network: NetworkConfig
    batch: int = 64


@dataclass(frozen=True)
class Plain:
    """Which changes are made to the example's step."""

    channels_last: bool = False
    no_weight_gradients: bool = False  # of the discriminator in the generator's step
    bfloat16: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Entry:
    """A step to measure: ours, or a plain one. With `keeps`, malloc keeps freed memory, as in the stages.

    `without` replaces a part of ours by torch's; `relaxed` is train.deterministic: false.
    """

    case: Case
    plain: Plain | None
    precision: Precision
    keeps: bool
    without: Callable[[], AbstractContextManager[object]] = nullcontext
    relaxed: bool = False

    def make(self, device: torch.device) -> Step:
        if self.plain:
            return plain_step(self.case, self.plain, device)
        pick_deterministic_device(device.type)
        if self.relaxed:
            relax_determinism(device)
        step = our_step(self.case, self.precision, device)

        def partly() -> None:
            with self.without():
                step()

        return partly


@dataclass
class Contestant:
    """An entry in its own process, its peak memory beyond that at the start, and the seconds of each round."""

    entry: Entry
    process: ProcessPoolExecutor
    peak_mb: float
    seconds: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description="training step against the plain PyTorch DCGAN example's")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--busy", action="store_true", help="one thread's processor time: for a machine that others use"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile too; minutes on a CPU")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.busy:
        torch.set_num_threads(1)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {where}" + (", processor time" if options.busy else ""))
    rates = {precision: matrix_rate(precision, device, options.busy) for precision in ("float32", "bfloat16")}
    print("matrix rate: " + ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in rates.items()))
    for case in cases(device):
        if options.only in case.name:
            report(case, race(case, device, options.rounds, options.busy, options.compile), rates, device)


def cases(device: torch.device) -> list[Case]:
    """On a GPU also what only a GPU trains."""
    found = [Case("dcgan 24/12, 64 px", dcgan(64, 24, 12)), Case("dcgan 64/64, 64 px", dcgan(64, 64, 64))]
    sketch = NetworkConfig("sketch", 64, {"nz": NZ, "ngf": 24, "ndf": 12, "noise": 8})
    found.append(Case("sketch 24/12, 64 px (the default)", sketch))
    if device.type == "cpu":
        return [*found, Case("r3gan S, 64 px", r3gan(64), 2)]
    return [
        *found, Case("r3gan S, 64 px", r3gan(64)),
        Case("dcgan 160/40, 128 px", dcgan(128, 160, 40)), Case("r3gan S, 128 px", r3gan(128)),
    ]  # fmt: skip


def dcgan(resolution: int, ngf: int, ndf: int) -> NetworkConfig:
    return NetworkConfig("dcgan", resolution, {"nz": NZ, "ngf": ngf, "ndf": ndf})


def r3gan(resolution: int) -> NetworkConfig:
    return NetworkConfig("r3gan", resolution, {"preset": "S", "nz": 64})


def entries(case: Case, compiled: bool) -> dict[str, Entry]:
    found = {}
    if case.network.arch == "dcgan":
        options = {
            "plain": Plain(), "plain + channels_last": Plain(channels_last=True),
            "plain + no weight gradients in G's step": Plain(no_weight_gradients=True),
            "plain + bfloat16": Plain(bfloat16=True),
        }  # fmt: skip
        if compiled:
            options |= {"plain + torch.compile": Plain(compiled=True)}
        for name, option in options.items():
            found[name] = Entry(case, option, "bfloat16" if option.bfloat16 else "float32", keeps=False)
        found["plain + freed memory kept"] = Entry(case, Plain(), "float32", keeps=True)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        ours = Entry(case, None, precision, keeps=True)
        found[f"atelier, {precision}"] = ours
        if case.network.arch == "r3gan":
            found[f"atelier, {precision}, torch's convolutions"] = replace(ours, without=torch_convolutions)
        if torch.cuda.is_available():
            found[f"atelier, {precision}, not deterministic"] = replace(ours, relaxed=True)
    return found


def race(case: Case, device: torch.device, rounds: int, busy: bool, compiled: bool) -> dict[str, Contestant]:
    """All contestants in turns, each in a process of its own: how malloc behaves is a matter of the process."""
    contestants = {}
    with ExitStack() as stack:
        for name, entry in entries(case, compiled).items():
            process = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            peak = process.submit(begin, entry, device, torch.get_num_threads()).result()
            contestants[name] = Contestant(entry, process, peak, [])
        for _ in range(rounds):
            for contestant in contestants.values():
                contestant.seconds.append(contestant.process.submit(a_round, busy).result())
    return contestants


def begin(entry: Entry, device: torch.device, threads: int) -> float:
    """Make this process's contestant; returns its peak of memory, MB."""
    torch.set_num_threads(threads)
    if entry.keeps:
        keep_freed_memory()
    before = memory_mb(device)
    STEPS.append(entry.make(device))
    STEPS[0](), STEPS[0]()  # the first builds kernels and moments
    return peak_mb(device) - before


def a_round(busy: bool) -> float:
    """Seconds a step of this process's contestant."""
    STEPS[0]()  # caches are another's
    return timed(STEPS[0], 2, busy)


def report(case: Case, contestants: dict[str, Contestant], rates: dict[str, float], device: torch.device) -> None:
    first = next(iter(contestants.values()))
    flop = flop_of(our_step(case, "float32", device))
    print(f"\n{case.name}, batch {case.batch}, {flop / 1e9:.1f} GFLOP a step; auto is {auto(device)}")
    print("| | ms a step | img/s | s/kimg | against the first | peak MB | of the matrix rate |\n" + "|---" * 7 + "|")
    for name, contestant in contestants.items():
        median_s = statistics.median(contestant.seconds)
        pairs = zip(first.seconds, contestant.seconds, strict=True)
        ratio = statistics.median(one / other for one, other in pairs)
        share = flop / median_s / rates[contestant.entry.precision]
        print(
            f"| {name} | {median_s * 1000:.0f} | {case.batch / median_s:,.0f} | {median_s / case.batch * 1000:.2f} "
            f"| {ratio:.2f}× | {contestant.peak_mb:,.0f} | {share:.0%} |"
        )


def auto(device: torch.device) -> Precision:
    return pick_precision("auto", device)[0]


def timed(step: Step, repeats: int, busy: bool) -> float:
    """Seconds a step; of a GPU, until it has done them all."""
    clock = time.process_time if busy else time.perf_counter
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began_s = clock()
    for _ in range(repeats):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (clock() - began_s) / repeats


def matrix_rate(precision: str, device: torch.device, busy: bool) -> float:
    """FLOP a second that this machine has been seen to do, as one product and as one convolution."""
    one, other, pixels, weights = (
        torch.randn(shape, device=device, dtype=getattr(torch, precision))
        for shape in ((2048, 2048), (2048, 2048), (8, 256, 32, 32), (256, 256, 3, 3))
    )
    pixels, weights = (t.contiguous(memory_format=torch.channels_last) for t in (pixels, weights))
    found = []
    for work, flop in (
        (lambda: one @ other, 2 * 2048**3),
        (lambda: functional.conv2d(pixels, weights, padding=1), 2 * pixels.numel() * 256 * 9),
    ):
        timed(work, 2, busy)
        found += [flop / timed(work, 2, busy) for _ in range(3)]
    return max(found)


def torch_convolutions() -> AbstractContextManager[object]:
    """Within this context the networks compute with torch's convolutions and their derivatives."""
    return mock.patch.object(conv, "_has_no_gradient", lambda *tensors: True)


def flop_of(step: Step) -> float:
    """FLOP of the products and convolutions of a step."""
    with _Flop() as counter:
        step()
    return counter.flop


class _Flop(TorchDispatchMode):
    """torch's FlopCounterMode without its account by modules, which cannot bear gradients of gradients."""

    flop = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if count := flop_registry.get(function._overloadpacket):
            self.flop += count(*args, **(kwargs or {}), out_val=found)
        return found


def plain_step(case: Case, option: Plain, device: torch.device) -> Step:
    """A step as plain PyTorch writes it."""
    batch, resolution = case.batch, case.network.resolution
    generator, discriminator = (network.to(device) for network in make_networks(case.network))
    if option.channels_last:
        for network in (generator, discriminator):
            network.to(memory_format=torch.channels_last)
    paints, judges = (torch.compile(n) if option.compiled else n for n in (generator, discriminator))
    criterion = nn.BCELoss()
    adam_g, adam_d = (torch.optim.Adam(part.parameters(), lr=LR, betas=BETAS) for part in (generator, discriminator))
    real = torch.rand(batch, 3, resolution, resolution, device=device) * 2 - 1
    ones, zeros = torch.ones(batch, device=device), torch.zeros(batch, device=device)

    def computed(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        with torch_convolutions(), torch.autocast(device.type, torch.bfloat16, enabled=option.bfloat16):
            return network(x).float()

    def step() -> None:
        discriminator.zero_grad()
        real_score = torch.sigmoid(computed(judges, real))
        loss_real = criterion(real_score, ones)
        loss_real.backward()
        fake = computed(paints, torch.randn(batch, NZ, device=device))
        fake_score = torch.sigmoid(computed(judges, fake.detach()))
        loss_fake = criterion(fake_score, zeros)
        loss_fake.backward()
        adam_d.step()
        generator.zero_grad()
        discriminator.requires_grad_(not option.no_weight_gradients)
        score = torch.sigmoid(computed(judges, fake))
        loss = criterion(score, ones)
        loss.backward()
        discriminator.requires_grad_(True)
        adam_g.step()
        [part.mean().item() for part in (real_score, fake_score, score, loss_real + loss_fake, loss)]

    return step


def our_step(case: Case, precision: Precision, device: torch.device) -> Step:
    """A step of the trainer that `tasks.train` runs."""
    return our_trainer(case, precision, device, Path(tempfile.gettempdir())).advance


def our_trainer(case: Case, precision: Precision, device: torch.device, states: Path) -> Trainer:
    """The trainer that `tasks.train` runs, on noise; it has its states in `states`."""
    side = case.network.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (512, side, side, 3), dtype=np.uint8)
    view = View(pixels, [str(row) for row in range(len(pixels))], mirror=True)
    plan = TrainingPlan(
        network=case.network, batch=case.batch, seed=0, lr=LR, lr_discriminator=LR, beta1=BETAS[0], ema=0.999,
        augment=(), augment_probability=0, snapshot_kimg=1e6, images=10**9, lr_decay=0, precision=precision,
    )  # fmt: skip
    if case.network.arch == "r3gan":
        plan = replace(plan, loss="relativistic", beta1=0.0, ema="power")
    dataset = PackedDataset(side, "center", True, view, view)
    return Trainer(plan, dataset, device, states)


def memory_mb(device: torch.device) -> float:
    return torch.cuda.memory_allocated() / 2**20 if device.type == "cuda" else _status_mb("VmRSS")


def peak_mb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else _status_mb("VmHWM")


def _status_mb(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()

"""How much memory one training step of each preset takes on a GPU, counted without computing it.

    python bench/memory.py

The step runs on tensors without contents (torch's FakeTensorMode), and the bytes of all that exist at a time are
summed: weights, moments, average, activations and gradients. cuDNN's workspaces, the fragments of torch's allocator
and CUDA's own half a gigabyte come on top, and the paintings, which stay on the device (49 kB each at 128 px). On a
CPU the peak of a process was 1.3 times as large for `dcgan` 64/64 and `r3gan` S at 64 px; on a GPU it was not
measured.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atelier.networks import make_networks
from atelier.settings.edit import PRESETS, preset_values, with_values
from atelier.settings.schema import Params
from atelier.training.augment import Augment
from atelier.training.config import beta2_at, in_precision, training_plan
from atelier.training.optimizers import make_optimizer
from atelier.training.step import AdversarialStep


class Peak(TorchDispatchMode):
    """Sums the bytes of all tensors that exist, and keeps the largest sum in `bytes`."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.bytes = 0

    def __torch_dispatch__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, made)):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._alive = {key: (ref, size) for key, (ref, size) in self._alive.items() if not ref.expired()}
        self.bytes = max(self.bytes, sum(size for _, size in self._alive.values()))
        return made


def step_bytes(params: Params, precision: str) -> int:
    """The largest sum of tensors in one step of a training with these settings."""
    plan = training_plan(params.train, params.augment.resolution, precision)
    betas = (plan.beta1, beta2_at(plan.beta2, 0))
    with FakeTensorMode(allow_non_fake_inputs=True), Peak() as peak:
        (generator, discriminator), (average, _) = make_networks(plan.network), make_networks(plan.network)
        optimizers = [make_optimizer(net, plan.optimizer, 1e-3, 1e-3, betas) for net in (generator, discriminator)]
        networks = [in_precision(network, precision) for network in (generator, discriminator)]
        step = AdversarialStep(*networks, *optimizers, plan.adversarial_loss(), Augment([], 0))
        side = params.augment.resolution
        for _ in range(2):  # the first makes the moments
            real = torch.empty(plan.batch, 3, side, side)
            step.run(real, torch.empty(plan.batch, generator.inputs), torch.Generator(), 0.0)
        del average
    return peak.bytes


def main() -> None:
    """Print a row for each preset."""
    print("| preset | GB in bfloat16 | GB in float32 |\n|---|---|---|")
    for name in PRESETS:
        params = with_values(Params(), dict(preset_values(name)))
        sizes = [step_bytes(params, precision) / 1e9 for precision in ("bfloat16", "float32")]
        print(f"| {name} | " + " | ".join(f"{size:.2f}" for size in sizes) + " |", flush=True)


if __name__ == "__main__":
    main()

"""A training step neither keeps memory nor waits for the GPU."""

import gc
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from atelier.networks import NetworkConfig
from atelier.training import data
from atelier.training.augment import Augment, _shift_by_gather, _shift_by_slices
from atelier.training.config import TrainingPlan
from atelier.training.data import ResidentData
from atelier.training.state import generator_for
from atelier.training.trainer import Trainer
from tests.datasets import noise, noise_with_strips

CPU = torch.device("cpu")
SMALL = {"nz": 8, "ngf": 8, "ndf": 4}
EVERYTHING = ("translation", "brightness", "saturation", "contrast", "cutout")
PLAN = TrainingPlan(
    network=NetworkConfig("dcgan", 8, {"nz": 2, "ngf": 1, "ndf": 1}), batch=2, seed=3, lr=2e-4,
    lr_discriminator=2e-4, beta1=0.5, ema=0.9, augment=("translation",), augment_probability=0.5,
    snapshot_kimg=1e6, images=10**9, lr_decay=0,
)  # fmt: skip


def test_memory_does_not_grow_over_hundreds_of_steps(tmp_path: Path) -> None:
    """Of a network so small that a kilobyte kept a step would stand out, and an object a step in any case."""
    trainer = Trainer(PLAN, noise(8, train=20), CPU, tmp_path)
    for _ in range(100):  # first come kernels, moments and caches
        trainer.advance()
    process = psutil.Process()
    gc.collect()
    objects, resident = len(gc.get_objects()), process.memory_info().rss
    for _ in range(500):
        trainer.advance()
    gc.collect()
    assert len(gc.get_objects()) - objects < 28  # one in 18 steps
    assert process.memory_info().rss - resident < 570 * 2**10


def test_both_ways_to_shift_images_agree_and_the_gradient_is_the_shift_back() -> None:
    images = torch.randn(6, 3, 8, 8, generator=generator_for("images")).double().requires_grad_()
    down, right = (torch.randint(-7, 8, (6,), generator=generator_for(axis)) for axis in ("down", "right"))
    with torch.no_grad():
        assert torch.equal(_shift_by_slices(images, down, right), _shift_by_gather(images, down, right))
    shifted = Augment(["translation"], 1.0)
    assert torch.autograd.gradgradcheck(lambda x: shifted(x, generator_for("draws")), images, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: shifted(x, generator_for("draws")), images, fast_mode=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device to wait for")
class TestOnAGpu:
    """A step queues its work and goes on: whatever waits for the GPU in it raises here."""

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("arch, settings, loss", [
        ("dcgan", SMALL, "nonsaturating"), ("sketch", {**SMALL, "noise": 4}, "nonsaturating"),
        ("r3gan", {"preset": "S", "nz": 8}, "relativistic"),
    ])  # fmt: skip
    @pytest.mark.parametrize("room", [data.MAX_GPU_MEMORY_SHARE, 0.0])
    @pytest.mark.parametrize("paintings", [noise, noise_with_strips])
    def test_neither_a_step_nor_saving_the_state_waits_for_the_gpu(
        self, paintings, room, arch, settings, loss, precision, tmp_path, monkeypatch
    ) -> None:
        monkeypatch.setattr(data, "MAX_GPU_MEMORY_SHARE", room)
        plan = replace(
            PLAN,
            network=NetworkConfig(arch, 32, settings),
            loss=loss,
            precision=precision,
            augment=EVERYTHING,
        )
        trainer = Trainer(plan, paintings(32, train=20), torch.device("cuda"), tmp_path)
        trainer.advance()  # the first makes moments and kernels
        trainer.save()  # and memory for copies of the state
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                trainer.advance()
            trainer._begin_save()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        trainer._checkpoints.wait()

    def test_a_step_that_runs_out_of_memory_is_repeated_in_parts(self, tmp_path) -> None:
        torch.cuda.empty_cache()
        network = NetworkConfig("r3gan", 64, {"preset": "S", "nz": 8})
        plan = replace(PLAN, network=network, batch=64, loss="relativistic")
        cuda, picture = torch.device("cuda"), noise(64, train=20)
        torch.cuda.reset_peak_memory_stats()
        Trainer(plan, picture, cuda, tmp_path).advance()
        needed_bytes, (_, total_bytes) = torch.cuda.max_memory_allocated(), torch.cuda.mem_get_info()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.6 * needed_bytes / total_bytes)
        try:
            trainer = Trainer(plan, picture, cuda, tmp_path)
            for _ in range(2):
                trainer.advance()
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert trainer.micro_batch <= 32
        assert trainer._training_step.is_finite()

    def test_images_kept_in_the_machines_memory_give_the_same_batches(self, monkeypatch) -> None:
        view, cuda = noise(8, train=20).train, torch.device("cuda")
        there = ResidentData(view, 1, cuda)
        monkeypatch.setattr(data, "MAX_GPU_MEMORY_SHARE", 0.0)
        here = ResidentData(view, 1, cuda)
        assert here._images.device.type == "cpu"
        for step in range(3):
            assert torch.equal(there.batch(step, 7), here.batch(step, 7))

    @pytest.mark.parametrize("room", [data.MAX_GPU_MEMORY_SHARE, 0.0])
    def test_windows_are_the_same_as_on_a_cpu_but_for_the_rounding_of_a_few_pixels(self, room, monkeypatch) -> None:
        monkeypatch.setattr(data, "MAX_GPU_MEMORY_SHARE", room)
        strips = noise_with_strips(32, train=20).strips
        there, here = (data.RandomWindows(strips, 32, True, 1, torch.device(device)) for device in ("cuda", "cpu"))
        for step in range(3):
            off = (there.batch(step, 7).cpu() - here.batch(step, 7)).abs() * 127.5
            assert off.max() < 1.5 and (off > 0.5).float().mean() < 0.001
            assert torch.equal(there.batch(step, 7), there.batch(step, 7))

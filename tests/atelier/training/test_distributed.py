"""A training in several processes has the result of a single one, up to rounding, and resumes bit for bit."""

import functools
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from atelier.errors import AtelierError
from atelier.training.processes import run_in_processes
from tests import judged_small
from tests.several import (
    MIDDLES,
    PLANS,
    compare_on_gpus,
    gradients,
    train_all,
    trained,
)

pytestmark = pytest.mark.usefixtures("judged_small")
NAMES = pytest.mark.parametrize("name", PLANS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that two processes do, done once."""
    folder = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch:
        for cheaper in judged_small.CHEAPER:
            patch.setattr(*cheaper)
        for name in PLANS:
            trained(name, folder / name / "mixed", stop_at=MIDDLES["one"])
    with pytest.raises(AtelierError, match=r"^no memory in 1$"):
        run_in_processes(2, "cpu", 4, functools.partial(train_all, folder))
    return folder


def result(folder: Path, name: str, what: str, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / name / f"{what}-{rank}.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@NAMES
def test_the_gradients_of_two_processes_equal_those_of_one_up_to_rounding(folder, name):
    alone, together = gradients(name), result(folder, name, "gradients")
    assert alone.keys() == together.keys()
    for key, gradient in alone.items():
        assert torch.allclose(together[key], gradient, rtol=0, atol=float(1e-5 * gradient.abs().max())), key


@NAMES
def test_all_processes_have_the_same_weights(folder, name):
    assert same(result(folder, name, "undisturbed", 0), result(folder, name, "undisturbed", 1))


@NAMES
def test_two_processes_that_stop_and_resume_equal_two_undisturbed_ones_bit_for_bit(folder, name):
    assert same(result(folder, name, "undisturbed"), result(folder, name, "resumed"))


@NAMES
def test_trainings_in_one_process_in_two_and_in_both_in_turn_learn_the_same(folder, name):
    alone = trained(name, folder / name / "alone")
    untrained = trained(name, folder / name / "untrained", stop_at=1)
    changed_hands = trained(name, folder / name / "mixed")
    for other in (result(folder, name, "undisturbed"), changed_hands):
        for network in ("g.", "d.", "ema."):
            keys = [key for key in alone if key.startswith(network) and alone[key].is_floating_point()]
            moved = math.hypot(*(float((alone[key] - untrained[key]).norm()) for key in keys))
            apart = math.hypot(*(float((alone[key] - other[key]).norm()) for key in keys))
            assert 0 < apart < 1e-4 * moved
        assert other["p"] == alone["p"] != 0.5 or "adaptive" not in name


def test_a_process_that_runs_out_of_memory_makes_all_repeat_the_step_in_smaller_micro_batches(folder):
    alone, in_parts = gradients("r3gan"), result(folder, "r3gan", "in-parts")
    assert same(in_parts, result(folder, "r3gan", "in-parts", 1))
    for key, gradient in in_parts.items():
        assert torch.allclose(gradient, alone[key], rtol=0, atol=float(1e-5 * alone[key].abs().max())), key


def test_processes_that_cannot_have_equal_parts_of_a_batch_are_refused():
    with pytest.raises(AtelierError, match=r"train\.batch holds 8.*multiple of 3"):
        run_in_processes(3, "cpu", 8, lambda group: "never")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_compute_the_gradients_of_one_cpu(tmp_path):
    assert run_in_processes(2, "cuda", 4, functools.partial(compare_on_gpus, tmp_path)) == "on 0"
    for name in PLANS:
        alone, together = gradients(name), load_file(tmp_path / f"{name}-1.safetensors")
        for key, gradient in alone.items():
            assert torch.allclose(together[key], gradient, rtol=0, atol=float(1e-2 * gradient.abs().max())), key

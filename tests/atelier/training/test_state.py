"""Resumable states that a thread writes while the training goes on."""

import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier.errors import AtelierError
from atelier.progress import Progress
from atelier.training.state import Checkpoints, TrainingState, _host_copies, load_state, save_state
from atelier.training.trainer import Stopped, Trainer
from tests.collapsing import PLAN, judged
from tests.datasets import noise

pytestmark = pytest.mark.usefixtures("judged_small")

CPU = torch.device("cpu")
GPU = pytest.param("cuda", marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
])  # fmt: skip


def small_state(device: str = "cpu") -> TrainingState:
    """Convolutions in channels_last with the moments of one step of Adam, and another tensor."""
    torch.manual_seed(0)
    network = torch.nn.Conv2d(8, 8, 3).to(device).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 8, 3, 3, device=device)).sum().backward()
    adam.step()
    return TrainingState({"g": network}, {"adam": (adam, network)}, {"p": torch.tensor([0.5, 2.0], device=device)})


def content(path: Path) -> tuple[dict[str, object], bytes]:
    """The header, in which safetensors writes metadata in any order, and all that follows it."""
    file = path.read_bytes()
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length]), file[8 + length :]


@contextmanager
def delayed(checkpoints: Checkpoints) -> Iterator[None]:
    """The thread writes nothing until the block ends."""
    go_on = threading.Event()
    checkpoints._writer.submit(go_on.wait)
    try:
        yield
    finally:
        go_on.set()


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))  # as if the disk were full after 2 kB
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_what_is_written_is_the_state_at_the_moment_of_saving(tmp_path: Path, device: str) -> None:
    state, checkpoints = small_state(device), Checkpoints(tmp_path / "by thread")
    save_state(tmp_path / "at once", 7, state, {"row": [1]})
    with delayed(checkpoints):
        checkpoints.begin_save(7, state, {"row": [1]}, [])
        with torch.no_grad():
            for tensor in [*state.modules["g"].parameters(), state.tensors["p"]]:
                tensor.zero_()
        assert not checkpoints.path(7).exists()
    assert checkpoints.steps() == [7]  # which waits
    assert content(checkpoints.path(7)) == content(tmp_path / "at once")
    assert load_state(checkpoints.path(7), state) == (7, {"row": [1]})
    assert state.tensors["p"].tolist() == [0.5, 2.0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_from_a_gpu_the_state_is_copied_to_pinned_memory() -> None:
    copies, wait_for_copies = _host_copies({"a": torch.arange(9.0, device="cuda"), "b": torch.ones(2)})
    assert copies["a"].is_pinned()
    wait_for_copies()
    assert copies["a"].tolist() == [*range(9)]


def test_loading_and_going_back_wait_for_the_thread(tmp_path: Path) -> None:
    state, checkpoints = small_state(), Checkpoints(tmp_path)
    uses: list[tuple[Callable[[], object], object]] = [
        (lambda: checkpoints.load(3, state), (3, {})), (lambda: checkpoints.drop_after(2), None),
    ]  # fmt: skip
    for use, expected in uses:
        checkpoints._writer.submit(threading.Event().wait, 0.1)
        checkpoints.begin_save(3, state, {}, [])
        assert use() == expected
    assert not checkpoints.path(3).exists()


def test_an_error_of_the_disk_is_raised_where_the_training_waits_and_the_last_state_stays(tmp_path: Path) -> None:
    state, checkpoints = small_state(), Checkpoints(tmp_path)
    checkpoints.begin_save(1, state, {}, [])
    checkpoints.wait()
    assert not checkpoints.failed
    with full_disk():
        checkpoints.begin_save(2, state, {}, [])
        with pytest.raises(OSError, match=str(checkpoints.path(2))) as refused:
            checkpoints.wait()
    assert refused.value.errno and refused.value.strerror
    checkpoints.wait()  # it is raised once
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.path(1).name]


def test_a_training_ends_with_the_error_of_the_thread_at_the_next_step(tmp_path: Path) -> None:
    trainer = Trainer(replace(PLAN, images=800), noise(16, train=16), CPU, tmp_path)
    steps = []

    def stop() -> bool:
        steps.append(trainer.step)
        if trainer.step == 6:  # the first snapshot's state is begun at step 5
            with full_disk():
                trainer._begin_save()
                while not trainer._checkpoints.failed:
                    threading.Event().wait(0.01)
        return False

    with Progress("train", 1, "kimg") as progress, pytest.raises(OSError, match="state-000000006"):
        trainer.train(progress, stop)
    assert steps[-1] == 6
    again = Trainer(replace(PLAN, images=800), noise(16, train=16), CPU, tmp_path)
    assert again.resume()
    assert again.step == 5


@pytest.mark.parametrize("end", ["stopped", "collapsed", "finished"])
def test_however_a_training_ends_its_last_state_is_written(tmp_path: Path, end: str) -> None:
    plan = replace(PLAN, on_collapse="stop" if end == "collapsed" else "ignore", images=200)
    trainer = judged(noise(16, train=16), tmp_path, plan)
    with Progress("train", 1, "kimg") as progress, delayed_by(trainer):
        if end == "finished":
            trainer.train(progress)
        else:
            with pytest.raises(Stopped if end == "stopped" else AtelierError):
                trainer.train(progress, lambda: end == "stopped" and trainer.step == 10)
    assert trainer._checkpoints._writing is None
    assert Checkpoints(tmp_path).steps()[0] == trainer.step


@contextmanager
def delayed_by(trainer: Trainer) -> Iterator[None]:
    """Each state is written a tenth of a second after it was begun."""
    checkpoints, begin = trainer._checkpoints, trainer._checkpoints.begin_save

    def begin_later(*arguments: object) -> None:
        checkpoints.wait()
        checkpoints._writer.submit(threading.Event().wait, 0.1)
        begin(*arguments)

    checkpoints.begin_save = begin_later  # type: ignore[method-assign]
    yield

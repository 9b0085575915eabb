"""Which resumable state a training goes on from, why not another, and what is removed."""

import json
import os
from pathlib import Path

import pytest
import torch

from atelier.settings.schema import Params
from tasks.stage import CODE_ROOT, Inputs, Stage
from tasks.states import States

SETTINGS = {"train.lr": 0.0002, "train.augment": ["translation"], "data/dataset": "ab" * 32}
DVC_YAML = "stages: {train: {cmd: x, params: [train], deps: [atelier/losses.py, atelier/nets]}}\n"


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("dvc.yaml", DVC_YAML)
    for name in ("losses", "nets/small", "progress"):
        put(f"atelier/{name}.py", f"{name} = 1\n")


def put(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def states(begun: bool = False, at_step: int = 0, **changes: object) -> States:
    """Those of a training in the studio as it is now."""
    named = {key.replace("_", "."): value for key, value in changes.items()}
    found = States.of(Stage("train", Params(), Inputs.read("train")), {**SETTINGS, **named})
    if begun or at_step:
        found.begin()
    if at_step:
        (found.directory / f"state-{at_step:09d}.safetensors").write_bytes(b"x" * 1000)
    return found


def there() -> set[str]:
    return {path.name for path in Path(".atelier/train").iterdir()}


def test_the_key_is_of_what_decides_the_bytes_and_of_nothing_else(monkeypatch):
    before = states().directory
    put("atelier/progress.py", "another word")
    put("atelier/nets/__init__.pyc", "compiled")
    major, minor, _ = torch.__version__.split(".", 2)
    monkeypatch.setattr(torch, "__version__", f"{major}.{minor}.77+cpu")
    assert states().directory == before
    monkeypatch.setattr(torch, "__version__", f"{major}.{int(minor) + 1}.0")
    assert states().directory != before
    monkeypatch.setattr(torch, "__version__", f"{major}.{minor}.77")
    put("atelier/nets/small.py", "nets = 2\n")
    assert states().directory != before


@pytest.mark.parametrize("stage, decides", [
    ("train", ("atelier/files.py", "atelier/training/losses.py", "atelier/training/processes.py")),
    ("train_upscaler", ("atelier/upscaling/train.py", "tasks/train_upscaler.py")),
    ("upscale", ("atelier/upscaling/prints.py",)), ("generate", ("atelier/canvas/murals.py",)),
])  # fmt: skip
def test_in_the_real_studio_words_and_plumbing_are_no_part_of_the_key(stage, decides):
    Path("dvc.yaml").unlink()  # outside a studio it is the list of the code that runs
    code = Stage(stage, Params()).code
    assert {*decides} <= code.keys()
    assert (
        not {
            "atelier/progress.py",
            "atelier/errors.py",
            "atelier/settings/load.py",
            "tasks/stage.py",
            "tasks/states.py",
        }
        & code.keys()
    )
    assert all((CODE_ROOT / path).is_file() for path in code)


def test_a_state_that_is_not_taken_is_named_with_all_that_differs():
    assert states().not_taken() == ""
    left = states(at_step=50)
    put("atelier/losses.py", "losses = 2")
    said = states(train_lr=0.001).not_taken()
    assert f"{left.directory} is not resumed" in said
    assert "atelier/losses.py has changed since; train.lr was 0.0002 and is 0.001" in said
    put("atelier/losses.py", "losses = 1\n")
    assert states(begun=True).directory == left.directory


def test_of_several_the_nearest_is_named_and_finished_ones_are_not():
    far = states(at_step=50, train_lr=1, train_batch=2)
    near = states(at_step=50, train_lr=2)
    finished = states(at_step=50)
    finished.finish("train")
    assert str(near.directory) in states(train_lr=3).not_taken()
    for each in (far, near):
        each.finish("train")
    assert states(train_lr=3).not_taken() == ""


def test_a_state_that_another_version_of_atelier_left_is_named_too():
    put(".atelier/train/0123456789abcdef/state-000000050.safetensors", "x")
    assert "0123456789abcdef is not resumed: it was made by another version" in states().not_taken()


def test_another_patch_of_torch_goes_on_and_says_so(monkeypatch):
    states(at_step=50)
    assert states().another_torch() == ""
    major, minor, _ = torch.__version__.split(".", 2)
    monkeypatch.setattr(torch, "__version__", f"{major}.{minor}.77")
    assert "goes on with" in states().another_torch()


def test_after_a_success_finished_trainings_go_and_so_do_those_of_other_code(capsys):
    old_code = states(at_step=50, train_lr=1)
    put("atelier/losses.py", "losses = 2")
    finished = states(at_step=50, train_lr=2)
    finished.finish("train")
    assert old_code.directory.name not in there()
    mine = states(at_step=50)
    capsys.readouterr()
    mine.finish("train")
    assert there() == {mine.directory.name}
    assert capsys.readouterr().out == "train: removed the states of another training from .atelier/train, 0.0 MB\n"


def test_what_was_stopped_and_a_setting_brings_back_stays_but_no_more_than_two():
    stopped = [states(at_step=50, train_lr=lr) for lr in range(4)]
    for number, each in enumerate(stopped):
        os.utime(each.directory / "state-000000050.safetensors", (number, number))
    mine = states(at_step=50)
    mine.finish("train")
    assert there() == {each.directory.name for each in (mine, *stopped[2:])}
    again = states(begun=True, train_lr=3)
    assert again.directory == stopped[3].directory
    assert [*again.directory.glob("state-*")]


def test_the_training_that_began_last_is_the_one_that_a_stage_finishes():
    stage = Stage("train", Params(), Inputs.read("train"))
    first, second = states(at_step=50, train_lr=1), states(at_step=50, train_lr=2)
    assert States.latest(stage).directory == second.directory
    states(begun=True, train_lr=1)
    assert States.latest(stage).directory == first.directory
    assert States.latest(stage).facts == json.loads((first.directory / "inputs.json").read_text())["facts"]

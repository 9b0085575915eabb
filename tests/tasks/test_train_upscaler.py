"""The stage as DVC runs it: shards and account in, a network, figures and a sheet out; killed, it goes on."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import spandrel
from PIL import Image

from atelier.data.catalog import DownloadRecord, write_downloads
from atelier.data.shards import Item, write_shards
from atelier.errors import AtelierError
from atelier.images.verify import ImageLimits, Verified, verify
from atelier.settings.schema import Params
from atelier.upscaling.network import load_upscaler
from tasks.stage import Stage
from tasks.train_upscaler import run

ROOT = Path(__file__).parents[2]
SMALL = {"steps": 6, "features": 8, "blocks": 1, "patch_px": 12, "batch": 4, "device": "cpu"}
UPSCALER = Path("data/upscaler/upscaler.safetensors")


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty paintings as the stage download leaves them."""
    monkeypatch.chdir(tmp_path)
    items, entries = [], []
    for number in range(30):
        coarse = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        verdict = verify(file.getvalue(), ImageLimits(32, 10**6))
        assert isinstance(verdict, Verified)
        items.append(Item(f"w{number:02d}", "jpg", file.getvalue()))
        entry = DownloadRecord(id=f"w{number:02d}", status="ok", phash=verdict.phash, width=120, height=90)
        entries.append(entry)
    write_shards(items, Path("data/images"))
    write_downloads([*entries, DownloadRecord(id="w99", status="missing")], Path("data/downloads.parquet"))


def stage(**train_upscaler: object) -> Stage:
    params = {"train_upscaler": {**SMALL, **train_upscaler}, "upscale": {"scale": 4}}
    return Stage("train_upscaler", Params.model_validate(params))


@pytest.mark.parametrize(("scale", "judged"), [(2, {"x2", "x4"}), (4, {"x4"})])
def test_it_leaves_a_network_that_others_open_figures_and_a_sheet(scale: int, judged: set[str]) -> None:
    summary = run(stage(scale=scale, patch_px=8))
    descriptor = spandrel.ModelLoader().load_from_file(UPSCALER)
    assert (descriptor.architecture.name, descriptor.scale) == ("RealESRGAN Compact", scale)
    report = json.loads(Path("data/upscaler/report.json").read_text())
    assert judged == {key for key in report if key.startswith("x")}
    assert report["paintings"]["found"] == 30
    assert report["paintings"]["trained_on"] + report["paintings"]["held_out"] == 30
    figures = report["x4"]["psnr_y"]
    assert figures["gain"]["min"] <= figures["gain"]["mean"] <= figures["gain"]["max"]
    assert f"{figures['ours']['mean']:.2f} dB" in summary
    with Image.open("data/upscaler/comparison.png") as sheet:
        assert sheet.width > 4 * 288
    gains = json.loads(Path("data/upscaler/gain.json").read_text())
    assert gains == {f"{name}_gain_db": report[name]["psnr_y"]["gain"]["mean"] for name in judged}
    _, header = load_upscaler(UPSCALER)
    assert (header["steps"], header["seed"], header["paintings"]) == (6, 0, report["paintings"]["trained_on"])


def test_the_same_inputs_give_the_same_bytes_and_another_seed_others() -> None:
    contents = {}
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        run(stage(seed=seed))
        contents[name] = {path.name: path.read_bytes() for path in Path("data/upscaler").iterdir()}
        for state in Path(".atelier/train_upscaler").iterdir():
            (state / "state.safetensors").unlink()  # else the second would only read what the first learned
    assert contents["a"] == contents["b"]
    assert contents["a"]["upscaler.safetensors"] != contents["c"]["upscaler.safetensors"]


def test_only_the_last_trainings_state_is_kept_and_none_is_a_strangers() -> None:
    run(stage(seed=0))
    (first,) = Path(".atelier/train_upscaler").iterdir()
    run(stage(seed=1))
    (second,) = Path(".atelier/train_upscaler").iterdir()
    assert first.name != second.name


def test_a_limit_on_the_paintings_is_kept() -> None:
    run(stage(paintings=10))
    report = json.loads(Path("data/upscaler/report.json").read_text())
    assert report["paintings"]["trained_on"] + report["paintings"]["held_out"] == 10


def test_paintings_too_small_for_the_patch_are_refused_by_name() -> None:
    with pytest.raises(AtelierError, match=r"lower train_upscaler\.patch_px"):
        run(stage(patch_px=46))


@pytest.mark.slow  # waits for a process's import of torch
def test_killed_with_sigkill_it_goes_on_to_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    long = {**SMALL, "steps": 80}
    run(stage(**long))
    whole = UPSCALER.read_bytes()
    UPSCALER.unlink()
    (state,) = Path(".atelier/train_upscaler").glob("*/state.safetensors")
    state.unlink()

    Path("params.yaml").write_text("train_upscaler:\n" + "".join(f"  {key}: {value}\n" for key, value in long.items()))
    script = (
        "import atelier.upscaling.train as loop; from tasks.stage import main; from tasks.train_upscaler import run; "
        "loop.SAVE_INTERVAL_S = 0.01; main('train_upscaler', run)"
    )
    killed = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not state.exists():
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not UPSCALER.exists()

    capsys.readouterr()
    run(stage(**long))
    assert "goes on from step" in capsys.readouterr().out
    assert UPSCALER.read_bytes() == whole

"""The example trains on a small data set and writes a sheet of pictures."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets import pack_blots
from tests.stages import ROOT


def test_the_minimal_training_prints_its_losses_and_writes_a_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pack_blots()
    example = ROOT / "examples/train_minimal.py"
    monkeypatch.setattr("sys.argv", [str(example), "data/dataset", "samples.png", "3"])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.startswith("0 loss_d ")
    with Image.open("samples.png") as sheet:
        assert np.asarray(sheet).std() > 1

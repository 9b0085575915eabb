"""What a stage depends on may not change while it runs: dvc.lock would name it as what made the result."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from atelier.settings.schema import Params
from tasks.stage import Inputs, Stage, main
from tests.flows.toys import ROOT

DVC_YAML = """\
stages:
  train:
    cmd: python -m tasks.train
    params:
      - train.arch
      - train.lr
      - train.${train.arch}
      - scrape.snapshot
      - other.yaml: [depth]
    deps:
      - data/dataset
      - data/${augment.crop}.txt
      - atelier/losses.py
      - atelier/networks:
          hash: md5
"""
PARAMS = """\
scrape: {source: gallery, snapshot: "2026-11-22"}
augment: {crop: center}
train:
  arch: sketch
  lr: 0.0002
  sketch: {nz: 8}
  dcgan: {nz: 8}
"""
FILES = {
    "dvc.yaml": DVC_YAML, "params.yaml": PARAMS, "other.yaml": "depth: 1\nwidth: 1\n", ".dvcignore": "__pycache__\n",
    "data/dataset/images.npy": "pixels", "data/center.txt": "c", "atelier/losses.py": "loss = 1\n",
    "atelier/networks/__init__.py": "", "atelier/networks/small.py": "layers = 3\n", "atelier/unused.py": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A studio of a few files; the signal handlers of a stage end with the test."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def put(name: str, text: str) -> Callable[[], None]:
    def act() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)

    return act


def replaced(old: str, new: str) -> Callable[[], None]:
    assert old in PARAMS
    return put("params.yaml", PARAMS.replace(old, new))


@pytest.mark.parametrize(
    "edit, named",
    [
        (put("atelier/losses.py", "loss = 2\n"), "atelier/losses.py was edited"),
        (put("atelier/networks/small.py", "layers = 4\n"), "atelier/networks/small.py was edited"),
        (put("atelier/networks/new.py", ""), "atelier/networks/new.py was edited"),
        (Path("atelier/networks/small.py").unlink, "atelier/networks/small.py was edited"),
        (put("data/dataset/images.npy", "other pixels"), "data/dataset/images.npy was edited"),
        (put("data/dataset/index.parquet", ""), "data/dataset/index.parquet was edited"),
        (lambda: shutil.rmtree("data/dataset"), "data/dataset/images.npy were edited"),
        (put("data/center.txt", "dd"), "data/center.txt was edited"),
        (replaced("lr: 0.0002", "lr: 0.1"), "params.yaml: train.lr was edited"),
        (replaced("arch: sketch", "arch: dcgan"), "params.yaml: train.arch was edited"),
        (replaced("sketch: {nz: 8}", "sketch: {nz: 9}"), "params.yaml: train.sketch was edited"),
        (replaced('"2026-11-22"', '"2026-11-23"'), "params.yaml: scrape.snapshot was edited"),
        (replaced("train:\n", "train:\n}"), "params.yaml:4: not valid YAML"),
        (put("params.yaml", "snapshot: 2026-13-45\n"), "params.yaml: not valid YAML"),
        (put("other.yaml", "depth: 2\nwidth: 1\n"), "other.yaml: the section depth was edited"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_edit_of_anything_that_dvc_yaml_lists_refuses_the_result(edit, named):
    inputs = Inputs.read("train")
    edit()
    with pytest.raises(AtelierError, match=named):
        inputs.refuse_changed()


@pytest.mark.parametrize("edit", [
    put("atelier/unused.py", "words = 1\n"), replaced("dcgan: {nz: 8}", "dcgan: {nz: 9}"),
    replaced("source: gallery", "source: folder"), put("other.yaml", "depth: 1\nwidth: 2\n"),
    put("atelier/networks/__pycache__/small.cpython-311.pyc", "x"), put("params.yaml", f"# mine\n{PARAMS}"),
    lambda: os.utime("atelier/losses.py", (1, 1)), put("data/other.txt", "x"), lambda: Path("dvc.yaml").unlink(),
])  # fmt: skip
def test_an_edit_of_anything_else_does_not(edit):
    inputs = Inputs.read("train")
    edit()
    inputs.refuse_changed()


def test_what_is_put_back_in_time_does_not_count():
    inputs = Inputs.read("train")
    for text in ("loss = 2\n", FILES["atelier/losses.py"]):
        put("atelier/losses.py", text)()
    inputs.refuse_changed()


def test_many_edits_are_told_in_a_line():
    inputs = Inputs.read("train")
    for number in range(9):
        put(f"atelier/networks/n{number}.py", "")()
    with pytest.raises(AtelierError, match=r"n0\.py, .*n4\.py and 4 more were edited"):
        inputs.refuse_changed()


def test_without_a_stage_in_dvc_yaml_its_section_is_what_counts():
    Path("dvc.yaml").unlink()
    inputs = Inputs.read("train")
    replaced("lr: 0.0002", "lr: 0.1")()
    with pytest.raises(AtelierError, match="the section train was edited"):
        inputs.refuse_changed()


def test_a_stage_whose_code_was_edited_meanwhile_fails_and_keeps_what_it_may_go_on_from(capsys):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    done = []

    def work(stage: Stage) -> str:
        stage.after_success.append(lambda: done.append("tidied"))
        put("atelier/losses.py", "loss = 2\n")()
        return "trained"

    with pytest.raises(SystemExit) as ended:
        main("train", work)
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert "train: atelier/losses.py was edited while the stage ran" in said.err
    assert "trained" not in said.out
    assert not Path(".atelier/executed/train.json").exists()
    assert not done


def test_code_that_was_edited_while_it_was_imported_is_refused_before_any_work(tree):
    """Python has imported a version that nobody can name afterwards. A process of its own: it must run the copy."""
    shutil.copytree(ROOT / "tasks", "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    script = (
        "import sys; sys.path.insert(0, '.'); from tasks.stage import *\n"
        "inputs = Inputs.read('train'); inputs.refuse_edited_at_start(); print('as it was', flush=True)\n"
        "Path('atelier/losses.py').touch(); inputs.refuse_edited_at_start()"
    )
    shutil.rmtree("atelier")  # the real one, which the copy of tasks imports
    (tree / "atelier").symlink_to(ROOT / "atelier")
    put("real/losses.py", "loss = 1\n")()
    Path("dvc.yaml").write_text(DVC_YAML.replace("atelier/losses.py", "real/losses.py"))
    script = script.replace("atelier/losses.py", "real/losses.py")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={"PATH": ""})
    assert done.stdout == "as it was\n"
    assert "real/losses.py was edited while the stage was starting: run again" in done.stderr


def test_a_key_that_is_left_to_its_default_is_told_since_dvc_does_not_see_that_change():
    Path("dvc.yaml").write_text("stages: {evaluate: {cmd: x, params: [evaluate]}}")
    Path("params.yaml").write_text("evaluate: {samples: 100, device: cpu, inception: false, inception_weights: null}")
    defaults = Params().model_dump()
    assert Inputs.read("evaluate").left_out(defaults) == ["evaluate.seed"]
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    for stage in ("scrape", "download", "train", "evaluate", "upscale"):
        assert Inputs.read(stage).left_out(defaults) == []
    Path("params.yaml").write_text("scrape: {source: gallery}")
    assert "scrape.wikiart" in Inputs.read("scrape").left_out(defaults)

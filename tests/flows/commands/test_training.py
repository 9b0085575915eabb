"""`atelier explore …` without running a trial: arguments, names, the sheet."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from atelier.errors import AtelierError
from flows import cli
from flows.trials.record import Exploration, Trial, find_experiment
from flows.trials.search_space import Request, read_axes

GRID = Request("grid", tuple(read_axes(["train.lr=1e-4,2e-4", "train.augment=[],[cutout]"], ranges=False)))


@pytest.fixture
def explored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exploration:
    """An exploration with two completed, one pruned and one failed trial."""
    shutil.copy("params.yaml", tmp_path)
    shutil.copy("dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    explored = Exploration(tmp_path, "sea")
    explored.begin(GRID, "of a tree")
    Image.new("RGB", (530, 530), (20, 60, 120)).save("picture.png")
    settings = [{"train.lr": lr, "train.augment": augment} for lr in (0.0001, 0.0002) for augment in ([], ["cutout"])]
    scores = {"kid_coarse": 0.25, "coverage": 0.5}
    explored.write(Trial(1, settings[0], "completed", scores), Path("picture.png"))
    explored.write(Trial(2, settings[1], "failed", {}, "train: no"), None)
    explored.write(Trial(3, settings[2], "pruned", {"kid_coarse": 0.1}, "worse than the median at 20 kimg"), None)
    explored.write(Trial(4, settings[3], "completed", {**scores, "kid_coarse": 0.125}), Path("picture.png"))
    return explored


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["explore", *words])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train.lr=1e-4"], "No such command 'train.lr=1e-4'"),
        (["grid", "--trials", "3", "train.lr=1e-4"], "No such option: --trials"),
    ],
)
def test_a_grid_has_no_number_of_trials_and_settings_follow_a_command(words, sentence):
    status, said = invoke(*words)
    assert (status, sentence in said) == (2, True)


def test_the_minutes_cannot_be_both_fixed_and_tried():
    with pytest.raises(AtelierError, match="leave out --minutes"):
        CliRunner().invoke(cli.app, ["explore", "grid", "--minutes", "5", "train.minutes=1,2"], catch_exceptions=False)


def test_invalid_settings_and_unknown_names_are_errors_with_a_sentence(explored: Exploration):
    assert invoke("grid", "train.lr=1e-4,3") == (
        1, "train.lr=3 (trial 2): train.lr holds 3; it may hold a number above 0 and at most 1\n",
    )  # fmt: skip
    with pytest.raises(AtelierError, match=r"^there is no exploration lake: there are sea$"):
        CliRunner().invoke(cli.app, ["explore", "show", "lake"], catch_exceptions=False)
    assert invoke("apply", "lake-3") == (1, "there is no exploration lake-3: there are sea\n")


def test_a_name_that_is_an_exploration_and_an_experiment_is_refused(explored: Exploration, tmp_path: Path):
    sentence = "sea-4 is both an exploration and an experiment of the exploration sea: say which with --trial, "
    other = Exploration(tmp_path, "sea-4")
    with pytest.raises(AtelierError, match="an exploration sea-4 beside sea would be taken for one of its"):
        other.begin(GRID, "of a tree")
    other.path.mkdir()
    shutil.copy(explored.path / "explore.json", other.path)  # as earlier versions allowed
    assert invoke("apply", "sea-4")[1].startswith(sentence)
    assert invoke("apply", "sea-4", "--trial", "1") == (
        1, "the exploration sea-4 has no trial 1: `atelier explore show sea-4`\n",
    )  # fmt: skip
    assert find_experiment(tmp_path, "sea", 4) == ("sea-4", "sea")
    assert find_experiment(tmp_path, "sea-1", None) == ("sea-1", "sea")
    other.write(Trial(2, {"train.lr": 0.1}, "completed", {"kid_coarse": 1.0}), None)
    assert find_experiment(tmp_path, "sea-4", 2) == ("sea-4-2", "sea-4")
    shutil.rmtree(explored.path)
    assert find_experiment(tmp_path, "sea-4", None) == ("sea-4-2", "sea-4")
    with pytest.raises(AtelierError, match="an exploration sea beside sea-4 would be taken"):
        Exploration(tmp_path, "sea").begin(GRID, "of a tree")


def test_the_sheet_and_the_table_are_drawn_again_with_the_best_trial_first(explored: Exploration):
    status, said = invoke("show", "sea")
    assert status == 0, said
    assert [line.split(",")[0:2] for line in explored.table.read_text().splitlines()[1:]] == [
        ["sea-4", "completed"], ["sea-1", "completed"], ["sea-3", "pruned"], ["sea-2", "failed"],
    ]  # fmt: skip
    assert explored.table.read_text().splitlines()[1] == "sea-4,completed,0.0002,[cutout],0.5,0.125,"
    first = explored.sheet.read_bytes()
    with Image.open(explored.sheet) as sheet:
        assert sheet.getpixel((200, 250)) == (20, 60, 120)
    invoke("show", "sea")
    assert explored.sheet.read_bytes() == first


def test_a_name_cannot_be_used_for_another_exploration(explored: Exploration):
    with pytest.raises(AtelierError, match=r"sea had other inputs \(params.yaml, the code or the commit\)"):
        explored.begin(GRID, "of another tree")
    other = Request("grid", tuple(read_axes(["train.lr=1e-4"], ranges=False)))
    with pytest.raises(AtelierError, match=r"sea had other inputs \(what is tried\): choose another --name"):
        explored.begin(other, "of a tree")


def test_the_default_name_has_the_keys_and_a_hash_of_the_inputs():
    assert GRID.exploration_name("of a tree").startswith("lr-augment-")
    assert GRID.exploration_name("of a tree") != GRID.exploration_name("of another tree")
    assert GRID.exploration_name("of a tree") == Request("grid", GRID.axes).exploration_name("of a tree")
    with pytest.raises(AtelierError, match=r"--name .\.\./sea. does not fit"):
        Request("grid", GRID.axes, name="../sea").exploration_name("of a tree")

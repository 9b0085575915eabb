"""The plan of the house, held against the code: arrows between the floors, dvc.yaml's deps, params.yaml's words."""

import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from atelier.settings.load import load_params
from atelier.settings.schema import Params
from atelier.settings.training import ARCHS, Train
from tools import code_deps


@pytest.fixture(scope="module")
def stages() -> dict[str, dict]:
    return YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("atelier", "tasks", cache_dir=None)


def test_arrows_between_the_floors_point_down():
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], capture_output=True, text=True
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_every_stage_has_its_task_and_every_task_its_stage(stages):
    tasks = {path.stem for path in Path("tasks").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert tasks == set(stages)
    for name, stage in stages.items():
        assert stage["cmd"] == f"python -m tasks.{name}"
        if name != "page":  # which has no settings
            assert name in {param.split(".")[0] for param in stage["params"]}


def test_a_stage_depends_on_exactly_the_code_that_decides_its_bytes(imports):
    text = Path("dvc.yaml").read_text()
    assert code_deps.updated(text, imports) == text, "run `python tools/code_deps.py --write`"


def test_a_module_that_a_task_begins_to_import_becomes_a_dependency_of_its_stage_alone(imports):
    text = Path("dvc.yaml").read_text()
    imports.add_import(importer="tasks.augment", imported="atelier.training.optimizers")
    before, after = (YAML(typ="safe").load(one)["stages"] for one in (text, code_deps.updated(text, imports)))
    imports.remove_import(importer="tasks.augment", imported="atelier.training.optimizers")
    assert "atelier/training/optimizers.py" in after["augment"]["deps"]
    assert {name for name in before if before[name] != after[name]} == {"augment"}


def test_a_change_of_a_message_a_sheet_or_a_report_trains_nothing_anew(stages, imports):
    assert imports.modules >= code_deps.NEVER_DECIDE_BYTES | code_deps.SHEETS
    never = (
        "sheets.py",
        "report.py",
        "progress.py",
        "errors.py",
        "atelier/pictures",
        "atelier/settings",
    )
    assert not [path for path in stages["train"]["deps"] if path.endswith(never)]


def test_the_training_depends_on_all_its_knobs_but_those_of_networks_not_in_use(stages):
    expected = [f"train.{key}" for key in Train.model_fields if key not in ARCHS] + [
        "train.${train.arch}",
        "scrape.source",
    ]
    if set(stages["train"]["params"]) != set(expected):
        pytest.fail("dvc.yaml's params of train should be\n  " + "\n  ".join(expected), pytrace=False)


def test_params_yaml_holds_the_defaults():
    assert load_params(Path("params.yaml")) == Params()


def test_every_key_of_params_yaml_is_there_and_has_a_comment():
    text = Path("params.yaml").read_text()
    document = YAML(typ="safe").load(text)
    assert _keys(document) == _keys(Params().model_dump())
    bare = [line for line in text.splitlines() if re.match(r" +\w+: +[^#\s]", line) and " # " not in line]
    assert not bare


def _keys(node: object, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return {prefix}
    return {key for name, value in node.items() for key in _keys(value, f"{prefix}.{name}")}

"""The plan of the house, held against the code: arrows between the floors, dvc.yaml's deps, params.yaml's words."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from atelier.settings.schema import ARCHS, Params, Train, load_params

# Modules that never decide a stage's bytes: they report, lock, parse or refuse. A change there reruns nothing.
# atelier.settings.schema checks values, which DVC tracks in params.yaml: what an output says of its settings is put
# together by the stage's own code. atelier.files writes whole files, tasks.trainer starts processes, tasks.states
# finds a state.
NEVER_DECIDE_BYTES = {
    "tasks", "tasks.inputs", "tasks.trainer", "tasks.stage", "tasks.states", "atelier", "atelier.download.report",
    "atelier.errors", "atelier.files", "atelier.parent_death", "atelier.settings.schema", "atelier.pictures",
    "atelier.pictures.untrusted", "atelier.progress", "atelier.web.pace", "atelier.web.wire", "atelier.web.robots",
    "atelier.settings.messages",
}  # fmt: skip
CODE = ("atelier/", "tasks/")


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
        assert name in {param.split(".")[0] for param in stage["params"]}


def test_a_stage_depends_on_exactly_the_code_that_decides_its_bytes(stages, imports):
    listed = {
        name: {dep for dep in stage.get("deps", []) if dep.startswith(CODE)} for name, stage in stages.items()
    }
    expected = {name: _code_of(name, imports) for name in stages}
    if listed != expected:
        pytest.fail("dvc.yaml's code deps should be\n" + _as_yaml(expected), pytrace=False)


def test_the_training_depends_on_all_its_knobs_but_those_of_networks_not_in_use(stages):
    expected = [f"train.{key}" for key in Train.model_fields if key not in ARCHS] + ["train.${train.arch}"]
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


def _code_of(stage: str, imports: grimp.ImportGraph) -> set[str]:
    module = f"tasks.{stage}"
    # what importing a module runs includes its packages' __init__
    modules = {module} | imports.find_upstream_modules(module)
    modules |= {parent for name in modules for parent in _packages(name)}
    modules |= {found for name in modules for found in imports.find_upstream_modules(name)}
    decisive = modules - NEVER_DECIDE_BYTES
    packages = {name for name in _all_packages(imports) if _members(name, imports) <= decisive}
    named = {name for name in decisive if name in packages or not packages & {*_packages(name)}}
    return {_path(name, name in packages) for name in named if name in packages or not _is_empty(name)}


def _all_packages(imports: grimp.ImportGraph) -> set[str]:
    return {parent for name in imports.modules for parent in _packages(name)} - {"atelier", "tasks"}


def _members(package: str, imports: grimp.ImportGraph) -> set[str]:
    return {package} | imports.find_descendants(package)


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _is_empty(module: str) -> bool:
    """Whether it is a package that says what it is for, and does nothing."""
    path = Path(*module.split("."), "__init__.py")
    return path.exists() and all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def _path(module: str, whole: bool) -> str:
    """A module's file; a whole package is its directory (.dvcignore leaves __pycache__ out)."""
    path = Path(*module.split("."))
    if path.is_dir():
        return str(path) if whole else f"{path}/__init__.py"
    return f"{path}.py"


def _as_yaml(expected: dict[str, set[str]]) -> str:
    return "\n".join(f"  {name}: [{', '.join(sorted(paths))}]" for name, paths in expected.items())


def _keys(node: object, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return {prefix}
    return {key for name, value in node.items() for key in _keys(value, f"{prefix}.{name}")}

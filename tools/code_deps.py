"""Keep the code dependencies in dvc.yaml in step with the imports: `python tools/code_deps.py --write`, or `--check`.

A stage depends on the modules that its task imports, directly or not, except those that never decide its outputs'
bytes. A package is listed as one folder where a stage imports more than half of its modules.
"""

import argparse
import ast
import re
import sys
import textwrap
from pathlib import Path

import grimp
from ruamel.yaml import YAML

# Modules that never decide what an output contains: messages, progress, processes, locks, checks of settings (DVC
# tracks the values themselves in params.yaml), limits of a connection. A change there reruns nothing.
NEVER_DECIDE_BYTES = {
    "tasks", "tasks.stage", "tasks.states", "atelier", "atelier.errors", "atelier.parent_death",
    "atelier.paths", "atelier.progress", "atelier.settings", "atelier.web.connections", "atelier.web.limits",
    "atelier.web.robots",
}  # fmt: skip
# Contact sheets beside a stage's result: a change of their look makes no model and no picture again. Stage generate,
# whose contact sheet is an output by itself, depends on them.
SHEETS = {"atelier.pictures.sheets", "atelier.upscaling.details_sheet"}
CODE = ("atelier/", "tasks/")
DEPS = re.compile(r"^ {2}(?P<stage>\w+):\n(?:(?: {4,}.*)?\n)*?(?P<deps> {4}deps: \[[^\]]*\]\n)", re.MULTILINE)
WIDTH = 110  # of a line of dvc.yaml


def main(argv: list[str] | None = None) -> int:
    """Rewrite dvc.yaml with `--write`; with `--check`, return 1 and print what differs where it is not up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", action="store_true", help="rewrite the code dependencies in dvc.yaml")
    group.add_argument("--check", action="store_true", help="exit with 1 where they are not up to date")
    write = parser.parse_args(argv).write
    path = Path("dvc.yaml")
    text = path.read_text()
    wanted = updated(text, grimp.build_graph("atelier", "tasks", cache_dir=None))
    if wanted == text:
        return 0
    if write:
        path.write_text(wanted)
        return 0
    print("dvc.yaml does not list the code that its stages import: run `python tools/code_deps.py --write`")
    return 1


def updated(text: str, imports: grimp.ImportGraph) -> str:
    """The text of dvc.yaml with each stage's code dependencies replaced by those that follow from the imports."""

    def deps(match: re.Match[str]) -> str:
        listed = YAML(typ="safe").load(match["deps"])["deps"]
        paths = [path for path in listed if not path.startswith(CODE)] + code_of(match["stage"], imports)
        start = match.start("deps") - match.start()
        words = textwrap.fill(", ".join(paths), WIDTH - 6, break_long_words=False, break_on_hyphens=False)
        return match[0][:start] + "    deps: [\n" + textwrap.indent(words, "      ") + "]\n"

    return DEPS.sub(deps, text)


def code_of(stage: str, imports: grimp.ImportGraph) -> list[str]:
    """The paths that a stage depends on, sorted: files, and folders (a folder's __pycache__ is in .dvcignore)."""
    task = f"tasks.{stage}"
    modules = {task} | imports.find_upstream_modules(task)
    # importing a module also runs the __init__ of its packages
    modules |= {parent for name in modules for parent in _parents(name)}
    modules |= {found for name in modules for found in imports.find_upstream_modules(name)}
    never = {name for name in imports.modules if {name, *_parents(name)[2:]} & NEVER_DECIDE_BYTES}
    never |= {name for name in imports.modules if name.startswith("atelier.settings")}
    if stage != "generate":
        never |= SHEETS
    decisive = modules - never
    folders = {
        name
        for name in {parent for module in decisive for parent in _parents(module)} - {"atelier", "tasks"}
        if _is_folder(name, decisive, never, imports)
    }
    paths = {_path(name) for name in decisive - folders if not folders & set(_parents(name)) and not _is_empty(name)}
    return sorted(paths | {_path(name, folder=True) for name in folders}, key=lambda path: (path[0] == "a", path))


def _is_folder(package: str, decisive: set[str], never: set[str], imports: grimp.ImportGraph) -> bool:
    members = imports.find_descendants(package)
    return not members & never and 2 * len(members & decisive) > len(members)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _is_empty(module: str) -> bool:
    """Whether this is a package whose __init__ has only a docstring."""
    path = Path(*module.split("."), "__init__.py")
    return path.exists() and all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def _path(module: str, folder: bool = False) -> str:
    path = Path(*module.split("."))
    if folder:
        return str(path)
    return f"{path}/__init__.py" if path.is_dir() else f"{path}.py"


if __name__ == "__main__":
    sys.exit(main())

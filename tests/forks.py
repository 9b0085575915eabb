"""`atelier`, `dvc` and `python -m` commands, each in a fork of one process that has imported torch and DVC once.

A process of its own takes two to three seconds to import them. As a program it reads one command a line from stdin, as
JSON, and answers each with a line, its exit code. The commands' output goes to its stderr.
"""

import importlib
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from flows.runtime import process
from tests import judged_small

ROOT = Path(__file__).parents[1]
LOADED = (
    "flows.cli", "dvc.cli", "dvc.repo.status", "torch._dynamo", "tasks.download", "tasks.augment", "tasks.train",
    "tasks.evaluate", "tasks.generate", "tasks.train_upscaler", "tasks.upscale", "atelier.film.sheets",
    "atelier.film.walk", "onnxscript.function_libs.torch_lib.ops", "torch.export._trace",
    "torch.onnx._internal.exporter._torchlib.ops",
)  # fmt: skip


class Forks:
    """The process that forks, in a directory and environment. Used as a context manager, which ends it."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._log = (root.parent / f"{root.name}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"], cwd=root, env={**environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def run(self, words: Sequence[str]) -> tuple[int, str]:
        """Run a command; returns its exit code and what it printed."""
        assert self._process.stdin and self._process.stdout
        began = self._log.seek(0, os.SEEK_END)
        print(json.dumps(list(words)), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        self._log.seek(began)
        return code, self._log.read()


def _forked(words: Sequence[str]) -> int:
    """Run a command in a fork and return its exit code."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        os.dup2(2, 1)
        _execute(list(words))
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        if error := sys.exception():
            sys.excepthook(type(error), error, error.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _execute(words: list[str]) -> None:
    sys.argv = words
    if words[0] == "atelier":
        from flows import cli

        cli.main()
    elif words[0] == "dvc":
        from dvc.cli import main

        sys.exit(main(words[1:]))
    else:
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)


def _foreground(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """In the place of flows.runtime.process.foreground, which starts a Python."""
    assert command[:2] == [sys.executable, "-m"]
    return _forked(["python", *command[1:]])


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    judged_small.apply()
    process.foreground = _foreground
    for line in sys.stdin:
        print(_forked(json.loads(line)), flush=True)

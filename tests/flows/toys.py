"""A studio with toy stages in a real DVC repository, and commands that run in it."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.flows import preloaded
from tests.flows.dvc_command import dvc
from tests.flows.preloaded import Preloaded

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).with_name("toy_stage.py")
DVC_YAML = f"""\
stages:
  scrape:
    cmd: python {TOY} scrape 0
    params: [scrape]
    outs: [data/scrape]
  train:
    cmd: python {TOY} train ${{SECONDS}} data/scrape
    params: [train]
    deps: [data/scrape]
    outs: [data/train]
  generate:
    cmd: python {TOY} generate 0 data/train
    params: [generate]
    deps: [data/train]
    outs: [data/generate]
"""


class Tree:
    """The studio at `root`: scrape → train → generate. `slow` sets the duration of train."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root, self.environment = root, environment
        self.preloaded: Preloaded | None = None  # flows are its forks instead of new processes

    def set(self, old: str, new: str) -> None:
        path = self.root / "params.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def trouble(self, words: str) -> None:
        (self.root / ".atelier").mkdir(exist_ok=True)
        (self.root / ".atelier/trouble").write_text(words)

    def no_trouble(self) -> None:
        """Remove the trouble; a stage that waits for this continues."""
        (self.root / ".atelier/trouble").unlink()

    def slow(self, seconds: float) -> None:
        (self.root / "dvc.yaml").write_text(DVC_YAML.replace("${SECONDS}", str(seconds)))

    def dvc(self, *words: str) -> str:
        """Run a command of DVC to its end, in this process; return what it prints."""
        return dvc(self.root, self.environment, *words)

    def start(self, *command: str) -> "Started":
        """Start Python with a module and its arguments, or with `-c` and a script."""
        if self.preloaded and command[0].startswith(("flows.", "-c")):
            return Forked(command, self, self.preloaded)
        return Started(command, self)

    def run(self, *command: str) -> "Started":
        started = self.start(*command)
        started.wait()
        return started


class Started:
    """A running command; its output goes to a file, so that it never blocks."""

    def __init__(self, command: Sequence[str], tree: Tree) -> None:
        self._log = tree.root / f".log-{time.monotonic_ns()}"
        self._log.touch()
        self.pid = self._start(list(command), tree)

    def _start(self, command: list[str], tree: Tree) -> int:
        how = [] if command[0] == "-c" else ["-m"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, *how, *command], cwd=tree.root, env=tree.environment, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait(self, timeout_s: float = 120) -> int:
        return self._process.wait(timeout_s)

    @property
    def status(self) -> int | None:
        return self._process.poll()

    def until(self, words: str, timeout_s: float = 120) -> "Started":
        deadline_s = time.monotonic() + timeout_s
        while words not in self.output:
            assert self.status is None, self.output
            assert time.monotonic() < deadline_s, self.output
            time.sleep(0.05)
        return self

    def family(self) -> list[psutil.Process]:
        """Its child processes, their children, and so on."""
        return psutil.Process(self.pid).children(recursive=True)

    def at_work(self, word: str = "") -> list[psutil.Process]:
        """It and its family's Python processes with `word` on their command line; some may be ending."""
        found = []
        for process in [psutil.Process(self.pid), *self.family()] if self.status is None else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith("python") and word in ("", *process.cmdline()):
                    found.append(process)
        return found

    def child(self, word: str) -> psutil.Process:
        """The family's Python process with `word` on its command line."""
        return next(p for p in self.family() if word in p.cmdline() and p.name().startswith("python"))

    def end(self) -> None:
        """Kill what a failed test left running."""
        if self.status is None:
            for process in [*self.family(), psutil.Process(self.pid)]:
                process.kill()


class Forked(Started):
    """A command in a fork of a preloaded process."""

    def __init__(self, command: Sequence[str], tree: Tree, process: Preloaded) -> None:
        self._preloaded = process
        super().__init__(command, tree)

    def _start(self, command: list[str], tree: Tree) -> int:
        return self._preloaded.start(command, tree.root, tree.environment, self._log)

    def wait(self, timeout_s: float = 120) -> int:
        return preloaded.ended(self._log, timeout_s)

    @property
    def status(self) -> int | None:
        return preloaded.status(self._log)


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The processes that still run after ten seconds."""
    return psutil.wait_procs(processes, timeout=10)[1]

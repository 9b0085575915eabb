"""Kill a download, the pipeline, a night and an exploration at random moments; compare what the next run makes.

    python bench/kills.py --rounds 100 [--seed 0] [--kinds "download night"] [--jobs 2] [--minutes 60]

Every round starts from the same small studio of real stages, kills one process of the run (the stage, dvc, the flow or
Prefect's server) with SIGKILL, sometimes kills the next run as well, and then lets a run end. Its files must have the
hashes of an undisturbed run, the user's own files must be as before, and no process may be left. The exit code is 1 if
any round differs; that round's directory is then kept, and its path is printed.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (sys.executable, "-m")
DVC = (*PYTHON, "dvc", "repro")
FLOW = (*PYTHON, "flows.studio")
ATELIER = (sys.executable, "-c", "from flows.cli import main; main()")
NIGHT = (*ATELIER, "nightly", "run", "--night", "2026-11-30")
EXPLORATION = (*ATELIER, "explore", "grid", "train.lr=1e-4,2e-4", "--name", "kills")
VICTIMS = ("stage", "dvc", "flow", "server")
TORN = "dvc.lock half written"
SECOND_KILL = 0.3  # the share of rounds in which the recovering run is killed as well
GRACE_S = 15.0
RUN_TIMEOUT_S = 600.0
SMALL = {
    "scrape": {"gallery": {"works": 24, "size_px": 160}},
    "augment": {"resolution": 32},
    "train": {
        "kimg": 0.2,
        "batch": 8,
        "snapshot_kimg": 0.05,
        "sketch": {"nz": 8, "ngf": 8, "ndf": 4, "noise": 4},
    },
    "evaluate": {"samples": 32},
    "generate": {"count": 3},
    "train_upscaler": {"steps": 3, "features": 8, "blocks": 2, "patch_px": 16},
}

Hashes = dict[str, str]


@dataclass(frozen=True)
class Kind:
    """What is run and killed, which stages are fresh beforehand, and which files count afterwards."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    prepared: str
    outcome: Callable[["Bench"], Hashes]
    is_over: Callable[["Bench"], bool] = lambda bench: False  # a promoted night is not run again


@dataclass
class Tally:
    """Counts of one kind's rounds."""

    rounds: int = 0
    victims: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=CYCLE, help="taken in turns; one may stand there more than once")
    parser.add_argument("--jobs", type=int, default=2, help="rounds at the same time")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no round after that")
    arguments = parser.parse_args()
    names = arguments.kinds.split()
    if unknown := set(names) - set(KINDS):
        parser.error(f"--kinds: {', '.join(sorted(unknown))}: there are {', '.join(KINDS)}")
    rounds: Iterator[int] = iter(range(arguments.rounds))
    taking = threading.Lock()
    deadline_s = time.monotonic() + 60 * arguments.minutes
    tallies = {name: Tally() for name in KINDS if name in names}

    def work(bench: Bench) -> None:
        while time.monotonic() < deadline_s:
            with taking:
                number = next(rounds, None)
            if number is None:
                return
            kind, began_s = KINDS[names[number % len(names)]], time.monotonic()
            killed, difference = bench.round(kind, random.Random(f"{arguments.seed} {number}"))
            with taking:
                tally = tallies[kind.name]
                tally.rounds += 1
                tally.victims.update(killed)
                words = f"round {number}, {kind.name}: killed {', '.join(killed) or 'nothing'}"
                words += f" ({time.monotonic() - began_s:.0f} s)"
                if difference:
                    tally.differences.append(words)
                    words += f": DIFFERS: {difference}; kept in {bench.keep(number)}"
                print(words, flush=True)

    place = Path(tempfile.mkdtemp(prefix="kills-"))
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(arguments.jobs) as pool:
        benches = [stack.enter_context(Bench(place, job)) for job in range(arguments.jobs)]
        undisturbed = benches[0].prepare([*tallies])
        for bench in benches:
            bench.undisturbed = undisturbed
        list(pool.map(work, benches))
    if not any(tally.differences for tally in tallies.values()):
        shutil.rmtree(place)
    print("\n| killed | rounds | " + " | ".join((*VICTIMS, TORN)) + " | differences |\n|---|---|" + "---|" * 6)
    for name, tally in tallies.items():
        counts = " | ".join(str(tally.victims[word]) for word in (*VICTIMS, TORN))
        print(f"| {name} | {tally.rounds} | {counts} | {len(tally.differences)} |")
    return 1 if any(tally.differences for tally in tallies.values()) else 0


@dataclass(frozen=True)
class Undisturbed:
    """What runs without a kill make, by kind, and how long each command takes."""

    hashes: dict[str, Hashes] = field(default_factory=dict)
    duration_s: dict[tuple[str, ...], float] = field(default_factory=dict)


class Bench:
    """One job: a directory in which one studio stands at a time, and a Prefect server of its own.

    The prepared studios, from which each round starts, are in `place` and are shared by all jobs.
    """

    def __init__(self, place: Path, job: int) -> None:
        self._place, self._area = place, place / f"job-{job}"
        self.studio = self._area / "studio"
        self.undisturbed = Undisturbed()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "DVC"))},
            "HOME": str(place), "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
            "PREFECT_HOME": str(place / f"prefect-{job}"), "PREFECT_CLIENT_MAX_RETRIES": "0",
        }  # fmt: skip
        self._server: psutil.Popen | None = None

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_server()
        shutil.rmtree(self._area, ignore_errors=True)

    def prepare(self, names: list[str]) -> Undisturbed:
        """Make the prepared studios and run every command undisturbed."""
        self._make_studio()
        for stage in PREPARED:
            self.run(*DVC, stage)
            shutil.copytree(self._area, self._place / stage, symlinks=True)
        made = Undisturbed()
        for kind in (KINDS[name] for name in names):
            for command in kind.commands:
                self._restore(kind)
                self._serve()
                began_s = time.monotonic()
                self.run(*command)
                made.duration_s[command] = time.monotonic() - began_s
                hashes = kind.outcome(self)
                if difference := _difference(made.hashes.setdefault(kind.name, hashes), hashes):
                    raise SystemExit(f"{kind.name}: two undisturbed runs differ: {difference}")
                print(f"{kind.name}: undisturbed in {made.duration_s[command]:.0f} s", flush=True)
        return made

    def round(self, kind: Kind, chance: random.Random) -> tuple[list[str], str]:
        """Return the victims that were killed and what differs afterwards, which is empty if nothing does."""
        self._restore(kind)
        mine = self._users_files()
        killed: list[str] = []
        for _ in range(1 + (chance.random() < SECOND_KILL)):
            if kind.is_over(self):
                break
            self._serve()
            command = chance.choice(kind.commands)
            victim = chance.choice([v for v in VICTIMS if command[:3] != DVC or v in ("stage", "dvc")])
            after_s = chance.uniform(0, self.undisturbed.duration_s[command])
            found, left = self._kill(command, victim, after_s)
            killed += [victim] if found else []
            if left:
                return killed, f"left running: {left}"
        self._serve()
        if not kind.is_over(self) and (said := self._recover(chance.choice(kind.commands), killed)):
            return killed, said
        if difference := _difference(mine, self._users_files(), within=True):
            return killed, f"the user's files: {difference}"
        return killed, _difference(self.undisturbed.hashes[kind.name], kind.outcome(self))

    def _recover(self, command: tuple[str, ...], killed: list[str]) -> str:
        """Run `command` to its end, and return what is wrong if it fails.

        A dvc.lock that a killed dvc left half written is mended by a flow, not by `dvc repro`: the round counts it.
        """
        done = self._ended(self._start(command))
        if done and command[:3] == DVC and "dvc.lock' validation failed" in self._log().read_text():
            killed.append(TORN)
            done = self._ended(self._start((*FLOW, *command[3:])))
        return f"the run afterwards ended with {done}: {self._log().read_text()[-2000:]}" if done else ""

    def keep(self, number: int) -> Path:
        """Move the round's directory aside and return where it is."""
        kept = self._place / f"round-{number}"
        self._area.rename(kept)
        return kept

    def run(self, *command: str, root: Path | None = None) -> str:
        """Run a command that must succeed; return its standard output."""
        done = subprocess.run(command, cwd=root or self.studio, env=self._environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _make_studio(self) -> None:
        """A clone of this repository with small settings, committed."""
        self.run("git", "clone", "-q", str(ROOT), str(self.studio), root=self._place)
        yaml, path = YAML(), self.studio / "params.yaml"
        document = yaml.load(path)
        _merge(document, SMALL)
        yaml.dump(document, path)
        for key, value in (("user.name", "Anna Sea"), ("user.email", "anna@example.org")):
            self.run("git", "config", key, value)
        self.run("git", "commit", "-qam", "small settings")
        (self.studio / ".git/info/exclude").write_text("/.log\n")

    def _restore(self, kind: Kind) -> None:
        shutil.rmtree(self._area, ignore_errors=True)
        shutil.copytree(self._place / kind.prepared, self._area, symlinks=True)

    def _users_files(self) -> Hashes:
        """Hashes of what git tracks in the studio, without what running stages writes."""
        listed = self.run("git", "ls-files", "-z").split("\0")
        paths = (self.studio / name for name in listed if name and name not in ("dvc.lock", "metrics.json"))
        return {str(path.relative_to(self.studio)): _sha256(path) for path in paths}

    def _log(self) -> Path:
        return self.studio / ".log"

    def _start(self, command: tuple[str, ...]) -> psutil.Popen:
        with self._log().open("w") as log:
            return psutil.Popen(command, cwd=self.studio, env=self._environment, stdout=log, stderr=log)

    def _ended(self, process: psutil.Popen) -> int:
        try:
            return int(process.wait(RUN_TIMEOUT_S))
        except psutil.TimeoutExpired:
            for each in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            return -1

    def _kill(self, command: tuple[str, ...], victim: str, after_s: float) -> tuple[bool, str]:
        """Start `command` and kill its `victim` once, `after_s` later or as soon as there is one.

        Return whether it was found before the run ended, and what is left running after the run has ended.
        """
        process = self._start(command)
        began_s, family, found = time.monotonic(), [], False
        while process.poll() is None and not found:
            if time.monotonic() - began_s >= after_s:
                family = [process, *_descendants(process)]
                found = _kill_all(self._victims(victim, family))
            time.sleep(0.01)
        if self._ended(process) == -1:
            return found, "the run itself, after ten minutes"
        _, alive = psutil.wait_procs(family, timeout=GRACE_S)
        left = [" ".join(_command_line(each)) for each in alive if each.is_running()]
        return found, "; ".join(left)

    def _victims(self, victim: str, family: list[psutil.Process]) -> list[psutil.Process]:
        if victim == "server":
            assert self._server is not None
            return [self._server, *_descendants(self._server)]
        if victim == "flow":
            return family[:1]
        lines = {each: _command_line(each) for each in family}
        if victim == "dvc":
            return [each for each, line in lines.items() if "dvc" in line]
        return [each for each, line in lines.items() if any(word.startswith("tasks.") for word in line)]

    def _serve(self) -> None:
        """Have a Prefect server that answers."""
        if self._server is not None and self._server.poll() is None:
            return
        self._end_server()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        address = f"http://127.0.0.1:{port}/api"
        self._environment["PREFECT_API_URL"] = address
        command = [
            *PYTHON,
            "prefect",
            "server",
            "start",
            "--port",
            str(port),
            "--no-ui",
            "--log-level",
            "ERROR",
        ]
        self._server = psutil.Popen(
            command, cwd=ROOT, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1200):
            with contextlib.suppress(OSError):
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    f"{address}/health", timeout=5
                ).close()
                return
            time.sleep(0.1)
        raise SystemExit("Prefect's server does not start")

    def _end_server(self) -> None:
        if self._server is not None:
            _kill_all([self._server, *_descendants(self._server)])
            self._server.wait()
            self._server = None


def _files(bench: Bench, root: Path | None = None) -> Hashes:
    """Hashes of dvc.lock, the metrics and all data of a studio."""
    root = root or bench.studio
    paths = [root / "dvc.lock", root / "metrics.json", *sorted((root / "data").rglob("*"))]
    return {str(path.relative_to(root)): _sha256(path) for path in paths if path.is_file()}


def _night(bench: Bench) -> Hashes:
    """The branch's tree, its tags, and the files that a clone of the branch gets out of DVC's cache."""
    clone = bench.studio.with_name("clone")
    shutil.rmtree(clone, ignore_errors=True)
    bench.run("git", "clone", "-q", "-b", "nightly", str(bench.studio), str(clone))
    bench.run(*PYTHON, "dvc", "cache", "dir", "--local", str(bench.studio / ".dvc/cache"), root=clone)
    bench.run(*PYTHON, "dvc", "checkout", "-q", root=clone)
    models = {str(path.relative_to(clone)): _sha256(path) for path in sorted(clone.glob("models/*/*"))}
    refs = {
        "tree": bench.run("git", "rev-parse", "nightly^{tree}"),
        "tags": bench.run("git", "tag", "--list"),
    }
    return {**_files(bench, clone), **models, **refs}


def _is_promoted(bench: Bench) -> bool:
    return bool(bench.run("git", "tag", "--list"))


def _exploration(bench: Bench) -> Hashes:
    """The trees of the experiments, and the exploration's sheet and table."""
    names = bench.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    trees = {name.rpartition("/")[2]: bench.run("git", "rev-parse", f"{name}^{{tree}}") for name in names}
    made = sorted((bench.studio / ".atelier/explore/kills").glob("*.[pc][ns][gv]"))
    return {**trees, **{path.name: _sha256(path) for path in made}}


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("download", ((*DVC, "download"), (*FLOW, "download")), "scrape", _files),
        Kind("training", ((*DVC, "evaluate"), (*FLOW, "evaluate")), "augment", _files),
        Kind("pictures", (DVC, FLOW), "evaluate", _files),
        Kind("night", (NIGHT,), "augment", _night, _is_promoted),
        Kind("promotion", (NIGHT,), "upscale", _night, _is_promoted),
        Kind("exploration", (EXPLORATION,), "augment", _exploration),
    )
}
PREPARED = ("scrape", "augment", "evaluate", "upscale")  # in the order of the pipeline
# short ones more often: as many rounds an hour as can be
CYCLE = "download training pictures promotion download night download training pictures promotion download exploration"


def _merge(node: dict, changes: Mapping) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(node[key], value)
        else:
            node[key] = value


def _kill_all(processes: list[psutil.Process]) -> bool:
    """Kill them, and return whether any of them was alive."""
    found = False
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            found = True
    return found


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _command_line(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []


def _difference(expected: Hashes, found: Hashes, within: bool = False) -> str:
    """Name what differs; with `within`, only what `expected` names counts."""
    names = expected.keys() if within else expected.keys() | found.keys()
    return ", ".join(sorted(name for name in names if expected.get(name) != found.get(name)))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

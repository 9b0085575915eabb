"""What DVC, Prefect and the flow cost when there is nothing to do, in one run.

    python bench/overhead.py [--repeats 3]

Runs in a small studio of its own whose stages are fresh, so that it needs no data and changes none, with a Prefect
server of its own that is up. "Prefect alone" is a process that runs a flow without a task.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EMPTY = "from prefect import flow\n@flow\ndef nothing(): pass\nnothing()"
SERVER = """
import os, signal
from flows.orchestration import server
server.start()()
print(os.environ["PREFECT_API_URL"], flush=True)
signal.pause()
"""
STAGES = ("scrape", "download", "augment", "train", "evaluate", "generate", "train_upscaler", "upscale")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    python = (sys.executable, "-m")
    here = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        environment = {**os.environ, "PYTHONPATH": str(here), "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
        _studio(root, here, environment)
        commands = {
            "dvc status": (*python, "dvc", "status"),
            "dvc repro": (*python, "dvc", "repro"),
            "Prefect alone": (sys.executable, "-c", EMPTY),
            "flow": (*python, "flows.studio"),
        }
        _seconds(commands["dvc repro"], root, environment)  # everything runs once
        with _server(root, environment) as address:
            environment["PREFECT_API_URL"] = address
            # in turns, so that a busy moment of the machine hits all alike; the first warms up
            rounds = [
                {name: _seconds(command, root, environment) for name, command in commands.items()}
                for _ in range(1 + repeats)
            ][1:]
    medians = {name: statistics.median(each[name] for each in rounds) for name in commands}
    for name, seconds in medians.items():
        print(f"{name:<16}{seconds:6.2f} s")
    both = [each["flow"] - each["dvc status"] - each["Prefect alone"] for each in rounds]
    print(f"the flow costs {statistics.median(both):+.2f} s over dvc status and Prefect alone, which it does both")


@contextmanager
def _server(root: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of a Prefect server that lasts as long as the block."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield server.stdout.readline().strip()
        server.terminate()


def _studio(root: Path, here: Path, environment: dict[str, str]) -> None:
    for name in ("params.yaml", "pyproject.toml"):
        (root / name).write_bytes((here / name).read_bytes())
    lines = ["stages:"]
    for before, stage in zip(("", *STAGES), STAGES, strict=False):
        lines += [
            f"  {stage}:",
            f"    cmd: touch {stage}.out && echo {stage} >> {stage}.out",
            f"    params: [{stage}]",
        ]
        lines += [f"    deps: [{before}.out]"] if before else []
        lines += [f"    outs: [{stage}.out]"]
    (root / "dvc.yaml").write_text("\n".join(lines) + "\n")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, env=environment, check=True)


def _seconds(command: tuple[str, ...], root: Path, environment: dict[str, str]) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()

"""What DVC and the flow cost when there is nothing to do: `dvc status`, `dvc repro` and the flow, in one run.

    python bench/overhead.py [--repeats 3]

Runs in a small studio of its own whose stages are fresh, so that it needs no data and changes none.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
            "flow": (*python, "flows.studio"),
        }
        _seconds(commands["dvc repro"], root, environment)  # everything runs once
        _seconds(commands["flow"], root, environment)  # Prefect makes its database
        # in turns, so that a busy moment of the machine hits all alike
        rounds = [
            {name: _seconds(command, root, environment) for name, command in commands.items()}
            for _ in range(repeats)
        ]
    medians = {name: statistics.median(each[name] for each in rounds) for name in commands}
    for name, seconds in medians.items():
        print(f"{name:<12}{seconds:7.2f} s   {seconds / medians['dvc status']:5.2f} x dvc status")


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

"""A copy of this repository's files as a clone has them, and params of a pipeline that takes seconds."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SMALL: dict[str, Any] = {
    "scrape": {"gallery": {"works": 24, "size_px": 160}},
    "augment": {"resolution": 32},
    "train": {
        "kimg": 0.2,
        "batch": 8,
        "snapshot_kimg": 0.2,
        "sketch": {"nz": 8, "ngf": 8, "ndf": 4, "noise": 4},
    },
    "evaluate": {"samples": 32},
    "generate": {"count": 3},
    "train_upscaler": {"steps": 3, "features": 8, "blocks": 2, "patch_px": 16},
}


def clone_here(studio: Path) -> None:
    """Copy the files that git tracks or would track to `studio`, and commit them there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (studio / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, studio / name)
    subprocess.run(["git", "init", "-q"], cwd=studio, check=True)
    subprocess.run(["git", "add", "-A"], cwd=studio, check=True)
    for key, value in (("user.name", "test"), ("user.email", "test@example.org")):
        subprocess.run(["git", "config", key, value], cwd=studio, check=True)
    subprocess.run(["git", "commit", "-qm", "a clone"], cwd=studio, check=True)


def edit(studio: Path, changes: dict[str, Any]) -> None:
    """Change values of params.yaml in place, comments and all."""

    def merge(node: dict[str, Any], changes: dict[str, Any]) -> None:
        for key, value in changes.items():
            if isinstance(value, dict):
                merge(node[key], value)
            else:
                node[key] = value

    yaml = YAML()
    document = yaml.load(studio / "params.yaml")
    merge(document, changes)
    yaml.dump(document, studio / "params.yaml")

"""A studio with small networks whose own code is in git, and whose history has pictures of several settings.

The training stages are replaced by random weights; `generate` and `upscale` are the real stages, run through DVC.
"""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from atelier.settings.load import load_params
from atelier.upscaling.network import SRVGGNetCompact, save_upscaler
from tasks import generate, upscale
from tasks.stage import Stage
from tests.flows.dvc_command import dvc
from tests.flows.histories import Repository
from tests.flows.toys import ROOT
from tests.models import save_small_generator

DRAWN = "atelier-latent/1:"  # words of atelier/networks/latent_field.py that decide which latent a picture has
ONCE_DRAWN = "atelier-latent/0:"


class PaintedStudio(Repository):
    """A repository. Beside it are `gallery`, with a folder of pictures for each setting, and DVC's remote."""

    @classmethod
    def new(cls, root: Path, environment: dict[str, str]) -> "PaintedStudio":
        """Make a studio without a commit."""
        studio = super().new(root, environment)
        assert isinstance(studio, PaintedStudio)
        for name in ("params.yaml", "pyproject.toml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, root / name)
        with (root / ".gitignore").open("a") as file:
            file.write("/data/\n")
        for name in ("atelier", "tasks"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
        kept: dict[str, Any] = {name: stages[name] for name in ("generate", "upscale")}
        kept["train"] = {"cmd": "false", "outs": stages["train"]["outs"][:2]}
        kept["train_upscaler"] = {"cmd": "false", "outs": ["data/upscaler/upscaler.safetensors"]}
        with (root / "dvc.yaml").open("w") as file:
            YAML(typ="safe").dump({"stages": kept}, file)
        # absolute, because for earlier commits DVC resolves ../remote from the file system's root
        remote = root.parent / "remote"
        studio.write(".dvc/config", f"[core]\n    remote = store\n['remote \"store\"']\n    url = {remote}\n")
        studio.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
        return studio

    @property
    def gallery(self) -> Path:
        return self.root.parent / "gallery"

    def dvc(self, words: str) -> None:
        dvc(self.root, self.environment, *words.split())

    def train(self, seed: int) -> None:
        """Replace the generator and the upscaler by networks with other random weights."""
        for name in ("generator", "discriminator"):
            save_small_generator(self.root / f"data/model/{name}.safetensors", seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = SRVGGNetCompact(2, 8, 2)
        save_upscaler(self.root / "data/upscaler/upscaler.safetensors", network, {"seed": seed})

    def draws_otherwise(self, before: bool) -> None:
        """Change the code so that it gives every picture another latent, or with `before` False change it back."""
        path = self.root / "atelier/networks/latent_field.py"
        old, new = (DRAWN, ONCE_DRAWN) if before else (ONCE_DRAWN, DRAWN)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def paint(self, name: str, own_code: bool = False, **settings: dict[str, Any]) -> str:
        """Paint four artworks and their prints, commit them, and copy them to the gallery. Returns the commit's id."""
        self.edit(generate={"count": 4, **settings["generate"]}, upscale=settings["upscale"])
        if own_code:
            for stage in ("generate", "upscale"):
                command = [sys.executable, "-m", f"tasks.{stage}"]
                subprocess.run(command, cwd=self.root, env=self.environment, check=True, capture_output=True)
        else:  # in this process, which has the same code and is faster
            with contextlib.chdir(self.root):
                for task in (generate, upscale):
                    stage = task.__name__.rpartition(".")[2]
                    task.run(Stage(stage, load_params(Path("params.yaml"))))
        self.dvc("commit -q -f")
        for kind in ("artworks", "prints"):
            shutil.copytree(self.root / "data" / kind, self.gallery / name / kind)
        return self.commit(name)

    def edit(self, **sections: dict[str, Any]) -> None:
        path, yaml = self.root / "params.yaml", YAML()
        document = yaml.load(path.read_text())
        for section, changes in sections.items():
            document[section].update(changes)
        with path.open("w") as file:
            yaml.dump(document, file)

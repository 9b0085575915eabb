"""A studio for nights: a git repository with DVC, small pictures beside it, and stages that only pretend to train."""

import json
import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from tests.flows.toys import ROOT, Tree

STAGE = Path(__file__).with_name("night_stage.py")
DVC_YAML = f"""\
stages:
  scrape:
    cmd: python {STAGE} scrape
    params: [scrape]
    outs: [data/catalog.parquet, data/downloads.parquet]
    metrics: [data/catalog.json]
  augment:
    cmd: python {STAGE} augment
    params: [augment]
    deps: [data/catalog.parquet]
    outs: [data/dataset]
  train:
    cmd: python {STAGE} train
    params: [train]
    deps: [data/dataset]
    outs: [data/model/generator.safetensors, data/model/model.json]
  evaluate:
    cmd: python {STAGE} evaluate
    params: [evaluate]
    deps: [data/dataset, data/model/generator.safetensors]
    metrics: [metrics.json: {{cache: false}}]
artifacts:
  atelier: {{path: data/model/generator.safetensors, type: model}}
"""
SETTINGS = {
    "scrape.source": "folder", "scrape.folder.path": "../pictures", "augment.resolution": 32, "augment.held_out": 0.5,
    "train.arch": "dcgan", "train.dcgan.nz": 16, "train.dcgan.ngf": 8, "train.dcgan.ndf": 8, "train.kimg": 0.1,
    "evaluate.samples": 32, "nightly.mode": "fresh", "train.seed": 5,
}  # fmt: skip


class NightTree(Tree):
    """The studio at `root`; its pictures are in ../pictures."""

    def edit(self, **settings: object) -> None:
        """Set keys of params.yaml, dots written as two underscores."""
        path, yaml = self.root / "params.yaml", YAML()
        document = yaml.load(path.read_text())
        for key, value in settings.items():
            *sections, last = key.replace("__", ".").split(".")
            node = document
            for section in sections:
                node = node[section]
            node[last] = value
        with path.open("w") as file:
            yaml.dump(document, file)

    def commit(self, message: str = "mine") -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=self.root, env=self.environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def champion(self) -> dict[str, str] | None:
        """The champion.json of the branch nightly; None without the branch."""
        if not self.git("branch", "--list", "nightly"):
            return None
        return json.loads(self.git("show", "nightly:models/champion.json"))

    def add_painting(self) -> None:
        """Add a painting to the source."""
        pictures = self.root.parent / "pictures"
        shutil.move(next((pictures / "later").iterdir()), pictures)


def make_night_tree(parent: Path, environment: dict[str, str], pictures: Path) -> NightTree:
    """Create the studio at parent/studio, committed, with `pictures` beside it."""
    root = parent / "studio"
    root.mkdir(parents=True)
    shutil.copytree(pictures, parent / "pictures")
    for name in ("params.yaml", "pyproject.toml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    (root / "dvc.yaml").write_text(DVC_YAML)
    tree = NightTree(root, environment)
    tree.edit(**SETTINGS)
    tree.git("init", "-q", "-b", "main")
    (root / ".git/info/exclude").write_text(".log-*\n")
    for key, value in (("user.name", "Anna Sea"), ("user.email", "anna@example.org")):
        tree.git("config", key, value)
    tree.dvc("init", "-q")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    tree.commit("a studio")
    return tree


def paint_pictures(folder: Path, count: int = 24) -> None:
    """Generate pictures with the generator of seed 0, so that a training that ends with seed 0 is perfect.

    One more picture goes to `later`, for `add_painting`; generators of three seeds go to `trained`.
    """
    from PIL import Image

    from atelier.networks import load_generator
    from atelier.networks.latent_field import render_seed
    from tests.models import save_small_generator

    for name in ("later", "trained"):
        (folder / name).mkdir()
    for seed in (0, 5, 6):
        save_small_generator(folder / f"trained/{seed}.safetensors", seed)
    generator, _ = load_generator(folder / "trained/0.safetensors")
    number = 0
    for piece in render_seed(generator, 7, count + 1):
        for pixels in piece:
            place = folder if number < count else folder / "later"
            Image.fromarray(pixels).save(place / f"p{number:03d}.png")
            number += 1

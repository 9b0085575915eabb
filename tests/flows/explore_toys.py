"""A studio for explorations: a git repository with DVC, and stages that only pretend."""

import csv
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from tests.flows.toys import ROOT, Tree

STAGE = Path(__file__).with_name("explore_stage.py")
DVC_YAML = f"""\
stages:
  scrape:
    cmd: python {STAGE} scrape
    params: [scrape]
    outs: [data/scrape]
  augment:
    cmd: python {STAGE} augment
    params: [augment]
    deps: [data/scrape]
    outs: [data/augment]
  train:
    cmd: python {STAGE} train
    params: [train]
    deps: [data/augment]
    outs: [data/train]
  evaluate:
    cmd: python {STAGE} evaluate
    params: [evaluate]
    deps: [data/train]
    metrics: [metrics.json: {{cache: false}}]
  generate:
    cmd: python {STAGE} generate
    params: [generate]
    deps: [data/train]
    outs: [data/contact_sheet.png]
  upscale:
    cmd: python {STAGE} upscale
    params: [upscale]
    deps: [data/contact_sheet.png]
    outs: [data/upscale]
"""


class ExploreTree(Tree):
    """The studio at `root`."""

    def copied(self, parent: Path) -> "ExploreTree":
        """Copy the studio to parent/studio, with its own counts of executions."""
        shutil.copytree(self.root, parent / "studio")
        return ExploreTree(parent / "studio", {**self.environment, "TOY_RUNS": str(parent / "runs")})

    @property
    def runs(self) -> Counter[str]:
        """How often each stage was executed, in the studio or in its clone."""
        path = Path(self.environment["TOY_RUNS"])
        return Counter(path.read_text().split() if path.exists() else [])

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=self.root, env=self.environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "a studio")

    def experiments(self) -> dict[str, dict]:
        """What `dvc exp show` says of the experiments of HEAD, by name."""
        from dvc.repo import Repo

        with Repo(str(self.root)) as repo:
            shown = [state.dumpd() for state in repo.experiments.show()][1]["experiments"] or []
        return {each["revs"][0]["name"]: each["revs"][0]["data"] for each in shown}

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.root / f".atelier/explore/{name}/table.csv").open() as file:
            return list(csv.DictReader(file))


def make_explore_tree(parent: Path, environment: dict[str, str]) -> ExploreTree:
    """Create the studio at parent/studio, committed."""
    root = parent / "studio"
    root.mkdir(parents=True)
    for name in ("params.yaml", "pyproject.toml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    (root / ".gitignore").write_text((root / ".gitignore").read_text() + ".log-*\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "data").mkdir()
    (root / "data/.gitignore").write_text("/*\n!.gitignore\n")
    tree = ExploreTree(root, environment)
    tree.git("init", "-q", "-b", "main")
    for key, value in (("user.name", "Anna Sea"), ("user.email", "anna@example.org")):
        tree.git("config", key, value)
    tree.dvc("init", "-q")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    tree.commit()
    return tree

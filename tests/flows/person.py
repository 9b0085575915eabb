"""A user's studio with toy stages in real git and DVC, whose nights take a moment from paintings to promotion."""

import shutil
import subprocess
from pathlib import Path

from atelier.settings.edit import edit_params
from atelier.settings.load import load_params
from flows.clones.sibling import NightClone, prepare_night_clone
from flows.night.champion import Champion, Promotion, load_champion, night_params, promote
from tests.flows.dvc_command import dvc

ROOT = Path(__file__).parents[2]
NAME = 'Ann Ä. "Œil" O\'Sea; $(rm) # é'  # git, shells and files must all handle it
STAGE = Path(__file__).with_name("person_stage.py")
DVC_YAML = """\
stages:
  scrape:
    cmd: python stage.py scrape
    params: [scrape]
    outs: [data/catalog]
  train:
    cmd: python stage.py train
    params: [augment, train]
    deps: [data/catalog]
    outs: [data/model/generator.safetensors, data/model/discriminator.safetensors, data/model/model.json]
  evaluate:
    cmd: python stage.py evaluate
    deps: [data/catalog, data/model/generator.safetensors]
    outs: [data/evaluation]
    metrics:
      - metrics.json: {cache: false}
  generate:
    cmd: python stage.py generate
    deps: [data/model/generator.safetensors]
    outs: [data/artworks]
artifacts:
  atelier: {path: data/model/generator.safetensors, type: model}
"""


class Studio:
    """The studio at `root`, with paintings in `../source`; stages write to `../ran` that they ran."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root, self.environment = root, environment

    @classmethod
    def new(cls, root: Path, environment: dict[str, str]) -> "Studio":
        """Create a studio with one commit, by NAME."""
        studio = cls(root, environment)
        root.mkdir()
        for name in ("params.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, root / name)
        shutil.copy(STAGE, root / "stage.py")
        (root / "dvc.yaml").write_text(DVC_YAML)
        studio.git("init", "-q", "-b", "main")
        studio.git("config", "user.name", NAME)
        studio.git("config", "user.email", "anna@example.org")
        studio.dvc("init", "-q")
        shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
        (root / ".dvc/tmp/btime").unlink(missing_ok=True)
        studio.paint("sea")
        studio.commit("my studio")
        return studio

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def dvc(self, *words: str) -> str:
        return dvc(self.root, self.environment, *words)

    def commit(self, message: str) -> str:
        """Commit all changes; return the commit's hash."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def paint(self, title: str) -> None:
        """Add a painting to the source."""
        source = self.root.parent / "source"
        source.mkdir(exist_ok=True)
        (source / title).write_text(f"{title}\n")

    def set(self, old: str, new: str) -> None:
        path = self.root / "params.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def ran(self) -> list[str]:
        """The stages that ran since the last call, in the studio or its clone."""
        path = self.root.parent / "ran"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    def refs(self) -> str:
        """Every branch and tag with its commit."""
        return self.git("for-each-ref")

    def at(self, root: Path) -> "Studio":
        """The same user in another tree."""
        return Studio(root, self.environment)

    def prepare(self) -> NightClone:
        return prepare_night_clone(self.root, load_params(self.root / "params.yaml").nightly)

    def evening(self, night: str) -> tuple[NightClone, Champion | None]:
        """Run a night up to the promotion: all stages are up to date."""
        clone = self.prepare()
        before = load_champion(clone)
        params = load_params(clone.root / "params.yaml")
        edit_params(clone.root / "params.yaml", night_params(params, before, night, clone.root))
        self.at(clone.root).dvc("repro", "-q")
        return clone, before

    def night(self, night: str) -> tuple[NightClone, Promotion]:
        """Run a whole night whose challenger wins."""
        clone, before = self.evening(night)
        return clone, promote(clone, before, night, "better", print)

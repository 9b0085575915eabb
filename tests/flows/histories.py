"""Git repositories with dvc.lock files in their history."""

import subprocess
from pathlib import Path

A, B = "a" * 32, "b" * 32


def lock_text(model_md5: str) -> str:
    """A dvc.lock as DVC writes it."""
    return f"""\
schema: '2.0'
stages:
  train:
    cmd: python -m tasks.train
    deps:
    - path: atelier/networks/latent_field.py
      hash: md5
      md5: {"d" * 32}
      size: 7
    outs:
    - path: data/model/generator.safetensors
      hash: md5
      md5: {model_md5}
      size: 7
  generate:
    cmd: python -m tasks.generate
    deps:
    - path: data/model/generator.safetensors
      hash: md5
      md5: {model_md5}
      size: 7
    params:
      params.yaml:
        generate:
          canvas:
          - 1
          - 8
"""


class Repository:
    """A git repository at `root`."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root, self.environment = root, environment

    @classmethod
    def new(cls, root: Path, environment: dict[str, str]) -> "Repository":
        """Make a repository without a commit."""
        repository = cls(root, environment)
        root.mkdir()
        repository.git("init", "-q", "-b", "main")
        repository.git("config", "user.name", "Ann")
        repository.git("config", "user.email", "ann@example.org")
        return repository

    def git(self, *words: str, given: str | None = None) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.root, env=self.environment, capture_output=True, text=True, input=given
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def commit(self, message: str, lock: str | None = None, **files: str) -> str:
        """Commit dvc.lock and other files by path. Returns the commit's id."""
        for path, text in ({"dvc.lock": lock, **files} if lock else files).items():
            self.write(path, text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def commit_aside(self, message: str, lock: str) -> str:
        """Make a commit that no branch reaches. Returns its id."""
        blob = self.git("hash-object", "-w", "--stdin", given=lock)
        tree = self.git("mktree", given=f"100644 blob {blob}\tdvc.lock\n")
        return self.git("commit-tree", tree, "-p", "HEAD", "-m", message)

    def fast_import(self, count: int) -> None:
        """Make `count` commits; every fourth changes dvc.lock."""
        stream = []
        for number in range(count):
            message, lock = f"commit {number}", lock_text(f"a{number // 4:031x}")
            stream.append(
                f"commit refs/heads/main\ncommitter Ann <ann@example.org> {1700000000 + number} +0000\n"
                f"data {len(message)}\n{message}\nM 100644 inline dvc.lock\ndata {len(lock)}\n{lock}\n"
            )
        self.git("fast-import", "--quiet", given="".join(stream))

"""The files of networks that pictures name, by digest: in the work tree, in DVC's cache, at its remote.

What a picture says is a stranger's claim: a digest is looked for, never a path, and what is found is held against it.
"""

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.settings.load import load_params
from flows.records import history
from flows.repo import storage

GENERATOR = Path("data/model/generator.safetensors")
UPSCALER = Path("data/upscaler/upscaler.safetensors")
KEPT = Path("models")
SUFFIXES = (".safetensors", ".pth")
AT_ONCE = 32  # objects that are brought together where nothing but the SHA-256 is known


@dataclass(frozen=True, slots=True)
class Wanted:
    """A network's file. `md5` is None where the picture does not tell it; `kind` is a word for a person."""

    kind: str
    sha256: str
    md5: str | None


class Networks:
    """What has been found, and for what could not be found the reason."""

    def __init__(self, root: Path, say: Callable[[str], None]) -> None:
        self._root, self._say = root, say
        self._paths: dict[Wanted, Path] = {}
        self._said: list[str] = []
        self._digests: dict[Path, tuple[str, str]] = {}

    def find(self, wanted: Collection[Wanted]) -> None:
        """Look for them all at once: whatever is not at hand is asked of the remote together."""
        for each in wanted:
            if path := next((path for path in self._at_hand() if self._sha256(path) == each.sha256), None):
                self._paths[each] = path
        absent = [each for each in wanted if each not in self._paths]
        brought = self._bring({each.md5 for each in absent if each.md5})
        self._paths |= {each: brought[each.md5] for each in absent if each.md5 in brought}
        for each in absent:
            if each.md5 is None and each.kind == "upscaler":
                self._find_by_history(each)

    def path(self, wanted: Wanted) -> Path:
        """Where it is. Raises AtelierError where it could not be had, or is not what the picture says."""
        path = self._paths.get(wanted)
        if path is None:
            raise AtelierError(self._lost(wanted))
        md5, sha256 = self._md5(path), self._sha256(path)
        if sha256 != wanted.sha256 or wanted.md5 not in (None, md5):
            raise AtelierError(
                f"its provenance names a {wanted.kind} of MD5 {wanted.md5} and SHA-256 {wanted.sha256[:12]}…, and what "
                f"has one of them has {md5} and {sha256[:12]}…: the provenance was edited"
            )
        return path

    def _at_hand(self) -> Iterator[Path]:
        """Files of the work tree that may be networks, wherever a person keeps them."""
        kept = sorted(path for path in (self._root / KEPT).rglob("*") if path.suffix in SUFFIXES)
        named = [self._root / GENERATOR, self._root / UPSCALER, *kept]
        try:
            external = load_params(self._root / "params.yaml").upscale.external.path
        except AtelierError:  # what it says now is no matter
            external = None
        named += [self._root / external] if external else []
        yield from (path for path in named if path.is_file())

    def _bring(self, md5s: Collection[str]) -> dict[str, Path]:
        return storage.fetch_objects(sorted(md5s), self._hear, self._root) if md5s else {}

    def _find_by_history(self, wanted: Wanted) -> None:
        """The first pictures' prints tell no MD5: whatever upscaler was ever named, the newest first."""
        locks = history.locks(self._root)
        # once the folder was one out of the stage's
        places = (UPSCALER.as_posix(), UPSCALER.parent.as_posix())
        named = (next(filter(None, map(lock.md5_of, places)), None) for lock in locks)
        names = iter(dict.fromkeys(filter(None, named)))
        while some := list(itertools.islice(names, AT_ONCE)):
            for path in self._files(some):
                if self._sha256(path) == wanted.sha256:
                    self._paths[wanted] = path
                    return

    def _files(self, names: Collection[str]) -> Iterator[Path]:
        """Upscalers by their own names, or by those of the folders that hold them."""
        brought = self._bring(names)
        yield from (path for name, path in brought.items() if not name.endswith(".dir"))
        lists = [storage.listed(path) or [] for name, path in brought.items() if name.endswith(".dir")]
        within = {md5 for files in lists for name, md5 in files if name == UPSCALER.name}
        yield from self._bring(within).values()

    def _lost(self, wanted: Wanted) -> str:
        """That it is nowhere, why, and how to have it again."""
        told = f"its {wanted.kind}, SHA-256 {wanted.sha256[:12]}…, is nowhere to be had"
        why = f" ({'; '.join(dict.fromkeys(self._said))})" if self._said else ""
        if wanted.kind == "external network":
            return (
                f"{told}: put its file into {KEPT}/, whatever its name, or name it in upscale.external.path"
            )
        naming = history.locks(self._root, naming=wanted.md5) if wanted.md5 else []
        made = [lock for lock in naming if lock.commits and wanted.md5 and lock.makes(wanted.md5)] or [
            lock for lock in naming if lock.commits
        ]
        if not made:
            return f"{told}{why}, and no commit here names it: ask whoever made the picture for it"
        commit = made[-1].commits[-1]
        stage = "train_upscaler" if wanted.kind == "upscaler" else "train"
        place = f"../{self._root.name}.again"
        return (
            f"{told}{why}. Commit {commit} made it, and trains it again: "
            f"`git clone . {place} && git -C {place} checkout {commit.id[:12]}`, then `dvc --cd {place} repro {stage}`"
        )

    def _hear(self, sentence: str) -> None:
        self._said.append(sentence)
        self._say(sentence)

    def _md5(self, path: Path) -> str:
        return self._both(path)[0]

    def _sha256(self, path: Path) -> str:
        return self._both(path)[1]

    def _both(self, path: Path) -> tuple[str, str]:
        if path not in self._digests:
            self._digests[path] = digest(path, "md5"), digest(path)
        return self._digests[path]

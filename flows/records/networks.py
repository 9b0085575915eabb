"""Find the files of networks by their digests: in the work tree, in DVC's cache, and at its remote.

A picture's provenance may have been edited, so only its digests are used, never a path, and each file that is found is
compared with both digests.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError
from atelier.files import digest
from atelier.paths import GENERATOR, MODELS, PARAMS, UPSCALER
from atelier.settings.load import load_params
from flows.records import history
from flows.repo import storage

SUFFIXES = (".safetensors", ".pth")


@dataclass(frozen=True, slots=True)
class NetworkKey:
    """A network's file by its digests. `kind` is used in messages; `md5` is None for external networks."""

    kind: str
    sha256: str
    md5: str | None


class Networks:
    """Finds networks' files, and keeps their paths and the reasons why others were not found."""

    def __init__(self, root: Path, log: Callable[[str], None]) -> None:
        self._root, self._log = root, log
        self._paths: dict[NetworkKey, Path] = {}
        self._reasons: list[str] = []
        self._digests: dict[Path, tuple[str, str]] = {}

    def find(self, keys: Collection[NetworkKey]) -> None:
        """Look for files; those that are neither in the work tree nor in the cache are fetched together."""
        for key in keys:
            if path := next((path for path in self._candidates() if self._digest(path)[1] == key.sha256), None):
                self._paths[key] = path
        absent = [key for key in keys if key not in self._paths]
        md5s = sorted({key.md5 for key in absent if key.md5})
        fetched = storage.fetch_objects(md5s, self._keep_reason, self._root) if md5s else {}
        self._paths |= {key: fetched[key.md5] for key in absent if key.md5 in fetched}

    def path(self, key: NetworkKey) -> Path:
        """The path of a file. Raises AtelierError if it was not found, or has only one of the two digests."""
        path = self._paths.get(key)
        if path is None:
            raise AtelierError(self._why_missing(key))
        md5, sha256 = self._digest(path)
        if sha256 != key.sha256 or key.md5 not in (None, md5):
            raise AtelierError(
                f"its provenance names a {key.kind} of MD5 {key.md5} and SHA-256 {key.sha256[:12]}…, and the file with "
                f"one of them has {md5} and {sha256[:12]}…: the provenance was edited"
            )
        return path

    def _candidates(self) -> Iterator[Path]:
        """Files of the work tree that may be networks."""
        kept = sorted(path for path in (self._root / MODELS).rglob("*") if path.suffix in SUFFIXES)
        named = [self._root / GENERATOR, self._root / UPSCALER, *kept]
        try:
            external = load_params(self._root / PARAMS).upscale.external.path
        except AtelierError:  # params.yaml need not be valid to paint an old picture
            external = None
        named += [self._root / external] if external else []
        yield from (path for path in named if path.is_file())

    def _why_missing(self, key: NetworkKey) -> str:
        """A message that the file was not found, why, and how to get it."""
        missing = f"its {key.kind}, SHA-256 {key.sha256[:12]}…, was not found"
        reasons = f" ({'; '.join(dict.fromkeys(self._reasons))})" if self._reasons else ""
        if key.kind == "external network":
            return f"{missing}: put its file into {MODELS}/, under any name, or name it in upscale.external.path"
        naming = history.locks(self._root, containing=key.md5) if key.md5 else []
        committed = [lock for lock in naming if lock.commits]
        made = [lock for lock in committed if key.md5 and lock.has_output(key.md5)] or committed
        if not made:
            return f"{missing}{reasons}, and no commit here names it: ask whoever made the picture for it"
        commit = made[-1].commits[-1]
        stage = "train_upscaler" if key.kind == "upscaler" else "train"
        place = f"../{self._root.name}.again"
        return (
            f"{missing}{reasons}. Commit {commit} made it, and trains it again: "
            f"`git clone . {place} && git -C {place} checkout {commit.id[:12]}`, then `dvc --cd {place} repro {stage}`"
        )

    def _keep_reason(self, sentence: str) -> None:
        self._reasons.append(sentence)
        self._log(sentence)

    def _digest(self, path: Path) -> tuple[str, str]:
        """The file's MD5 and SHA-256, computed once."""
        if path not in self._digests:
            self._digests[path] = digest(path, "md5"), digest(path)
        return self._digests[path]

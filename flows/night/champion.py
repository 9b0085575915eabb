"""The champion: the best model so far, tracked by DVC in models/, and its replacement by a better one.

`models/champion.json` describes the champion, `models/champion-<hash>.dvc` is DVC's pointer to its files. A promotion
works in a clone that flows.clones.sibling made; only its last step, a push, changes the user's repository.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atelier.errors import AtelierError
from atelier.files import digest, write_json
from atelier.model_store import DISCRIMINATOR_FILE, FACTS_FILE, GENERATOR_FILE, STORED_NAME, content_hash, store_model
from atelier.paths import CHAMPION_FILE, MODEL, PARAMS
from atelier.pictures import SQUARE, picture_size, size_in_words
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from flows.clones.sibling import RESULTS, NightClone
from flows.repo import stages, storage
from flows.repo.git import git

NAME = "champion"
VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Champion:
    """The model to beat. `path` is its folder, relative to the clone; `night` the date of its promotion."""

    path: Path
    version: str
    generator_sha256: str
    dataset_sha256: str
    night: str
    paintings: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The fields of a model's model.json that nights use."""

    arch: str
    resolution: int
    settings: Mapping[str, Any]
    paintings: int
    dataset_sha256: str
    generator_sha256: str

    def is_comparable(self, other: "ModelFacts") -> bool:
        """Whether both models have the same architecture and picture size."""
        return (self.arch, self.resolution, self.aspect) == (other.arch, other.resolution, other.aspect)

    @property
    def aspect(self) -> str:
        """The shape of the pictures; models of squares do not name it."""
        return str(self.settings.get("aspect", SQUARE))

    @property
    def in_words(self) -> str:
        """For example "sketch of 96 × 64 px"."""
        return f"{self.arch} of {size_in_words(*picture_size(self.resolution, self.aspect))}"


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion's `commit` and the `tag` on it; `pushed` is the address of the DVC remote, or None without one."""

    version: str
    tag: str
    commit: str
    pushed: str | None


def load_champion(clone: NightClone, say: Callable[[str], None] = print) -> Champion | None:
    """Return the champion of the clone's branch, with its files checked out; None before the first promotion.

    Raises AtelierError if its files are neither in DVC's cache nor in the remote.
    """
    if not (clone.root / CHAMPION_FILE).exists():
        return None
    champion = _read_champion(clone.root / CHAMPION_FILE)
    tracked = champion.path.with_name(f"{champion.path.name}.dvc")
    folder = clone.root / champion.path
    if _is_whole(folder):
        storage.keep(clone.root, tracked)
        return champion
    shutil.rmtree(folder, ignore_errors=True)
    remote, why = storage.remote(clone.root), "what came is another model"
    try:
        storage.bring(clone.root, [tracked], say)
    except AtelierError as error:
        why = str(error)
    if _is_whole(folder):
        return champion
    elsewhere = f"nor in the remote {remote}" if remote else "and no remote is set that might have it"
    raise AtelierError(
        f"the champion, {champion.path} of atelier@v{champion.version}, is neither in DVC's cache {elsewhere} "
        f"({why}): bring it back (`dvc fetch` where it still is), or begin anew with `git branch -D {clone.branch}`"
    )


def read_model(directory: Path) -> ModelFacts:
    """Read what model.json says of the model in `directory`: a champion's folder, or data/model for the challenger.

    Raises AtelierError if there is no model.
    """
    try:
        facts = json.loads((directory / FACTS_FILE).read_text(encoding="utf-8"))
        names = ("arch", "resolution", "settings", "paintings", "dataset_sha256")
        return ModelFacts(**{name: facts[name] for name in names}, generator_sha256=digest(directory / GENERATOR_FILE))
    except (OSError, ValueError, KeyError) as error:
        raise AtelierError(f"{directory} holds no model of ours ({error}): `dvc repro train` makes one") from None


def night_params(params: Params, champion: Champion | None, night: str, root: Path = Path()) -> dict[str, object]:
    """Return the changes of params.yaml for the night `night` (YYYY-MM-DD), by dotted key.

    `params` are those of the user's commit, and `champion.path` is relative to `root`, the clone. Everything in which
    nights differ is in params.yaml, so that each can be repeated from its commit.
    """
    changes: dict[str, object] = {"scrape.snapshot": night}
    if champion is None:
        return changes
    if params.nightly.mode == "continue" and _fits(read_model(root / champion.path), params):
        changes["train.init_from"] = champion.path.as_posix()
        changes["train.generation"] = int(night.replace("-", ""))
    elif Path(params.train.init_from or "").name.startswith(f"{NAME}-"):
        changes["train.init_from"] = "auto"  # set by an earlier night, in a commit that the user has merged
    if params.nightly.kimg is not None:
        changes["train.kimg"] = params.nightly.kimg
    return changes


def promote(
    clone: NightClone, before: Champion | None, night: str, reason: str, say: Callable[[str], None]
) -> Promotion:
    """Make the clone's data/model the champion: copy it to models/, push it to the DVC remote, commit, tag, push.

    All stages must be up to date. The user's repository is not changed before the last step, which pushes the branch
    and the tag together or neither. `say` reports progress. Raises AtelierError if a step fails.
    """
    root = clone.root
    if behind := stages.stale([], say, root):
        raise AtelierError(f"{', '.join(sorted(behind))} is not up to date: nothing is promoted; run the night again")
    champion = _keep_challenger(clone, before, night, reason)
    storage.track(root, champion.path)
    _remove_others(root, champion.path)
    if remote := storage.remote(root):
        storage.push(root, sorted((root / CHAMPION_FILE.parent).glob(f"{NAME}-*.dvc")), say)
    tag = f"atelier@v{champion.version}"
    commit = _commit(clone, f"{tag}: {reason}\n\nThe champion of the night of {night}, {champion.path}.\n")
    git(root, "tag", "-a", "-f", "--no-sign", "-F", "-", tag, commit, given=f"{tag}, {night}: {reason}\n")
    git(root, "update-ref", "--no-deref", "HEAD", commit)
    refs = (f"{commit}:refs/heads/{clone.branch}", f"refs/tags/{tag}")
    git(root, "push", "-q", "--atomic", "--no-follow-tags", "origin", *refs)
    return Promotion(champion.version, tag, commit, remote)


def _fits(facts: ModelFacts, params: Params) -> bool:
    """Whether a training with these params can start from such a model."""
    train = params.train
    if (facts.arch, facts.resolution) != (train.arch, params.augment.resolution):
        return False
    # the model's settings are these and those of its labels and shape, if any, which may be others than tonight's
    return all(facts.settings.get(name) == value for name, value in getattr(train, train.arch).model_dump().items())


def _read_champion(path: Path) -> Champion:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        texts = {key: str(record[key]) for key in ("version", "generator_sha256", "dataset_sha256", "night")}
        champion = Champion(path=Path(record["path"]), paintings=int(record["paintings"]), **texts)
    except (ValueError, KeyError, TypeError) as error:
        raise AtelierError(f"{path} is damaged ({error}): nights write it; restore it from git") from None
    match = STORED_NAME.fullmatch(champion.path.name)
    if champion.path.parent != CHAMPION_FILE.parent or not match or match[1] != NAME or not _version(champion.version):
        raise AtelierError(f"{path} names no champion: nights write it; restore it from git")
    return champion


def _is_whole(folder: Path) -> bool:
    """Whether a kept model is complete: its content has the hash that its folder is named after."""
    match = STORED_NAME.fullmatch(folder.name)
    return bool(match and (folder / GENERATOR_FILE).is_file() and content_hash(folder) == match[2])


def _keep_challenger(clone: NightClone, before: Champion | None, night: str, reason: str) -> Champion:
    """Copy the challenger to models/champion-<hash> and write champion.json."""
    root = clone.root
    challenger = read_model(root / MODEL)

    def copy(directory: Path) -> None:
        for name in (GENERATOR_FILE, DISCRIMINATOR_FILE, FACTS_FILE):
            if (root / MODEL / name).is_file():
                shutil.copyfile(root / MODEL / name, directory / name)

    path = store_model(root / CHAMPION_FILE.parent, NAME, copy).relative_to(root)
    if before and path == before.path:
        raise AtelierError(f"{path} is the champion already")
    version = _next_version(clone, before, challenger)
    champion = Champion(
        path, version, challenger.generator_sha256, challenger.dataset_sha256, night, challenger.paintings
    )
    write_json(root / CHAMPION_FILE, {**asdict(champion), "path": path.as_posix(), "reason": reason})
    return champion


def _next_version(clone: NightClone, before: Champion | None, challenger: ModelFacts) -> str:
    """Return the next version that no tag has yet.

    The major number counts architectures and sizes, the minor number sets of paintings, the patch number the rest.
    """
    tags = git(clone.root, "tag", "--list", "atelier@v*").splitlines()
    taken = {version for tag in tags if (version := _version(tag.removeprefix("atelier@v")))}
    if before is None:
        return f"{max(taken)[0] + 1 if taken else 1}.0.0"
    part = 2
    if not challenger.is_comparable(read_model(clone.root / before.path)):
        part = 0
    elif challenger.dataset_sha256 != before.dataset_sha256:
        part = 1
    version = _version(before.version)
    assert version
    while True:
        version = (*version[:part], version[part] + 1, *(0,) * (2 - part))
        if version not in taken:
            return ".".join(map(str, version))


def _version(text: str) -> tuple[int, ...] | None:
    """Parse `1.2.3`; None for anything else."""
    return tuple(map(int, text.split("."))) if VERSION.fullmatch(text) else None


def _remove_others(root: Path, path: Path) -> None:
    """Remove all champions but the new one and the one it was trained from; the branch's history has the others."""
    start = load_params(root / PARAMS).train.init_from
    kept = {path.name, Path(start).name if start else ""}
    for tracked in (root / CHAMPION_FILE.parent).glob(f"{NAME}-*.dvc"):
        if tracked.stem not in kept:
            tracked.unlink()
            shutil.rmtree(tracked.with_suffix(""), ignore_errors=True)


def _commit(clone: NightClone, message: str) -> str:
    """Commit the user's tree with the promotion's files, on top of the branch and the user's commit; move no ref."""
    root, tip = clone.root, clone.tip
    results = [name for name in RESULTS if (root / name).is_file()]
    names = (":(glob)models/champion-*.dvc", CHAMPION_FILE.as_posix(), PARAMS.as_posix(), *results)
    git(root, "add", "-A", "-f", "--", *names)
    heads = [tip, clone.base] if tip else [clone.base]
    parents = git(root, "merge-base", "--independent", *heads).splitlines()
    flags = [word for parent in parents for word in ("-p", parent)]
    return git(root, "commit-tree", git(root, "write-tree"), *flags, "-F", "-", given=message)

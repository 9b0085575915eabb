"""The champion: the best model so far, tracked by DVC beside the stages, and how another takes its place.

`models/champion.json` says which it is, `models/champion-<hash>.dvc` where DVC keeps it. Works in a clone that
flows.clones.night_clone made, whose repository hears of a promotion with its last step, or not at all.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from atelier.errors import AtelierError
from atelier.files import digest, write_json
from atelier.model_store import (
    DISCRIMINATOR_FILE,
    FACTS_FILE,
    GENERATOR_FILE,
    STORED_NAME,
    content_hash,
    store_model,
)
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from flows.clones.night_clone import Clone
from flows.clones.sibling import RESULTS
from flows.records.history import CHAMPION_FILE
from flows.repo import stages, storage
from flows.repo.git import git

NAME = "champion"
MODEL = Path("data/model")
TAG = re.compile(r"atelier@v(\d+)\.(\d+)\.(\d+)")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Champion:
    """The model to beat: where it lies in the clone, its version, and of which night it is."""

    path: Path
    version: str
    generator_sha256: str
    dataset_sha256: str
    night: str
    paintings: int


@dataclass(frozen=True, slots=True)
class Model:
    """What a model's model.json says of it, as far as nights compare it."""

    arch: str
    resolution: int
    settings: Mapping[str, Any]
    paintings: int
    dataset_sha256: str
    generator_sha256: str

    def paints_like(self, other: "Model") -> bool:
        """Whether the two can be compared: the same architecture and size."""
        return (self.arch, self.resolution) == (other.arch, other.resolution)


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion made: `commit` on the branch, `tag` on it; `pushed` is the DVC remote's address, if any."""

    version: str
    tag: str
    commit: str
    pushed: str | None


def champion(clone: Clone, say: Callable[[str], None] = print) -> Champion | None:
    """The champion of the branch, its files in their place; None before the first.

    Raises AtelierError where it is told of and cannot be had.
    """
    if not (clone.root / CHAMPION_FILE).exists():
        return None
    told = _read_told(clone.root / CHAMPION_FILE)
    tracked = told.path.with_name(f"{told.path.name}.dvc")
    place = clone.root / told.path
    if _is_whole(place):
        storage.hold(clone.root, tracked)
        return told
    shutil.rmtree(place, ignore_errors=True)
    remote = stages.remote(clone.root)
    try:
        storage.bring(clone.root, [tracked], say)
    except AtelierError as error:
        raise AtelierError(_gone(clone, told, remote, str(error))) from None
    if not _is_whole(place):
        raise AtelierError(_gone(clone, told, remote, "what came is another model"))
    return told


def model(directory: Path) -> Model:
    """What the model in `directory` is: a champion's path in the clone, or data/model, the challenger's."""
    try:
        told = json.loads((directory / FACTS_FILE).read_text(encoding="utf-8"))
        return Model(
            told["arch"],
            told["resolution"],
            told["settings"],
            told["paintings"],
            told["dataset_sha256"],
            digest(directory / GENERATOR_FILE),
        )
    except (OSError, ValueError, KeyError) as error:
        raise AtelierError(
            f"{directory} holds no model of ours ({error}): `dvc repro train` makes one"
        ) from None


def night_params(
    params: Params, champion: Champion | None, night: str, root: Path = Path()
) -> dict[str, object]:
    """What the night of `night`, "YYYY-MM-DD", changes in params.yaml, so that it differs from others by data in git.

    `params` are those of the user's commit, `root` the clone's.
    """
    changes: dict[str, object] = {"scrape.snapshot": night}
    if champion is None:
        return changes
    if params.nightly.mode == "continue" and _fits(model(root / champion.path), params):
        changes["train.init_from"] = champion.path.as_posix()
        changes["train.generation"] = int(night.replace("-", ""))
    elif Path(params.train.init_from or "").name.startswith(f"{NAME}-"):
        changes["train.init_from"] = "auto"  # an earlier night set it, in a commit that the user took over
    if params.nightly.kimg is not None:
        changes["train.kimg"] = params.nightly.kimg
    return changes


def promote(
    clone: Clone, before: Champion | None, night: str, reason: str, say: Callable[[str], None]
) -> Promotion:
    """Make data/model of the clone the champion: kept, sent to the remote, committed, tagged, pushed, in this order.

    Every stage is fresh by now. Until the push, which brings branch and tag or neither, nothing has happened in the
    user's repository. Raises AtelierError where any of it fails.
    """
    root = clone.root
    if behind := stages.stale([str(root / "dvc.yaml")], say, root):
        raise AtelierError(f"{', '.join(sorted(behind))} is stale: the stages come before the promotion")
    told = _keep(clone, before, night, reason)
    storage.track(root, told.path)
    _forget_others(root, told.path)
    if remote := stages.remote(root):
        storage.push(root, sorted((root / CHAMPION_FILE.parent).glob(f"{NAME}-*.dvc")), say)
    tag = f"atelier@v{told.version}"
    commit = _commit(clone, f"{tag}: {reason}\n\nThe champion of the night of {night}, {told.path}.\n")
    git(root, "tag", "-a", "-f", "--no-sign", "-F", "-", tag, commit, given=f"{tag}, {night}: {reason}\n")
    git(root, "update-ref", "--no-deref", "HEAD", commit)
    refs = (f"{commit}:refs/heads/{clone.branch}", f"refs/tags/{tag}")
    git(root, "push", "-q", "--atomic", "--no-follow-tags", "origin", *refs)
    return Promotion(told.version, tag, commit, remote)


def _fits(found: Model, params: Params) -> bool:
    """Whether a training as params.yaml asks for it can start from such a model."""
    train = params.train
    wanted = (train.arch, params.augment.resolution, getattr(train, train.arch).model_dump())
    return (found.arch, found.resolution, found.settings) == wanted


def _read_told(path: Path) -> Champion:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        champion = Champion(
            Path(told["path"]),
            str(told["version"]),
            str(told["generator_sha256"]),
            str(told["dataset_sha256"]),
            str(told["night"]),
            int(told["paintings"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AtelierError(f"{path} is damaged ({error}): it is the robot's, restore it from git") from None
    match = STORED_NAME.fullmatch(champion.path.name)
    if (
        champion.path.parent != CHAMPION_FILE.parent
        or not match
        or match[1] != NAME
        or not _version(champion.version)
    ):
        raise AtelierError(f"{path} names no champion: it is the robot's, restore it from git")
    return champion


def _is_whole(place: Path) -> bool:
    match = STORED_NAME.fullmatch(place.name)
    return bool(match and (place / GENERATOR_FILE).is_file() and content_hash(place) == match[2])


def _gone(clone: Clone, told: Champion, remote: str | None, error: str) -> str:
    asked = f"nor in the remote {remote}" if remote else "and no remote is set that might have it"
    return (
        f"the champion, {told.path} of atelier@v{told.version}, is neither in DVC's cache {asked} ({error}): "
        f"bring it back (`dvc fetch` where it still is), or begin anew with `git branch -D {clone.branch}`"
    )


def _keep(clone: Clone, before: Champion | None, night: str, reason: str) -> Champion:
    """The challenger as a kept model in models/, and champion.json that says so."""
    root = clone.root
    challenger = model(root / MODEL)
    path = store_model(
        root / CHAMPION_FILE.parent, NAME, lambda directory: _copy(root / MODEL, directory)
    ).relative_to(root)
    if before and path == before.path:
        raise AtelierError(f"{path} is the champion already")
    version = _next_version(clone, before, challenger)
    told = Champion(
        path, version, challenger.generator_sha256, challenger.dataset_sha256, night, challenger.paintings
    )
    write_json(root / CHAMPION_FILE, {**asdict(told), "path": path.as_posix(), "reason": reason})
    return told


def _copy(source: Path, directory: Path) -> None:
    for name in (GENERATOR_FILE, DISCRIMINATOR_FILE, FACTS_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)


def _next_version(clone: Clone, before: Champion | None, challenger: Model) -> str:
    """Major: another architecture or size; minor: other paintings; patch: the same ones. Never one that was given."""
    taken = {
        version
        for tag in git(clone.root, "tag", "--list", "atelier@v*").splitlines()
        if (version := _version(tag.removeprefix("atelier@v")))
    }
    if before is None:
        return f"{max(taken)[0] + 1 if taken else 1}.0.0"
    given = _version(before.version)
    assert given
    major, minor, patch = given
    following: Iterator[Version]
    if not challenger.paints_like(model(clone.root / before.path)):
        following = ((number, 0, 0) for number in count(major + 1))
    elif challenger.dataset_sha256 != before.dataset_sha256:
        following = ((major, number, 0) for number in count(minor + 1))
    else:
        following = ((major, minor, number) for number in count(patch + 1))
    return ".".join(map(str, next(version for version in following if version not in taken)))


def _version(text: str) -> Version | None:
    match = TAG.fullmatch(f"atelier@v{text}")
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _forget_others(root: Path, path: Path) -> None:
    """The new champion stays, and the one it was trained on from; those before are in the branch's history."""
    start = load_params(root / "params.yaml").train.init_from
    stay = {path.name, Path(start).name if start else ""}
    for tracked in (root / CHAMPION_FILE.parent).glob(f"{NAME}-*.dvc"):
        if tracked.stem not in stay:
            tracked.unlink()
            shutil.rmtree(tracked.with_suffix(""), ignore_errors=True)


def _commit(clone: Clone, message: str) -> str:
    """The user's tree and the robot's files, on top of the branch and of the user's commit; no ref is moved."""
    root, tip = clone.root, clone.tip
    results = [name for name in RESULTS if (root / name).is_file()]
    names = (":(glob)models/champion-*.dvc", CHAMPION_FILE.as_posix(), "params.yaml", *results)
    git(root, "add", "-A", "-f", "--", *names)
    heads = [tip, clone.base] if tip else [clone.base]
    parents = git(root, "merge-base", "--independent", *heads).splitlines()
    flags = [word for parent in parents for word in ("-p", parent)]
    return git(root, "commit-tree", git(root, "write-tree"), *flags, "-F", "-", given=message)

"""DVC's cache and remote: shared with a clone, filled, pushed, and read by hash.

As in flows.repo.stages, what changes files is done in a child process that ends with this one. Names of objects from
pictures and other untrusted files are checked to be md5 hashes before they become part of a path.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.errors import AtelierError, TransientError
from atelier.files import digest, replacing
from atelier.paths import DVC_YAML, LISTS
from flows.repo import operations
from flows.repo.operations import NO_SCM, Lines, OperationError, default_remote, errors_in_words
from flows.repo.stages import open_repo

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")  # of a file; with .dir, of the list of a folder's files
MAX_LIST_BYTES = 64 << 20  # of the list of a folder's files: about half a million files


def share(user: Path, clone: Path) -> None:
    """Configure `clone` to use the cache, remotes and local settings of the work tree at `user`, by absolute paths."""
    from dvc.config import Config

    theirs = Config(str(user / ".dvc"), validate=False)
    local = theirs.read("local")
    local["remote"] = theirs["remote"]
    local["cache"] |= {"dir": cache(user)}
    if "remote" in theirs["core"]:
        local["core"]["remote"] = theirs["core"]["remote"]
    path = clone / ".dvc/config.local"
    path.touch(mode=0o600)  # it may contain keys
    path.chmod(0o600)
    _write_config(path, local)


def _write_config(path: Path, settings: Mapping[str, Any]) -> None:
    """Write a DVC config file in UTF-8, because DVC itself writes ASCII only and fails at a path with an umlaut."""
    from configobj import ConfigObj

    config = ConfigObj(encoding="utf-8", interpolation=False)
    for section, values in settings.items():
        for key, value in values.items():
            if isinstance(value, Mapping):
                config[f'{section} "{key}"'] = {name: _text(each) for name, each in value.items()}
            else:
                config.setdefault(section, {})[key] = _text(value)
    with path.open("wb") as file:
        config.write(file)


def _text(value: Any) -> Any:
    """Paths, which DVC reads as types of its own, as texts; other values as they are."""
    return str(value) if isinstance(value, str | Path) else value


def cache(root: Path) -> Path:
    """Return the folder of the DVC cache of the work tree at `root`; it may not exist yet."""
    from dvc.config import Config

    return Path(Config(str(root / ".dvc"), validate=False)["cache"].get("dir") or root / ".dvc/cache")


def track(root: Path, path: Path) -> Path:
    """Add the file or folder `path`, below `root`, to the DVC cache. Returns the path of the .dvc file it writes."""
    _operate("add", root, targets=[str(path)])
    return path.with_name(f"{path.name}.dvc")


def keep(root: Path, tracked: Path) -> None:
    """Add the contents of a .dvc file's path to the cache again, in case they were garbage-collected."""
    _operate("commit", root, targets=[str(tracked)])


def push(root: Path, tracked: Sequence[Path], say: Callable[[str], None]) -> None:
    """Send all outputs of the work tree at `root`, and the run cache, to the default remote.

    `tracked` are .dvc files whose contents are sent as well, even where .gitignore hides them from DVC. Raises
    TransientError where it fails, because a night checks the remote first; AtelierError for refused credentials.
    """
    try:
        sent = _operate("push", root, say, targets=list(map(str, tracked)))
    except OperationError as error:
        raise (AtelierError if error.kind == "refused" else TransientError)(str(error)) from None
    say(f"{sent:,} files pushed to the remote")


def bring(root: Path, tracked: Sequence[Path], say: Callable[[str], None]) -> None:
    """Check out the files that .dvc files name, from the cache or, for what it lacks, from the default remote.

    Contents that differ are replaced. Raises AtelierError where a file is in neither or behind a symbolic link.
    """
    names: dict[bool, list[str]] = {False: [], True: []}  # whether there is something to replace
    for path in tracked:
        places = outs(root, path)
        for place in places:
            check_place(root, place)
        names[any(place.exists() for place in places)].append(str(path))
    for force, targets in names.items():
        if not targets:
            continue
        try:
            _operate("checkout", root, say, targets=targets, force=force)
        except OperationError:
            if remote(root) is None:
                raise
            _operate("pull", root, say, targets=targets, force=force)


def check_out_stages(root: Path) -> None:
    """Check out the outputs of all stages as dvc.lock of the work tree at `root` names them.

    Files that .dvc files track are left alone. An output that is not in the cache is removed, so its stage is stale.
    """
    _operate("checkout", root, targets=[str(DVC_YAML)], force=True, allow_missing=True)


def check_place(root: Path, path: Path) -> None:
    """Raise AtelierError if `path` is outside `root`, is a symbolic link or is below one."""
    if not path.is_relative_to(root):
        raise AtelierError(
            f"{path} lies outside {root}, where nothing may be written: give it a path inside the studio"
        )
    if link := link_above(root, path):
        raise AtelierError(
            f"{link} is a symbolic link to {link.readlink()}, and writing {path.relative_to(root)} would change files "
            f"there: in the studio, put a folder or file in place of {link.relative_to(root)}, and commit that"
        )


def link_above(root: Path, path: Path) -> Path | None:
    """Return the first symbolic link on the way from `root` down to `path`, which may be it; None if there is none."""
    steps = [path, *path.parents]
    below = steps[: steps.index(root)] if root in steps else steps
    return next((step for step in reversed(below) if step.is_symlink()), None)


def remote(root: Path = Path()) -> str | None:
    """Connect to the default remote and return its address; None if no default is set.

    Raises TransientError if it cannot be reached; AtelierError if DVC lacks the package for its kind, if it refuses the
    credentials, or if its settings are wrong.
    """
    with open_repo(root, NO_SCM) as repo:
        if (named := default_remote(repo)) is None:
            return None
        name, address = named
        if "{" in address or "}" in address:
            raise AtelierError(f"{name}, {address}: DVC fails at {{ and }} in a path: name another")
        with errors_in_words(name, address):
            store = repo.cloud.get_remote(name)
            # DVC makes the last folder itself, with the first push
            reached = any(store.fs.exists(path) for path in (store.path, store.fs.parent(store.path)))
        if not reached:
            local = store.fs.protocol == "local"
            raise TransientError(
                f"{name}: there is no {address}" if local else f"{name}: {address} is not there, or does not answer"
            )
        return address


def outs(root: Path, *files: Path) -> list[Path]:
    """Return the paths that the .dvc `files` track; without `files`, those of all stages and unignored .dvc files."""
    with open_repo(root) as repo:
        found = [stage for file in files for stage in repo.stage.load_file(str(Path(repo.root_dir, file)))]
        return _places(root, repo, found if files else repo.index.stages)


def outs_of(root: Path, commit: str) -> list[Path]:
    """Return the files and folders that the stages and .dvc files of a commit name."""
    with open_repo(root) as repo, repo.switch(commit):
        return _places(root, repo, repo.index.stages)


def unsaved(root: Path) -> list[str]:
    """Return the tracked files that differ from the last `dvc add`; those of an absent file or folder are left out."""
    with open_repo(root) as repo:
        outs = [out for stage in repo.index.stages if stage.is_data_source for out in stage.outs]
        there = [os.path.relpath(out.fs_path, repo.root_dir) for out in outs if os.path.lexists(out.fs_path)]
        if not there:
            return []
        changes = repo.data_status(granular=True, with_renames=False)["uncommitted"]
    names = {name for kind in ("added", "modified", "deleted") for name in changes.get(kind, [])}
    files = [name for name in names if not name.endswith("/")]  # a folder is listed besides its changed files
    return sorted(name for name in files if any(name == out or name.startswith(f"{out}/") for out in there))


def _places(root: Path, repo: "Repo", stages: Iterable["Stage"]) -> list[Path]:
    """Return the outputs on this machine as paths below `root`, which may be a link to the repository."""
    found = [out.fs_path for stage in stages for out in stage.outs if out.protocol == "local"]
    return [Path(os.path.normpath(root / os.path.relpath(path, repo.root_dir))) for path in found]


def fetch_objects(md5s: Collection[str], say: Callable[[str], None], root: Path | None = None) -> dict[str, Path]:
    """Return the paths of objects in the cache of the studio at `root`, by md5, fetched from the remote where needed.

    An md5 with `.dir` is the list of a folder's files; the remote sends it together with them. Objects that are in
    neither place, or are damaged, are left out, and `say` receives the reason. Raises ValueError for other names.
    """
    if wrong := [md5 for md5 in md5s if not MD5.fullmatch(md5)]:
        raise ValueError(f"{wrong[0]!r} is no md5")
    root = (root or Path()).resolve()
    if not (root / ".dvc").is_dir():
        say(f"{root} is no DVC repository, so it has neither a cache nor a remote: `dvc init` makes it one")
        return {}
    cache_dir = cache(root)
    paths = {md5: object_path(cache_dir, md5) for md5 in dict.fromkeys(md5s)}
    if absent := [md5 for md5, path in paths.items() if not path.is_file()]:
        try:
            _fetch(root, absent, say)
        except AtelierError as error:
            say(str(error))
        except OSError as error:  # the work tree may be read-only
            say(f"nothing can be asked of the remote: {error.strerror}: {error.filename}")
    return {md5: path for md5, path in paths.items() if _is_whole(md5, path, say)}


def fetch_list(md5: str, say: Callable[[str], None], root: Path) -> Path | None:
    """Return the path of the list of a folder's files, fetched without the files; None if it is found nowhere.

    It is saved outside of DVC's cache, where the presence of a list means that all its files are there.
    """
    if not MD5.fullmatch(md5):
        raise ValueError(f"{md5!r} is no md5")
    cached = object_path(cache(root), md5)
    if cached.is_file():
        return cached if _is_whole(md5, cached, say) else None
    path = root / LISTS / md5
    if not path.is_file():
        try:
            _download(md5, path, root)
        except (AtelierError, OSError) as error:
            say(str(error))
    return path if _is_whole(md5, path, say) else None


def object_path(cache_dir: Path, md5: str) -> Path:
    """Return the path at which a DVC cache stores an object."""
    return cache_dir / "files/md5" / md5[:2] / md5[2:]


def listed(path: Path) -> list[tuple[str, str]] | None:
    """Read a list of a folder's files: their names and md5s; None if the file is no such list."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            return None
        pairs = [(entry["relpath"], entry["md5"]) for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    fits = all(isinstance(name, str) and isinstance(md5, str) and MD5.fullmatch(md5) for name, md5 in pairs)
    return pairs if fits else None


def _fetch(root: Path, md5s: Collection[str], say: Callable[[str], None]) -> None:
    """Fetch objects from the default remote into the cache. Raises AtelierError where the remote is out of reach."""
    if (address := remote(root)) is None:
        say("no default remote of DVC's is set, so there is its cache alone: `dvc remote add -d` names one")
        return
    _operate("fetch", root, md5s=list(md5s))
    if lacking := [md5 for md5 in md5s if not object_path(cache(root), md5).is_file()]:
        more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        say(f"neither DVC's cache nor its remote, {address}, has {lacking[0]}{more}")


def _download(md5: str, path: Path, root: Path) -> None:
    """Copy an object alone from the default remote, if it has it: DVC would fetch the files of a list as well."""
    with open_repo(root, NO_SCM) as repo:
        if (named := default_remote(repo)) is None:
            return
        with errors_in_words(*named):
            odb = repo.cloud.get_remote_odb(named[0])
            with contextlib.suppress(FileNotFoundError), replacing(path) as temporary:
                odb.fs.get_file(odb.oid_to_path(md5), str(temporary))


def _is_whole(name: str, path: Path, say: Callable[[str], None]) -> bool:
    if not path.is_file():
        return False
    if digest(path, "md5") == name.removesuffix(".dir"):
        return True
    say(f"{path} does not hold what it is named for: it is damaged or was replaced; delete it, and ask again")
    return False


def _operate(operation: str, root: Path, say: Callable[[str], None] | None = None, **arguments: Any) -> Any:
    try:
        return operations.run(operation, root=root, watcher=Lines(say), **arguments)
    except OperationError as error:
        raise OperationError(f"dvc {operation} in {root}: {error}", error.kind) from None

"""DVC's cache and remote as a clone of the user's tree uses them: shared, added to, pushed, and asked back.

As in flows.repo.stages, work is done by `dvc` in a child process that ends with us.

Objects of DVC's by their md5: from its cache, else from the default remote, each held against its hash.

Knows no stage and no picture. What a stranger's file claims may ask for an object, and is never a path.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from atelier.errors import AtelierError, TransientError
from atelier.files import digest, write_bytes
from atelier.settings.load import read_yaml
from flows.repo import remote_errors, stages
from flows.runtime import work_tree
from flows.runtime.process import TICK_S, Child, is_dvc

HINTS = ("Having any troubles?", "<https://error.dvc.org", "Is your cache up to date?")


def share(user: Path, clone: Path) -> None:
    """Have `clone` use the cache and the remotes of the tree at `user`, with what that tree alone knows of them.

    Relative addresses are the user's, so they become absolute.
    """
    from dvc.config import Config

    theirs = Config(str(user / ".dvc"), validate=False)
    local = theirs.read("local")
    local["remote"] = theirs["remote"]
    local["cache"] |= {"dir": cache(user)}
    if "remote" in theirs["core"]:
        local["core"]["remote"] = theirs["core"]["remote"]
    path = clone / ".dvc/config.local"
    path.touch(mode=0o600)  # it may hold keys
    path.chmod(0o600)
    _write_config(path, local)


def _write_config(path: Path, settings: Mapping[str, Any]) -> None:
    """Write a file of DVC's settings in UTF-8; DVC itself writes ASCII only, and fails at a path with an umlaut."""
    from configobj import ConfigObj

    config = ConfigObj(encoding="utf-8", interpolation=False)
    for section, values in settings.items():
        named = {name: told for name, told in values.items() if isinstance(told, Mapping)}
        config.update({f'{section} "{name}"': _texts(told) for name, told in named.items()})
        if plain := {key: value for key, value in values.items() if key not in named}:
            config[section] = _texts(plain)
    with path.open("wb") as file:
        config.write(file)


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Paths, which DVC reads as types of its own, as texts."""
    return {key: str(value) if isinstance(value, str | Path) else value for key, value in values.items()}


def cache(root: Path) -> Path:
    """Where the cache of the tree at `root` is, which need not be there."""
    from dvc.config import Config

    return Path(Config(str(root / ".dvc"), validate=False)["cache"].get("dir") or root / ".dvc/cache")


def track(root: Path, path: Path) -> Path:
    """Put `path`, below `root`, into the cache; the .dvc file that stands for it."""
    _dvc(root, _unheard, "add", str(path))
    return path.with_name(f"{path.name}.dvc")


def push(root: Path, tracked: Sequence[Path], say: Callable[[str], None]) -> None:
    """Send all that `root` names, and what is known of how it was made, to the default remote.

    `tracked` are .dvc files that must be among it, whatever .gitignore makes DVC overlook.
    Raises TransientError where it fails, because the remote was within reach when the night began; AtelierError where
    the remote refuses to be written to.
    """
    try:
        _dvc(root, say, "push", "--run-cache")
        _dvc(root, _unheard, "push", *map(str, tracked))
    except AtelierError as error:
        if remote_errors.is_refusal(str(error)):
            raise
        raise TransientError(str(error)) from None


def bring(root: Path, tracked: Sequence[Path], say: Callable[[str], None]) -> None:
    """Put the files that .dvc files name into their places, from the cache, or else from the default remote, if any.

    The remote is not asked for what the cache has. What lies in a place and differs is replaced. Raises AtelierError
    where a file cannot be had, or where its place is a symbolic link or lies behind one.
    """
    present, absent = [], []
    for path in tracked:
        places = stages.outs(root, path)
        for place in places:
            check_place(root, place)
        (present if any(place.exists() for place in places) else absent).append(str(path))
    for names, flags in ((absent, []), (present, ["--force"])):
        if not names:
            continue
        try:
            _dvc(root, say, "checkout", *flags, *names)
        except AtelierError:
            if stages.remote(root) is None:
                raise
            _dvc(root, say, "pull", *flags, *names)


def check_place(root: Path, path: Path) -> None:
    """Raise AtelierError where writing to `path` would reach a file outside `root`: it is, or lies behind, a link."""
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
    """The first symbolic link on the way from `root` down to `path`, itself included; None where there is none."""
    steps = [path, *path.parents]
    below = steps[: steps.index(root)] if root in steps else steps
    return next((step for step in reversed(below) if step.is_symlink()), None)


def fetch(root: Path, tracked: Path) -> None:
    """Have in the cache what a .dvc file names, as far as the default remote has it."""
    _dvc(root, _unheard, "fetch", str(tracked))


def hold(root: Path, tracked: Path) -> None:
    """Put what lies in the place of a .dvc file back into the cache, which somebody may have emptied."""
    _dvc(root, _unheard, "commit", "--force", str(tracked))


def release(root: Path) -> None:
    """Drop the locks of a dvc that was killed in `root`, where none whom they name is at work there.

    DVC takes a dead process's lock for free, but in a container the next has the same number.
    """
    path = root / ".dvc/tmp/rwlock"
    if path.exists():
        holders = set(map(int, re.findall(r'"pid": (\d+)', path.read_text())))
        if not any(_is_in(root, pid) for pid in holders):
            path.unlink()


def mend(root: Path, say: Callable[[str], None]) -> None:
    """Repair what a dvc that was killed while writing has left in `root`: its list of locks, and dvc.lock.

    A half-written list of locks is deleted, because no dvc would read it. In place of a dvc.lock that cannot be read
    stands the copy that was made when the last stage began; what that does not name comes from the run cache. The
    damaged file is kept as `.atelier/dvc.lock.damaged`. Nothing is done while another dvc is at work in `root`, which
    may be writing, and to a file with git's conflict marks.
    """
    locks, lock_file = root / ".dvc/tmp/rwlock", root / stages.LOCK_FILE
    locks_damaged, lock_file_damaged = not _is_json(locks), not _is_lock_file(lock_file)
    if not (locks_damaged or lock_file_damaged) or _another_dvc(root):
        return
    if locks_damaged:
        locks.unlink(missing_ok=True)
    copy = root / stages.LOCK_FILE_COPY
    if lock_file_damaged and copy.is_file() and _is_lock_file(copy):
        content = lock_file.read_bytes()
        if any(line.startswith(b"<<<<<<< ") for line in content.splitlines()):
            return
        write_bytes(copy.with_name("dvc.lock.damaged"), content)
        write_bytes(lock_file, copy.read_bytes())
        say(
            f"{stages.LOCK_FILE} was half written by a dvc that was killed: it is again what it was before that stage"
        )


def _is_json(path: Path) -> bool:
    """Whether the file can be read as JSON, or there is none."""
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


def _is_lock_file(path: Path) -> bool:
    """Whether DVC can read this dvc.lock, or there is none."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(read_yaml(path))
    except FileNotFoundError:
        return True
    except (AtelierError, Invalid):
        return False
    return True


def _another_dvc(root: Path) -> bool:
    """Whether another dvc is at work in `root`."""
    others = (pid for pid in psutil.pids() if pid != os.getpid())
    return any(is_dvc(pid) and _is_in(root.resolve(), pid) for pid in others)


def _is_in(root: Path, pid: int) -> bool:
    """Whether `root` is the process's working directory. Another user's is hidden; a dvc of theirs counts as there."""
    try:
        return Path(psutil.Process(pid).cwd()) == root
    except psutil.AccessDenied:
        return is_dvc(pid)
    except psutil.Error:
        return False


def _unheard(line: str) -> None:
    """What dvc prints of a success; not `--quiet`, which would hide why it failed as well."""


def _dvc(root: Path, say: Callable[[str], None], *words: str) -> None:
    """Run dvc; raises AtelierError with its own sentence where it fails."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *words]
    lines: list[str] = []
    with Child(command, work_tree.environment(), root) as child:
        for line in child.lines(TICK_S):
            if line and line.strip():
                lines.append(line)
                say(line)
        status = child.wait()
    if status:
        first = next((number for number, line in enumerate(lines) if line.startswith("ERROR: ")), -1)
        told = [line.removeprefix("ERROR: ").strip() for line in lines[first:] if not line.startswith(HINTS)]
        said = "; ".join(told) or f"it ended with {status}"
        raise AtelierError(f"dvc {words[0]} in {root}: {said}")


NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")  # of a file, or of the list of a folder's files

MAX_LIST = 64 << 20  # bytes of a folder's list: some half a million files

SCRATCH = Path(".atelier/objects")  # a DVC repository that names what is wanted, and nothing else

LISTS = SCRATCH / "lists"


def fetch_objects(
    names: Collection[str], say: Callable[[str], None], root: Path | None = None
) -> dict[str, Path]:
    """Where the objects lie that could be had in the studio at `root`, else here; `say` hears why one could not.

    A name is an md5, or one with `.dir`: the list of a folder's files, which the remote gives together with them.
    """
    if odd := [name for name in names if not NAME.fullmatch(name)]:
        raise ValueError(f"{odd[0]!r} is no md5")
    root = (root or Path()).resolve()
    if not (root / ".dvc").is_dir():
        say(f"{root} is no DVC repository, so it has neither a cache nor a remote: `dvc init` makes it one")
        return {}
    held = cache(root)
    there = {name: place(held, name) for name in dict.fromkeys(names)}
    if absent := [name for name, path in there.items() if not path.is_file()]:
        try:
            _fetch(root, held, absent, say)
        except AtelierError as error:
            say(str(error))
        except OSError as error:  # of a tree that may not be written, say
            say(f"nothing can be asked of the remote: {error.strerror}: {error.filename}")
    return {name: path for name, path in there.items() if _is_whole(name, path, say)}


def bring_list(name: str, say: Callable[[str], None], root: Path) -> Path | None:
    """Where the list of a folder's files lies, without the files themselves; None where it could not be had.

    It is kept outside of DVC's cache, where a list stands for a folder whose files are all there.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no md5")
    cached = place(cache(root), name)
    if cached.is_file():
        return cached if _is_whole(name, cached, say) else None
    kept = root / LISTS / name
    if not kept.is_file():
        try:
            stages.download([name], kept.parent, root)
        except (AtelierError, OSError) as error:
            say(str(error))
    return kept if _is_whole(name, kept, say) else None


def place(cache: Path, name: str) -> Path:
    """Where an object lies in a cache of DVC's, if it does."""
    return cache / "files/md5" / name[:2] / name[2:]


def listed(path: Path) -> list[tuple[str, str]] | None:
    """Names and md5s of the files of a folder, by the object that lists them; None where it is no such list."""
    try:
        if path.stat().st_size > MAX_LIST:
            return None
        pairs = [(entry["relpath"], entry["md5"]) for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    fits = all(isinstance(name, str) and isinstance(md5, str) and NAME.fullmatch(md5) for name, md5 in pairs)
    return pairs if fits else None


def _fetch(root: Path, cache: Path, names: Collection[str], say: Callable[[str], None]) -> None:
    """From the default remote into the cache. Raises AtelierError where the remote is out of reach."""
    scratch = root / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    with FileLock(scratch / ".lock"):
        write_bytes(scratch / ".dvc/config", b"[core]\n    no_scm = True\n")
        share(root, scratch)
        release(scratch)
        if (address := stages.remote(scratch)) is None:
            say(
                "no default remote of DVC's is set, so there is its cache alone: `dvc remote add -d` names one"
            )
            return
        wanted = "".join(f"- md5: '{name}'\n  hash: md5\n  path: '{name}'\n" for name in names)
        write_bytes(scratch / "wanted.dvc", f"outs:\n{wanted}".encode())
        fetch(scratch, Path("wanted.dvc"))
    if lacking := [name for name in names if not place(cache, name).is_file()]:
        more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        say(f"neither DVC's cache nor its remote, {address}, has {lacking[0]}{more}")


def _is_whole(name: str, path: Path, say: Callable[[str], None]) -> bool:
    if not path.is_file():
        return False
    if digest(path, "md5") == name.removesuffix(".dir"):
        return True
    say(f"{path} does not hold what it is named for: it is damaged or was replaced; delete it, and ask again")
    return False

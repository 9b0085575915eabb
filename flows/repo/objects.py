"""Objects of DVC's by their md5: from its cache, else from the default remote, each held against its hash.

Knows no stage and no picture. What a stranger's file claims may ask for an object, and is never a path.
"""

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path

from filelock import FileLock

from atelier.errors import AtelierError
from atelier.files import digest, write_bytes
from flows.repo import stages, storage

NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")  # of a file, or of the list of a folder's files
MAX_LIST = 64 << 20  # bytes of a folder's list: some half a million files
SCRATCH = Path(".atelier/objects")  # a DVC repository that names what is wanted, and nothing else
LISTS = SCRATCH / "lists"


def bring(names: Collection[str], say: Callable[[str], None], root: Path | None = None) -> dict[str, Path]:
    """Where the objects lie that could be had in the studio at `root`, else here; `say` hears why one could not.

    A name is an md5, or one with `.dir`: the list of a folder's files, which the remote gives together with them.
    """
    if odd := [name for name in names if not NAME.fullmatch(name)]:
        raise ValueError(f"{odd[0]!r} is no md5")
    root = (root or Path()).resolve()
    if not (root / ".dvc").is_dir():
        say(f"{root} is no DVC repository, so it has neither a cache nor a remote: `dvc init` makes it one")
        return {}
    cache = storage.cache(root)
    there = {name: place(cache, name) for name in dict.fromkeys(names)}
    if absent := [name for name, path in there.items() if not path.is_file()]:
        try:
            _fetch(root, cache, absent, say)
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
    cached = place(storage.cache(root), name)
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
        storage.share(root, scratch)
        storage.release(scratch)
        if (address := stages.remote(scratch)) is None:
            say(
                "no default remote of DVC's is set, so there is its cache alone: `dvc remote add -d` names one"
            )
            return
        wanted = "".join(f"- md5: '{name}'\n  hash: md5\n  path: '{name}'\n" for name in names)
        write_bytes(scratch / "wanted.dvc", f"outs:\n{wanted}".encode())
        storage.fetch(scratch, Path("wanted.dvc"))
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

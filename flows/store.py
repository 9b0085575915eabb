"""DVC's cache and remote as a clone of the user's tree uses them: shared, added to, pushed, and asked back.

As in flows.dvc, work is done by `dvc` in a child process that ends with us.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from atelier.errors import AtelierError, PassingError
from flows import tree
from flows.dvc import TICK_S
from flows.processes import Child

HINTS = ("Having any troubles?", "<https://error.dvc.org", "Is your cache up to date?")


def share(user: Path, clone: Path) -> None:
    """Have `clone` use the cache and the remotes of the tree at `user`, with what that tree alone knows of them.

    Relative addresses are the user's, so they become absolute.
    """
    from dvc.config import Config

    theirs = Config(str(user / ".dvc"), validate=False)
    local = theirs.read("local")
    local["remote"] = {
        name: {key: str(value) for key, value in settings.items()}
        for name, settings in theirs["remote"].items()
    }
    local["cache"] |= {"dir": str(cache(user))}
    if "remote" in theirs["core"]:
        local["core"]["remote"] = theirs["core"]["remote"]
    path = clone / ".dvc/config.local"
    path.touch(mode=0o600)  # it may hold keys
    path.chmod(0o600)
    with Config(str(clone / ".dvc"), validate=False).edit("local", validate=False) as ours:
        ours.clear()
        ours.update(local)


def cache(root: Path) -> Path:
    """Where the cache of the tree at `root` is, which need not be there."""
    from dvc.config import Config

    return Path(Config(str(root / ".dvc"), validate=False)["cache"].get("dir") or root / ".dvc/cache")


def track(root: Path, path: Path, say: Callable[[str], None]) -> Path:
    """Put `path`, below `root`, into the cache; the .dvc file that stands for it."""
    _dvc(root, say, "add", "--quiet", str(path))
    return path.with_name(f"{path.name}.dvc")


def push(root: Path, tracked: Sequence[Path], say: Callable[[str], None]) -> None:
    """Send all that `root` names, and what is known of how it was made, to the default remote.

    `tracked` are .dvc files that must be among it, whatever .gitignore makes DVC overlook.
    Raises PassingError where it fails: the remote was within reach when the night began.
    """
    try:
        _dvc(root, say, "push", "--run-cache")
        _dvc(root, say, "push", "--quiet", *map(str, tracked))
    except AtelierError as error:
        raise PassingError(str(error)) from None


def bring(root: Path, tracked: Sequence[Path], say: Callable[[str], None], *, remote: bool) -> None:
    """Put what .dvc files name into its place, from the cache or, where there is one, the remote."""
    names = [str(path) for path in tracked]
    try:
        _dvc(root, say, "checkout", "--force", *names)
    except AtelierError:
        if not remote:
            raise
        _dvc(root, say, "pull", "--force", *names)


def fetch(root: Path, tracked: Path) -> None:
    """Have in the cache what a .dvc file names, as far as the default remote has it."""
    _dvc(root, lambda _: None, "fetch", str(tracked))


def hold(root: Path, tracked: Path, say: Callable[[str], None]) -> None:
    """Put what lies in the place of a .dvc file back into the cache, which somebody may have emptied."""
    _dvc(root, say, "commit", "--quiet", "--force", str(tracked))


def release(root: Path) -> None:
    """Drop the locks of a dvc that was killed in `root`, where none whom they name is at work there.

    DVC takes a dead process's lock for free, but in a container the next has the same number.
    """
    path = root / ".dvc/tmp/rwlock"
    if Path("/proc/self/cwd").exists() and path.exists():
        holders = set(re.findall(r'"pid": (\d+)', path.read_text()))
        if not any(_is_in(root, pid) for pid in holders):
            path.unlink()


def mend(root: Path) -> None:
    """Drop the list of locks that a dvc left half written when it was killed, which no other dvc would read.

    While another is at work in `root` it stays: that one may be writing.
    """
    path = root / ".dvc/tmp/rwlock"
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        return
    except ValueError:
        others = (found.name for found in Path("/proc").glob("[0-9]*") if found.name != str(os.getpid()))
        if not any(_is_in(root.resolve(), pid) and _is_dvc(pid) for pid in others):
            path.unlink(missing_ok=True)


def _is_dvc(pid: str) -> bool:
    try:
        return b"dvc" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone
        return False


def _is_in(root: Path, pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == root
    except OSError:  # gone, or somebody else's
        return False


def _dvc(root: Path, say: Callable[[str], None], *words: str) -> None:
    """Run dvc; raises AtelierError with its own sentence where it fails."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *words]
    lines: list[str] = []
    with Child(command, tree.environment(), root) as child:
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

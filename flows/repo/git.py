"""Run git in a given directory, with its message as an error where it fails; the user's name and e-mail for commits."""

import re
import shlex
import subprocess
from pathlib import Path

from atelier.errors import AtelierError
from flows.runtime import work_tree

NO_HOOKS = ("-c", "core.hooksPath=/dev/null")  # hooks are for commits of a person, not for those of a flow

SET_IDENTITY = (
    "`git config --global user.name You` and `git config --global user.email you@example.org`; for containers, which "
    "forget that, the same without --global in the studio: its .git/config keeps it"
)


class OwnerError(AtelierError):
    """The repository belongs to another user, and git refuses to read it."""


def git(root: Path, *words: str, given: str | None = None) -> str:
    """Run git in `root` and return its output without the last newline; `given` is its input.

    Raises AtelierError with git's message where it fails. git never prompts for a password.
    """
    return git_bytes(root, *words, given=given).decode(errors="replace").removesuffix("\n")


def git_bytes(root: Path, *words: str, given: str | None = None) -> bytes:
    """Run git as `git` does and return its output as bytes."""
    command = ["git", *NO_HOOKS, "-C", str(root), *words]
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LANGUAGE": "C"}
    environment = work_tree.environment() | quiet
    try:
        done = subprocess.run(command, env=environment, capture_output=True, input=(given or "").encode())
    except FileNotFoundError:
        raise AtelierError("git is not installed: install it, for example with `apt install git`") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"it ended with {done.returncode}"
        if owned := re.search(r"dubious ownership in repository at '(.+)'", said):
            raise OwnerError(
                f"{owned[1]} belongs to another user, so git reads nothing of it: where you trust its hooks and "
                f"settings, `git config --global --add safe.directory {shlex.quote(owned[1])}`"
            )
        raise AtelierError(f"git {words[0]} in {root}: {said}")
    return done.stdout


def holds(root: Path, *words: str) -> bool:
    """Whether a git command succeeds. Raises OwnerError."""
    try:
        git(root, *words)
    except OwnerError:
        raise
    except AtelierError:
        return False
    return True


def identity(root: Path) -> tuple[str, str]:
    """Return the name and e-mail for commits in `root`. Raises AtelierError where git has none."""
    try:
        answer = git(root, "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    except AtelierError:
        raise AtelierError(
            f"git has no name and e-mail address for commits in {root}, and a promotion is one: {SET_IDENTITY}"
        ) from None
    match = re.fullmatch(r"(.*) <(.*)> \d+ [+-]\d+", answer)
    assert match, answer
    return match[1], match[2]

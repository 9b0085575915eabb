"""`atelier doctor`: check the machine and the studio, and print each finding with its fix. Changes nothing."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from atelier.download import arrivals
from atelier.errors import AtelierError, Finding, counted, format_size
from atelier.files import size_bytes
from atelier.paths import ARRIVALS, DATA, HOME, PARAMS, STATE
from flows.repo import stages, storage
from flows.repo.git import SET_IDENTITY, OwnerError, git, holds, identity
from flows.runtime import work_tree
from tasks.stage import FINISHED

MARKS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "wrong": "[red]wrong  [/]"}
OLDEST_GIT = (2, 30)
MACHINE_TIMEOUT_S = 180  # loading torch and waking a GPU may be slow


def main() -> int:
    """Print all findings, each as soon as it is known. Returns the exit code: 1 if anything is wrong."""
    console = Console(soft_wrap=True, highlight=False)
    wrong = False
    for finding in _findings():
        wrong |= finding.state == "wrong"
        console.print(f"{MARKS[finding.state]} {escape(finding.what)}: {escape(finding.message)}")
        if finding.fix and finding.state != "ok":
            console.print(f"        to mend it: {escape(finding.fix)}")
    return int(wrong)


def _findings() -> Iterator[Finding]:
    yield from _machine()
    yield from _user()
    yield from _git()
    yield _stages()
    yield _remote()
    yield _prefect()
    yield from _downloaded()
    yield from resumable_states(Path.cwd())


def _machine() -> Iterator[Finding]:
    """The findings of atelier.doctor, from a child process, because a broken GPU driver may kill it."""
    command, pipe = [sys.executable, "-m", "atelier.doctor"], subprocess.PIPE
    process = subprocess.Popen(command, env=work_tree.environment(), stdout=pipe, stderr=pipe, text=True)
    try:
        out, err = process.communicate(timeout=MACHINE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += f"\nno answer within {MACHINE_TIMEOUT_S} s"
    for line in out.splitlines():
        yield Finding(**json.loads(line))
    if process.returncode:
        reason = (err.strip().splitlines() or [f"ended with status {process.returncode}"])[-1]
        yield Finding("machine", "wrong", reason, "run `python -m atelier.doctor` to see it happen; `make setup`")


def _user() -> Iterator[Finding]:
    """Files that this user may not write, and a user without a name, as in a container started with a numeric uid."""
    home = str(Path.cwd() / HOME)
    if os.environ.get("HOME") == home:
        fix = f"`mkdir -p {home} && export HOME={home}`, or start the container with another HOME"
        message = "this user has no name and no HOME: `atelier` goes on with .atelier/home, `dvc` typed by hand fails"
        yield Finding("user", "warning", message, fix)
    places = [Path(name) for name in (".", STATE, ".dvc", ".dvc/cache", ".git", DATA, PARAMS)]
    kept = sorted(STATE.glob("*/")) if os.access(STATE, os.R_OK) else []
    locked = [str(path) for path in (*places, *kept) if path.exists() and not os.access(path, os.W_OK)]
    if locked:
        message = f"{', '.join(locked)} may not be written by this user (uid {os.getuid()})"
        fix = f"`sudo chown -R {os.getuid()} {Path.cwd()}`, or work in a clone of your own: `git clone {Path.cwd()}`"
        yield Finding("permissions", "wrong", message, fix)


def _git() -> Iterator[Finding]:
    here = Path.cwd()
    try:
        has_commit = holds(here, "rev-parse", "HEAD")
    except OwnerError as error:
        yield Finding("git", "wrong", *str(error).rsplit(": ", 1))
        return
    if not has_commit:
        fix = "`git init && git add . && git commit -m 'My studio'`"
        yield Finding("git", "wrong", "this directory has no commit that DVC could refer to", fix)
        return
    try:
        name, email = identity(here)
    except AtelierError:
        yield Finding("git", "warning", "has no name and e-mail for commits, which the nightly makes", SET_IDENTITY)
    else:
        yield Finding("git", "ok", f"commits are {name}'s, {email}")
    version = git(here, "--version")
    if (match := re.search(r"(\d+)\.(\d+)", version)) and (int(match[1]), int(match[2])) < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        yield Finding("git", "warning", f"{version}; Atelier is made for {oldest} and newer", "update git")


def _stages() -> Finding:
    try:
        return Finding("dvc.yaml", "ok", f"{stages.check()} stages, and dvc.lock, can be read")
    except AtelierError as error:
        return Finding("dvc.yaml", "wrong", str(error), "edit the file that it names")


def _remote() -> Finding:
    try:
        remote = storage.remote()
    except AtelierError as error:
        return Finding("DVC remote", "wrong", str(error), "`dvc remote list` shows its address; see .dvc/config")
    if remote is None and _config_was_emptied():
        message = ".dvc/config is empty, and the last commit's is not: `dvc remote add` empties it at an umlaut"
        fix = "`git checkout .dvc/config`, then write the remote's address into that file with an editor"
        return Finding("DVC remote", "wrong", message, fix)
    if remote is None:
        message = "none is set: data and models are on this machine only"
        fix = "`dvc remote add -d store /a/folder/elsewhere`, or s3://…, then `dvc push`"
        return Finding("DVC remote", "warning", message, fix)
    return Finding("DVC remote", "ok", f"{remote} can be reached")


def _downloaded() -> Iterator[Finding]:
    """The size of the downloaded pictures that .atelier/images keeps between runs."""
    try:
        kept = arrivals.usage(ARRIVALS, arrivals.recent_since(ARRIVALS, arrivals.RECENT_DAYS))
    except sqlite3.Error as error:
        yield Finding("downloads", "warning", f"{ARRIVALS}: {error}", "make it readable and writable")
        return
    if kept:
        message = f"{format_size(sum(file.bytes for file in kept)) or '0 B'} in {ARRIVALS}"
        if unnamed := sum(file.unused_bytes for file in kept):
            message += f", {format_size(unnamed)} of it in no recent catalog: `atelier clean` lists it"
        yield Finding("downloads", "ok", message)


def resumable_states(root: Path) -> Iterator[Finding]:
    """Yield the number and size of the states from which trainings resume, in the studio and in its clones."""
    for tree in (root, root.with_name(f"{root.name}.nightly"), root.with_name(f"{root.name}.explore")):
        for place in (tree / STATE / "train", tree / STATE / "train_upscaler"):
            if kept := [path for path in place.glob("*") if path.is_dir()]:
                stopped = sum(not (path / FINISHED).exists() for path in kept)
                where = place.relative_to(root) if tree == root else place
                message = (
                    f"{counted(len(kept), 'training')} in {where}, {format_size(sum(map(size_bytes, kept))) or '0 B'}, "
                    f"{stopped:,} not finished; to remove them costs time, never a result"
                )
                yield Finding("resumable states", "ok", message)


def _config_was_emptied() -> bool:
    config = Path(".dvc/config")
    if not config.is_file() or config.stat().st_size:
        return False
    with suppress(AtelierError):  # no git, or no such file in the commit
        return bool(git(Path.cwd(), "show", "HEAD:./.dvc/config"))
    return False


def _prefect() -> Finding:
    with tempfile.TemporaryDirectory() as nowhere:
        if not Path(".prefect").exists():  # importing prefect would make it
            os.environ.setdefault("PREFECT_HOME", nowhere)
        try:
            from flows.orchestration import server
        except AtelierError as error:  # settings that Prefect cannot read
            return Finding("Prefect", "wrong", str(error))
        none = "no server is set, and none runs for this studio: each flow starts one of its own"
        return server.look() or Finding("Prefect", "ok", none)
